"""One streamed answer as it builds up: which events are tokens, what the server counted, how it ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from qtop.probe.sse import SseEvent
from qtop.probe.timing import Usage

DONE = "[DONE]"


class Delta(NamedTuple):
    """A piece of text, stamped with the monotonic second of the read that brought it."""

    t: float
    text: str
    reasoning: bool


class Answer:
    """Collects the events of one answer of ``/v1/chat/completions`` or ``/v1/completions``."""

    def __init__(self) -> None:
        self.events: list[float] = []
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
        self.text_chars = 0

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.t_done is not None or self.finish_reason is not None

    def take(self, events: Sequence[SseEvent], t: float) -> list[Delta]:
        """The text in events that were read at monotonic second ``t``."""
        deltas: list[Delta] = []
        for event in events:
            if self.t_done is not None or self.error is not None:
                break
            if event.data.strip() == DONE:
                self.t_done = t
                break
            try:
                chunk = msgspec.json.decode(event.data)
            except msgspec.DecodeError:
                self.garbled = True
                continue
            if isinstance(chunk, dict):
                self._chunk(chunk, event.event, t, deltas)
        return deltas

    def _chunk(self, chunk: dict[str, Any], event: str, t: float, deltas: list[Delta]) -> None:
        if chunk.get("error") or event == "error" or chunk.get("object") == "error":
            self.error = chunk.get("error") or chunk
            return
        usage = chunk.get("usage")
        if isinstance(usage, dict):  # with continuous usage the last one counts
            self.usage = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        choice = choices[0]
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        inner = choice.get("delta")
        delta = inner if isinstance(inner, dict) else {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        said = delta.get("content") if "content" in delta else choice.get("text")
        found = False
        for text, reasoning in ((thought, True), (said, False)):
            if isinstance(text, str) and text:
                found = True
                deltas.append(Delta(t, text, reasoning))
                self.text_chars += len(text)
                if not reasoning and self.t_first_output is None:
                    self.t_first_output = t
        if found:  # one event, even where it carries both
            self.events.append(t)
        elif said == "" and not delta.get("role") and not reason:
            self.silent.append(t)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
