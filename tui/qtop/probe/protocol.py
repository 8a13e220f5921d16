"""The ways in which servers take a prompt and stream the answer: where to send it, what to send, how the answer is cut.

- chat, completions: the OpenAI protocol (vLLM, SGLang, llama.cpp, TGI, Ollama and more)
- generate_stream: TGI's own (https://huggingface.co/docs/text-generation-inference, route ``/generate_stream``)
- generate: vLLM's retired demo server ``vllm.entrypoints.api_server``, up to 0.24: JSON objects behind NUL bytes or, in
  later versions, on lines of their own, each with the prompt and all of the answer so far
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from qtop.errors import QtopError
from qtop.probe.messages import ProbeRequest
from qtop.probe.sse import MAX_PENDING, AnswerFramer, SseEvent, SseParser

Api = Literal["chat", "completions", "generate_stream", "generate", "own"]


class Framer(Protocol):
    """Cuts a stream of bytes into events."""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that these bytes complete. Raises QtopError where one event is too large to be one."""

    def end(self) -> list[SseEvent]:
        """What is left over at the end."""


class JsonFramer:
    """JSON objects that end in a NUL byte or a line break."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The objects that these bytes complete."""
        *whole, self._rest = (self._rest + chunk).replace(b"\0", b"\n").split(b"\n")
        if len(self._rest) > MAX_PENDING:
            raise QtopError(f"one event of the stream is larger than {MAX_PENDING // 2**20} MiB")
        return [_event(piece) for piece in whole if piece.strip()]

    def end(self) -> list[SseEvent]:
        """An object that the end of the stream ends."""
        rest, self._rest = self._rest, b""
        return [_event(rest)] if rest.strip() else []


def _event(piece: bytes) -> SseEvent:
    return SseEvent(piece.decode("utf-8", errors="replace"))


@dataclass(frozen=True)
class Wanted:
    """What of the optional parts is still asked for: servers refuse them, each in its own way."""

    usage: bool = True
    ignore_eos: bool = False


@dataclass(frozen=True)
class Dialect:
    """One way of asking."""

    api: Api
    path: str
    body: Callable[[ProbeRequest, str, Wanted], dict[str, Any]]
    framer: Callable[[], Framer] = AnswerFramer
    ends_with_stream: bool = False
    """The end of the body is the only sign that the answer is whole."""
    counts: bool = True
    """It can be asked for token counts."""


def _chat(request: ProbeRequest, prompt: str, wanted: Wanted) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], **_openai(request, wanted)}


def _completions(request: ProbeRequest, prompt: str, wanted: Wanted) -> dict[str, Any]:
    return {"prompt": prompt, **_openai(request, wanted)}


def _openai(request: ProbeRequest, wanted: Wanted) -> dict[str, Any]:
    body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "stream": True}
    body["temperature"] = request.temperature
    if wanted.usage:
        body["stream_options"] = {"include_usage": True}
    if wanted.ignore_eos:
        body["ignore_eos"] = True
    return body


def _generate_stream(request: ProbeRequest, prompt: str, wanted: Wanted) -> dict[str, Any]:
    parameters: dict[str, Any] = {"max_new_tokens": request.max_tokens, "details": True}
    if request.temperature > 0:  # TGI takes no 0: without one it is greedy
        parameters |= {"temperature": request.temperature, "do_sample": True}
    return {"inputs": prompt, "parameters": parameters}


def _generate(request: ProbeRequest, prompt: str, wanted: Wanted) -> dict[str, Any]:
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": request.max_tokens, "stream": True}
    body["temperature"] = request.temperature
    if wanted.ignore_eos:
        body["ignore_eos"] = True
    return body


DIALECTS = (
    Dialect("chat", "/v1/chat/completions", _chat),
    Dialect("completions", "/v1/completions", _completions),
    Dialect("generate_stream", "/generate_stream", _generate_stream, SseParser, counts=False),
    Dialect("generate", "/generate", _generate, JsonFramer, ends_with_stream=True, counts=False),
)
"""In the order in which they are tried."""


def dialects(request: ProbeRequest) -> tuple[Dialect, ...]:
    """The ways to send this request: a body of the user's goes as it is, and nothing else is tried."""
    if request.body:
        body = msgspec.json.decode(request.body)
        return (Dialect("own", request.path, lambda *_: dict(body), ends_with_stream=True, counts=False),)
    return tuple(one for one in DIALECTS if request.api in ("auto", one.api))
