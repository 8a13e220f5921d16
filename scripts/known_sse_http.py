"""The HTTP that scripts/known_sse_server.py speaks: requests parsed, answers made beforehand as bytes. Pure.

Shapes as vLLM 0.25 gives them: an answer's first event carries the role, its last token the finish_reason, usage comes
in an event of its own, then ``[DONE]``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MODEL = "known/instants"
MOST_TOKENS = 4096
DEFAULT_TOKENS = 64
MOST_BODY = 4 * 2**20
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class Request:
    """One request as it came; ``size`` bytes are used up by it."""

    method: str
    path: str
    body: bytes
    close: bool
    size: int


@dataclass(frozen=True)
class Response:
    """An answer that goes out at once."""

    data: bytes
    close: bool = False


@dataclass(frozen=True)
class Generate:
    """A wish for tokens."""

    path: str
    tokens: int
    stream: bool
    usage: bool


@dataclass(frozen=True)
class Frames:
    """What goes out for an answer: its head at once, then one piece an instant."""

    head: bytes
    first: bytes
    middle: bytes
    last: bytes
    count: int

    def at(self, index: int) -> bytes:
        """The piece of one instant."""
        if index == self.count - 1:
            return self.last
        return self.middle if index else self.first


def parse(data: bytes | bytearray) -> Request | None:
    """The first request in ``data``, None while it is not whole. What cannot be read is a request without a method."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = fields.get("content-length", "0")
    if len(words) != 3 or not length.isdigit() or int(length) > MOST_BODY or "transfer-encoding" in fields:
        return Request("", "", b"", True, len(data))
    size = end + 4 + int(length)
    if len(data) < size:
        return None
    path = words[1].partition("?")[0]
    return Request(words[0], path, bytes(data[end + 4 : size]), fields.get("connection", "").lower() == "close", size)


def answer(request: Request, running: int, tokens: int, number: int) -> Response | Generate:
    """What a request is answered with; ``running`` streams, ``tokens`` sent so far, ``number`` of the next answer."""
    if not request.method:
        return _response("400 Bad Request", b'{"error":{"message":"cannot be read"}}', close=True)
    if request.path in (CHAT, COMPLETIONS):
        return _generate(request) if request.method == "POST" else _response("405 Method Not Allowed", b"{}")
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vllm", "root": MODEL, "max_model_len": 32768}
    match request.path:
        case "/v1/models":
            return _response("200 OK", json.dumps({"object": "list", "data": [model]}).encode(), close=request.close)
        case "/version":
            return _response("200 OK", b'{"version":"0.25.1"}', close=request.close)
        case "/health" | "/ping":
            return _response("200 OK", b"", close=request.close)
        case "/metrics" | "/metrics/":
            text = metrics(running, tokens, number - 1).encode()
            return _response("200 OK", text, "text/plain; version=0.0.4; charset=utf-8", request.close)
    return _response("404 Not Found", b'{"detail":"Not Found"}', close=request.close)


def _response(status: str, body: bytes, kind: str = "application/json", close: bool = False) -> Response:
    head = f"HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\ncontent-type: {kind}\r\n"
    return Response((head + ("connection: close\r\n" if close else "") + "\r\n").encode() + body, close)


def _generate(request: Request) -> Response | Generate:
    try:
        body: Any = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not ("messages" in body or "prompt" in body):
        return _response("400 Bad Request", b'{"error":{"message":"neither messages nor prompt","code":400}}')
    tokens = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_TOKENS
    if not isinstance(tokens, int) or not 1 <= tokens <= MOST_TOKENS:
        return _response("400 Bad Request", b'{"error":{"message":"max_tokens is 1 to 4096","code":400}}')
    asked = body.get("stream_options")
    usage = isinstance(asked, dict) and bool(asked.get("include_usage"))
    return Generate(request.path, tokens, bool(body.get("stream")), usage)


def frames(wish: Generate, number: int) -> Frames:
    """The bytes of one answer."""
    usage = {"prompt_tokens": number, "completion_tokens": wish.tokens, "total_tokens": number + wish.tokens}
    chat = wish.path == CHAT
    kind = "chat.completion" if chat else "text_completion"
    base = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{number}", "object": kind, "created": 0, "model": MODEL}
    texts = [f" #{number}", *[" w"] * (wish.tokens - 1)]
    if not wish.stream:
        said: dict[str, object] = {"index": 0, "finish_reason": "length"}
        said |= {"message": {"role": "assistant", "content": "".join(texts)}} if chat else {"text": "".join(texts)}
        whole = _response("200 OK", json.dumps(base | {"choices": [said], "usage": usage}).encode()).data
        return Frames(b"", whole, whole, whole, 1)
    base["object"] = "chat.completion.chunk" if chat else "text_completion"

    def event(text: str, finish: str | None = None) -> bytes:
        said = {"delta": {"content": text}} if chat else {"text": text}
        return _event(base | {"choices": [{"index": 0, **said, "logprobs": None, "finish_reason": finish}]})

    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    opening = _event(base | {"choices": [role]}) if chat else b""
    counts = _event(base | {"choices": [], "usage": usage}) if wish.usage else b""
    end = counts + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return Frames(
        b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n",
        # The role goes out together with the first token: both in one send, so that there is one true instant.
        opening + event(texts[0]),
        event(" w"),
        (opening if wish.tokens == 1 else b"") + event(texts[-1], "length") + end,
        wish.tokens,
    )


def _event(data: dict[str, object]) -> bytes:
    return _chunk(b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def metrics(running: int, tokens: int, requests: int) -> str:
    """A minimal exposition under vLLM's names."""
    label = f'{{engine="0",model_name="{MODEL}"}}'
    figures = (
        ("num_requests_running", "gauge", running),
        ("num_requests_waiting", "gauge", 0),
        ("kv_cache_usage_perc", "gauge", running / 256),
        ("prompt_tokens_total", "counter", requests * 16),
        ("generation_tokens_total", "counter", tokens),
        ("num_preemptions_total", "counter", 0),
    )
    return "".join(
        f"# HELP vllm:{name} {name}\n# TYPE vllm:{name} {kind}\nvllm:{name}{label} {value}\n"
        for name, kind, value in figures
    )
