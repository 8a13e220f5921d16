"""A small OpenAI-like server that streams, and misbehaves on request: the first part of the path names the manner.

``http://127.0.0.1:PORT/cut`` is the base address of a server that cuts its streams, and so on; see ``_MANNERS``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

TOKENS = ("The", " sky", " is", " red", " at", " dusk")
GAP_S = 0.005


@dataclass
class Seen:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def chat(self) -> bool:
        return self.path.endswith("/chat/completions")


@dataclass
class Wire:
    """One answer being written."""

    seen: Seen
    writer: asyncio.StreamWriter
    open: bool = field(default=False)

    async def refuse(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()

    async def begin(self) -> None:
        self.open = True
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if self.seen.chat:
            await self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})

    async def raw(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def event(self, value: Any) -> None:
        await self.raw(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())

    async def token(self, text: str, key: str = "content") -> None:
        piece = {"delta": {key: text}} if self.seen.chat else {"text": text}
        await self.event({"choices": [{"index": 0, **piece, "finish_reason": None}]})
        await asyncio.sleep(GAP_S)

    async def finish(self, tokens: int, reason: str = "length") -> None:
        last: dict[str, Any] = {"delta": {}} if self.seen.chat else {"text": ""}
        await self.event({"choices": [{"index": 0, **last, "finish_reason": reason}]})
        if (self.seen.body.get("stream_options") or {}).get("include_usage"):
            await self.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}})
        await self.event("[DONE]")

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def whole(self) -> None:
        await self.begin()
        for text in TOKENS:
            await self.token(text)
        await self.finish(len(TOKENS))
        await self.end()


async def _forever(wire: Wire) -> None:
    await wire.begin()
    while True:
        await wire.token(" on")


async def _stall(wire: Wire) -> None:
    await wire.begin()
    await wire.token("The")
    await asyncio.sleep(3600)


async def _pings(wire: Wire) -> None:
    await wire.begin()
    await wire.token("The")
    while True:
        await wire.raw(b": still here\n\n")
        await asyncio.sleep(0.02)


async def _mute(wire: Wire) -> None:
    await asyncio.sleep(3600)


async def _cut(wire: Wire) -> None:
    await wire.begin()
    await wire.token("The")
    await wire.token(" sky")
    wire.writer.close()


async def _early(wire: Wire) -> None:
    await wire.begin()
    await wire.token("The")
    await wire.end()


async def _error(wire: Wire) -> None:
    await wire.begin()
    await wire.token("The")
    await wire.event({"error": {"message": "EngineCore died\x1b[2J\nsee the log", "code": 500}})
    await wire.end()


async def _no_chat(wire: Wire) -> None:
    if wire.seen.chat:
        await wire.refuse(404, {"detail": "Not Found"})
    else:
        await wire.whole()


async def _no_template(wire: Wire) -> None:
    if wire.seen.chat:
        await wire.refuse(400, {"error": {"message": "you must provide a chat template", "code": 400}})
    else:
        await wire.whole()


async def _no_model(wire: Wire) -> None:
    await wire.refuse(404, {"error": {"message": "The model `m` does not exist.", "code": 404}})


async def _nothing(wire: Wire) -> None:
    await wire.refuse(404, {"detail": "Not Found"})


async def _strict(wire: Wire) -> None:
    if "stream_options" in wire.seen.body:
        await wire.refuse(400, {"error": {"message": "Unrecognized request argument: stream_options"}})
    else:
        await wire.whole()


async def _no_ignore(wire: Wire) -> None:
    if "ignore_eos" in wire.seen.body:
        await wire.refuse(400, {"error": {"message": "Unrecognized request argument: ignore_eos"}})
    else:
        await wire.whole()


async def _reasoning(wire: Wire) -> None:
    await wire.begin()
    await wire.token("Let me", "reasoning_content")
    await wire.token(" see", "reasoning")
    await wire.token("Red")
    await wire.finish(3)
    await wire.end()


async def _pairs(wire: Wire) -> None:
    await wire.begin()
    for at in range(0, len(TOKENS), 2):
        await wire.token(TOKENS[at] + TOKENS[at + 1])
    await wire.finish(len(TOKENS))
    await wire.end()


async def _echo(wire: Wire) -> None:
    await wire.refuse(422, {"detail": [{"msg": "Input should be valid", "input": wire.seen.body["messages"]}]})


async def _quote(wire: Wire) -> None:
    text = wire.seen.body["messages"][0]["content"]
    await wire.refuse(500, {"error": {"message": f"cannot handle {text!r}"}})


async def _key(wire: Wire) -> None:
    await wire.refuse(401, {"error": {"message": f"Incorrect API key: {wire.seen.headers.get('authorization')}"}})


async def _html(wire: Wire) -> None:
    await wire.refuse(502, b"<html><body>bad gateway</body></html>", "text/html")


async def _piece(wire: Wire) -> None:
    await wire.refuse(200, {"choices": [{"message": {"content": "The sky"}}]})


async def _linger(wire: Wire) -> None:
    await wire.begin()
    for text in TOKENS:
        await wire.token(text)
    await wire.finish(len(TOKENS))
    await asyncio.sleep(3600)


async def _silent(wire: Wire) -> None:
    await wire.begin()
    await wire.finish(0, "stop")
    await wire.end()


async def _tgi(wire: Wire) -> None:
    """Text Generation Inference without its OpenAI routes."""
    if not wire.seen.path.endswith("/generate_stream"):
        await wire.refuse(404, b"")
        return
    await wire.begin()
    for at, text in enumerate(TOKENS):
        last = at == len(TOKENS) - 1
        details = {"finish_reason": "length", "generated_tokens": len(TOKENS), "input_length": 9, "seed": None}
        token = {"id": at, "text": text, "logprob": -0.1, "special": False}
        whole = "".join(TOKENS) if last else None
        event = {"index": at + 1, "token": token, "generated_text": whole, "details": details if last else None}
        await wire.event(event)
        await asyncio.sleep(GAP_S)
    await wire.end()


async def _generate(wire: Wire, end: bytes) -> None:
    """vLLM's demo server, which says all again in every event."""
    if not wire.seen.path.endswith("/generate"):
        await wire.refuse(404, {"detail": "Not Found"})
        return
    await wire.begin()
    text = wire.seen.body["prompt"]
    for piece in TOKENS:
        text += piece
        await wire.raw(json.dumps({"text": [text]}).encode() + end)
        await asyncio.sleep(GAP_S)
    await wire.end()


async def _generate_nul(wire: Wire) -> None:
    await _generate(wire, b"\0")


async def _generate_lines(wire: Wire) -> None:
    await _generate(wire, b"\n")


async def _timed(wire: Wire) -> None:
    """A vLLM with --enable-per-request-metrics: the last chunk carries the request's times."""
    await wire.begin()
    for text in TOKENS:
        await wire.token(text)
    await wire.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    times = {"time_to_first_token_ms": 12.5, "generation_time_ms": 25.0, "queue_time_ms": 0.5, "mean_itl_ms": 5.0}
    usage = {"prompt_tokens": 9, "completion_tokens": len(TOKENS)}
    await wire.event({"choices": [], "usage": usage, "metrics": times})
    await wire.event("[DONE]")
    await wire.end()


_MANNERS: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "ok": Wire.whole,
    "forever": _forever,
    "stall": _stall,
    "pings": _pings,
    "mute": _mute,
    "cut": _cut,
    "early": _early,
    "error": _error,
    "no_chat": _no_chat,
    "no_template": _no_template,
    "no_model": _no_model,
    "nothing": _nothing,
    "strict": _strict,
    "no_ignore": _no_ignore,
    "reasoning": _reasoning,
    "pairs": _pairs,
    "echo": _echo,
    "quote": _quote,
    "key": _key,
    "html": _html,
    "piece": _piece,
    "linger": _linger,
    "silent": _silent,
    "tgi": _tgi,
    "generate_nul": _generate_nul,
    "generate_lines": _generate_lines,
    "timed": _timed,
}


class SseServer:
    """Runs on a thread of its own; ``dropped`` is set when a client goes away in the middle of an answer."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.now = 0
        """Answers under way."""
        self.most = 0
        """The most of them at a time."""
        self.dropped = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: asyncio.Event | None = None
        self.port = 0

    def url(self, manner: str) -> str:
        """The base address of the server that behaves in this manner."""
        assert manner in _MANNERS
        return f"http://127.0.0.1:{self.port}/{manner}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop every connection; again is fine."""
        if self._thread.is_alive():
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                seen = await _request(reader)
                if seen is None:
                    return
                self.seen.append(seen)
                await self._answer(Wire(seen, writer), reader)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, wire: Wire, reader: asyncio.StreamReader) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self._watched(wire, reader)
        finally:
            self.now -= 1

    async def _watched(self, wire: Wire, reader: asyncio.StreamReader) -> None:
        answer = asyncio.ensure_future(_MANNERS[wire.seen.path.split("/")[1]](wire))
        gone = asyncio.ensure_future(_gone(reader))
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.dropped.set()
        for task in (answer, gone):
            task.cancel()
        for result in await asyncio.gather(answer, gone, return_exceptions=True):
            if isinstance(result, ConnectionError):
                self.dropped.set()
                wire.writer.close()


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait for the client to go away, without taking a byte of its next request."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.01)


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(first.split(" ")[1], headers, json.loads(body))
