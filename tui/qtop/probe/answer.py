"""One streamed answer as it builds up: which events are tokens, what the server counted, how it ended. Pure.

The OpenAI protocol; TGI's own (``token``, ``details``); and that of vLLM's retired demo server, whose events hold the
prompt and all of the answer so far (``text`` is a list). An event says by its keys which it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from qtop.probe.sse import DOCUMENT, SseEvent
from qtop.probe.timing import ServerTimes, Usage

DONE = "[DONE]"
MOST_TOKENS = 10_000_000
"""Of one request: a server that counts more counts nonsense."""
_REASON = re.compile(r"[A-Za-z_]{1,32}")


class Delta(NamedTuple):
    """A piece of text, stamped with the monotonic second of the read that brought it."""

    t: float
    text: str
    reasoning: bool


class Answer:
    """Collects the events of one answer; ``prompt`` is what a server may repeat at the head of it."""

    def __init__(self, prompt: str = "") -> None:
        self._prompt = prompt
        self._so_far: str | None = None
        self.events: list[float] = []
        self.merged: set[float] = set()
        """Stamps of reads in which several events were found although they came one after the other."""
        self.silent: list[float] = []
        self.t_first_output: float | None = None
        self.t_done: float | None = None
        """When ``[DONE]`` was read."""
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.error: Any = None
        """An error object in the stream, as the server sent it."""
        self.garbled = False
        """An event was not JSON: not this protocol, or cut."""
        self.document = False
        """The answer was one JSON object and no stream."""
        self.text_chars = 0
        self.server: ServerTimes | None = None
        """What the server says of this request's times."""

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.t_done is not None or self.finish_reason is not None

    def take(self, events: Sequence[SseEvent], t: float, late: bool = False) -> list[Delta]:
        """The text in events that were read at monotonic second ``t``; ``late``: they may have come one after the other
        before they were read, so that the stamp is true of the last of them only."""
        deltas: list[Delta] = []
        begun = len(self.events)
        for event in events:
            if self.t_done is not None or self.error is not None:
                break
            if event.data.strip() == DONE:
                self.t_done = t
                break
            try:
                chunk = msgspec.json.decode(event.data)
            except (msgspec.DecodeError, RecursionError):
                self.garbled = True
                continue
            self.document = self.document or event.event == DOCUMENT
            if isinstance(chunk, dict):
                self._chunk(chunk, event.event, t, deltas)
        if late and len(self.events) - begun > 1:
            self.merged.add(t)
        return deltas

    def _chunk(self, chunk: dict[str, Any], event: str, t: float, deltas: list[Delta]) -> None:
        if chunk.get("error") or event == "error" or chunk.get("object") == "error":
            self.error = chunk.get("error") or chunk
            return
        usage = chunk.get("usage")
        if isinstance(usage, dict):  # with continuous usage the last one counts
            self.usage = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        metrics = chunk.get("metrics")
        if isinstance(metrics, dict):
            self.server = ServerTimes.of(metrics)
        choices = chunk.get("choices")
        if isinstance(choices, list):
            if choices and isinstance(choices[0], dict):
                self._choice(choices[0], t, deltas)
        elif isinstance(chunk.get("token"), dict):
            self._tgi(chunk, t, deltas)
        elif isinstance(chunk.get("text"), list):
            self._cumulative(chunk["text"], t, deltas)

    def _choice(self, choice: dict[str, Any], t: float, deltas: list[Delta]) -> None:
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = _reason(reason)
        inner = choice.get("delta", choice.get("message"))
        delta = inner if isinstance(inner, dict) else {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        said = delta.get("content") if "content" in delta else choice.get("text")
        found = False
        for text, reasoning in ((thought, True), (said, False)):
            if isinstance(text, str) and text:
                found = True
                self._say(text, reasoning, t, deltas)
        if found:  # one event, even where it carries both
            self.events.append(t)
        elif said == "" and not delta.get("role") and not reason:
            self.silent.append(t)

    def _tgi(self, chunk: dict[str, Any], t: float, deltas: list[Delta]) -> None:
        token = chunk["token"]
        text = token.get("text")
        if isinstance(text, str) and text and not token.get("special"):
            self._say(text, False, t, deltas)
            self.events.append(t)
        elif text == "":
            self.silent.append(t)
        details = chunk.get("details")
        if isinstance(details, dict):
            self.usage = Usage(_count(details.get("input_length")), _count(details.get("generated_tokens")))
            reason = details.get("finish_reason")
            if isinstance(reason, str) and reason:
                self.finish_reason = _reason(reason)
        if isinstance(chunk.get("generated_text"), str):
            self.finish_reason = self.finish_reason or "stop"

    def _cumulative(self, texts: list[Any], t: float, deltas: list[Delta]) -> None:
        whole = texts[0] if texts and isinstance(texts[0], str) else ""
        if self._so_far is None:
            self._so_far = self._prompt if whole.startswith(self._prompt) else ""
        if not whole.startswith(self._so_far):
            self.garbled = True
            return
        text, self._so_far = whole[len(self._so_far) :], whole
        if text:
            self._say(text, False, t, deltas)
            self.events.append(t)

    def _say(self, text: str, reasoning: bool, t: float, deltas: list[Delta]) -> None:
        deltas.append(Delta(t, text, reasoning))
        self.text_chars += len(text)
        if not reasoning and self.t_first_output is None:
            self.t_first_output = t


def _reason(said: str) -> str:
    """A reason as servers give them; anything else may be what they were sent, and is not repeated."""
    return said if _REASON.fullmatch(said) else "other"


def _count(value: Any) -> int | None:
    fit = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if fit else None
