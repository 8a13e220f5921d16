"""Fake servers that behave, made of captured answers."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from tests.fakes.wire import JSON, PLAIN, SSE, Connection, Seen

DATA = Path(__file__).parent.parent / "data"
CAPTURES = DATA / "captures"
_COUNTER = re.compile(r"(vllm:\w+_(?:total|count|sum|bucket)(?:\{.*\})?) (\S+)")


def capture(name: str) -> bytes:
    """A captured answer; of an event stream only the events, without the response headers the file begins with."""
    data = (CAPTURES / name).read_bytes()
    return data[data.index(b"data: ") :] if name.endswith(".sse") else data


def events(name: str) -> list[bytes]:
    """The events of a captured stream, each with the blank line that ends it."""
    return [x + b"\n\n" for x in capture(name).split(b"\n\n") if x.strip()]


def moved(text: str, factor: float) -> str:
    """An exposition with every vLLM counter and histogram grown by a factor; gauges stay as they are."""

    def grow(match: re.Match[str]) -> str:
        old = float(match[2])
        return f"{match[1]} {float(int(old * factor)) if old.is_integer() else old * factor}"

    return "\n".join(_COUNTER.sub(grow, x) if x.startswith("vllm:") else x for x in text.split("\n"))


def vllm(c: Connection, seen: Seen) -> bool:
    """vLLM 0.32 as captured; its counters grow by a tenth of what they were each second."""
    match seen.path:
        case "/metrics":
            text = capture("vllm-0.32-cpu.metrics.txt").decode()
            age = time.monotonic() - c.server.started
            return c.answer(200, PLAIN, moved(text, 1 + age / 10).encode())
        case "/version":
            return c.answer(200, JSON, b'{"version":"0.32.0"}')
        case "/v1/models":
            return c.answer(200, JSON, capture("vllm.models.json"))
        case "/health":
            return c.answer(200, JSON, b"")
        case "/v1/chat/completions" | "/v1/completions" if seen.method == "POST":
            return replay(c, events_for(seen))
    return c.answer(404, JSON, b'{"detail":"Not Found"}')


def events_for(seen: Seen) -> list[bytes]:
    return events("vllm.chat.sse" if "chat" in seen.path else "vllm.completions.sse")


def replay(c: Connection, parts: list[bytes]) -> bool:
    c.head(200, SSE, "Transfer-Encoding: chunked")
    for part in parts:
        c.chunk(part)
        if c.server.gap_s:
            c.pause(c.server.gap_s)
    c.send(b"0\r\n\r\n")
    return True


def refuse(c: Connection, status: int, message: str, server: str = "llama.cpp") -> bool:
    body = json.dumps({"error": {"code": status, "message": message, "type": "error"}}).encode()
    return c.answer(status, JSON, body, server)


def llamacpp(c: Connection, seen: Seen) -> bool:
    """llama.cpp as captured, four slots at work."""
    files = {"/metrics": "metrics.txt", "/v1/models": "models.json", "/props": "props.json", "/slots": "slots.json"}
    if seen.path in files:
        kind = PLAIN if seen.path == "/metrics" else JSON
        return c.answer(200, kind, capture(f"llamacpp.{files[seen.path]}"), "llama.cpp")
    if seen.path == "/health":
        return c.answer(200, JSON, b'{"status":"ok"}', "llama.cpp")
    return refuse(c, 404, "File Not Found")


def llamacpp_bare(c: Connection, seen: Seen) -> bool:
    """llama.cpp started without --metrics and --slots."""
    if seen.path in ("/metrics", "/slots"):
        name = seen.path[1:]
        return refuse(c, 501, f"This server does not support {name} endpoint. Start it with `--{name}`")
    return llamacpp(c, seen)


def llamacpp_slots_only(c: Connection, seen: Seen) -> bool:
    """llama.cpp started without --metrics."""
    return llamacpp_bare(c, seen) if seen.path == "/metrics" else llamacpp(c, seen)


def loading(c: Connection, _seen: Seen) -> bool:
    """llama.cpp while it loads its model: every route says so."""
    return refuse(c, 503, "Loading model")


def loading_listed(c: Connection, seen: Seen) -> bool:
    """llama.cpp builds that list the model while they still load it."""
    if seen.path == "/v1/models":
        body = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "llamacpp", "meta": None}]}
        return c.answer(200, JSON, json.dumps(body).encode(), "llama.cpp")
    return loading(c, seen)


def openai(c: Connection, seen: Seen) -> bool:
    """A server with the OpenAI routes and nothing else."""
    if seen.path == "/v1/models":
        body = {"object": "list", "data": [{"id": "some-model", "object": "model", "owned_by": "someone"}]}
        return c.answer(200, JSON, json.dumps(body).encode(), "gunicorn")
    return c.answer(404, JSON, b"{}", "gunicorn")


def sglang(c: Connection, seen: Seen) -> bool:
    """SGLang behind a gateway that renames the owner: only its metrics give it away."""
    if seen.path == "/metrics":
        return c.answer(200, PLAIN, b'# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs{tp_rank="0"} 2.0\n')
    return openai(c, seen)
