"""A small real HTTP server that behaves badly on demand, and well on demand too.

In a test: ``with Hostile("drip") as server: … server.url … server.seen``.
By hand: ``python -m tests.fakes.hostile --mode drip --port 0`` prints the port and serves until it is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType

from tests.fakes.behaved import (
    DATA,
    capture,
    events_for,
    llamacpp,
    llamacpp_bare,
    llamacpp_slots_only,
    loading,
    loading_listed,
    openai,
    refuse,
    replay,
    sglang,
    vllm,
)
from tests.fakes.wire import JSON, PLAIN, Connection, Listener, Seen

KEY = "right-key"
"""The API key that the locked modes want."""
HTML = b"<!DOCTYPE html>\n<html><body><h1>It works!</h1>\nvllm:num_requests_running 3\n</body></html>\n"

Route = tuple[int, str, bytes]


def silent(c: Connection, _seen: Seen) -> bool:
    """Accepts and never answers."""
    c.pause(60)
    return False


def html(c: Connection, seen: Seen) -> bool:
    """A vLLM whose /metrics is a web page (a gateway's catch-all)."""
    return c.answer(200, "text/html", HTML) if seen.path == "/metrics" else vllm(c, seen)


def website(c: Connection, _seen: Seen) -> bool:
    """No LLM server at all: the same page for every path."""
    return c.answer(200, "text/html", HTML, "nginx")


def _flood(c: Connection, size: int) -> Iterator[bytes]:
    block = b"".join(b'vllm:flood_total{n="%d"} 1.0\n' % n for n in range(2_000))
    sent = 0
    while sent < size and not c.server.stopping.is_set():
        yield block[: size - sent]
        sent += len(block)


def huge(c: Connection, seen: Seen) -> bool:
    """/metrics of 50 MB, announced."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    size = 50 * 1024 * 1024
    c.head(200, PLAIN, f"Content-Length: {size}")
    for block in _flood(c, size):
        c.send(block)
    return True


def endless(c: Connection, seen: Seen) -> bool:
    """/metrics that never ends, chunked."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    c.stream(_flood(c, 1 << 62), PLAIN)
    return False


def cut(c: Connection, seen: Seen) -> bool:
    """/metrics ends in the middle of a line, short of its Content-Length."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    data = capture("vllm-0.32-cpu.metrics.txt")
    c.head(200, PLAIN, f"Content-Length: {len(data)}")
    c.send(data[: len(data) // 2])
    return False


def cut_chunked(c: Connection, seen: Seen) -> bool:
    """/metrics ends in the middle of a chunk."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    data = capture("vllm-0.32-cpu.metrics.txt")
    c.stream(iter([data[:5_000]]), PLAIN)
    c.send(b"1000\r\n" + data[5_000:6_000])
    return False


def drip(c: Connection, seen: Seen) -> bool:
    """/metrics comes a byte at a time."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    data = capture("vllm-0.32-cpu.metrics.txt")
    c.head(200, PLAIN, f"Content-Length: {len(data)}")
    c.drip(data)
    return False


def drip_head(c: Connection, _seen: Seen) -> bool:
    """Even the response headers come a byte at a time."""
    c.drip(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 90_000 + b"\r\n\r\n")
    return False


def locked(c: Connection, seen: Seen) -> bool:
    """A vLLM with an API key: /v1 is locked, the rest is open."""
    if seen.path.startswith("/v1") and seen.headers.get("authorization") != f"Bearer {KEY}":
        return c.answer(401, JSON, b'{"error":"Unauthorized"}')
    return vllm(c, seen)


def locked_all(c: Connection, seen: Seen) -> bool:
    """A llama.cpp with an API key: all but /health is locked."""
    if seen.path != "/health" and seen.headers.get("authorization") != f"Bearer {KEY}":
        return refuse(c, 401, "Invalid API Key")
    return llamacpp(c, seen)


def locked_gateway(c: Connection, seen: Seen) -> bool:
    """A gateway that answers nobody without the key."""
    if seen.headers.get("authorization") != f"Bearer {KEY}":
        return c.answer(403, JSON, b"{}", "nginx")
    return openai(c, seen)


def garbage(c: Connection, _seen: Seen) -> bool:
    """Not HTTP."""
    c.send(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\xfe not http\r\n\r\n")
    return False


def reset(c: Connection, _seen: Seen) -> bool:
    """Resets the connection instead of answering."""
    c.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.request.close()
    return False


def close(_c: Connection, _seen: Seen) -> bool:
    """Closes the connection instead of answering."""
    return False


def stale(c: Connection, seen: Seen) -> bool:
    """Promises to keep a connection and drops it when its second request comes."""
    return vllm(c, seen) if c.answered == 0 else False


def redirect(c: Connection, seen: Seen) -> bool:
    """Sends everybody to another port of this host, where the key must not go."""
    c.head(307, JSON, f"Location: http://127.0.0.1:9{seen.path}", "Content-Length: 0")
    return True


def compressed(c: Connection, seen: Seen) -> bool:
    """Compresses /metrics unasked, 5 MB into 5 KB."""
    if seen.path != "/metrics":
        return vllm(c, seen)
    data = gzip.compress(b"\n" * 5_000_000)
    c.head(200, PLAIN, "Content-Encoding: gzip", f"Content-Length: {len(data)}")
    c.send(data)
    return True


def failing(c: Connection, _seen: Seen) -> bool:
    """Answers 500 with a traceback to everything."""
    return c.answer(500, "text/plain", b"Traceback (most recent call last): ...")


def _is_completion(seen: Seen) -> bool:
    return seen.method == "POST" and seen.path in ("/v1/chat/completions", "/v1/completions")


def sse_stall(c: Connection, seen: Seen) -> bool:
    """Ten events, then nothing, the connection held open."""
    if not _is_completion(seen):
        return vllm(c, seen)
    c.stream(iter(events_for(seen)[:10]))
    return silent(c, seen)


def sse_cut(c: Connection, seen: Seen) -> bool:
    """Ten events and half of the eleventh, then the connection closes."""
    if not _is_completion(seen):
        return vllm(c, seen)
    parts = events_for(seen)
    c.stream(iter([*parts[:10], parts[10][: len(parts[10]) // 2]]))
    return False


def sse_error(c: Connection, seen: Seen) -> bool:
    """Ten events, then an error object in the stream, as vLLM sends it when its engine dies."""
    if not _is_completion(seen):
        return vllm(c, seen)
    error = {"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}}
    return replay(c, [*events_for(seen)[:10], f"data: {json.dumps(error)}\n\n".encode(), b"data: [DONE]\n\n"])


def sse_utf8(c: Connection, seen: Seen) -> bool:
    """The whole stream in chunks of one to seven bytes: boundaries fall inside characters, fields and blank lines."""
    if not _is_completion(seen):
        return vllm(c, seen)
    whole = b"".join(events_for(seen))
    parts, at = [], 0
    while at < len(whole):
        size = 1 + at % 7
        parts.append(whole[at : at + size])
        at += size
    return replay(c, parts)


_ALL = (
    vllm,
    llamacpp,
    llamacpp_bare,
    llamacpp_slots_only,
    loading,
    loading_listed,
    openai,
    sglang,
    silent,
    html,
    website,
    huge,
    endless,
    cut,
    cut_chunked,
    drip,
    drip_head,
    locked,
    locked_all,
    locked_gateway,
    garbage,
    reset,
    close,
    stale,
    redirect,
    compressed,
    failing,
    sse_stall,
    sse_cut,
    sse_error,
    sse_utf8,
)
MODES = {x.__name__.replace("_", "-"): x for x in _ALL}


class Hostile:
    """The server in a thread of its own, on 127.0.0.1, from ``__enter__`` to ``__exit__``.

    ``routes`` overrides single paths with (status, content type, body). ``gap_s`` is the pause between dripped bytes
    or events. ``tls`` names a certificate of tests/data/tls ("localhost", "othername").
    """

    def __init__(
        self,
        mode: str = "vllm",
        port: int = 0,
        *,
        routes: Mapping[str, Route] | None = None,
        gap_s: float | None = None,
        tls: str | None = None,
    ) -> None:
        plain, overrides = MODES[mode], dict(routes or {})

        def serve(c: Connection, seen: Seen) -> bool:
            return c.answer(*overrides[seen.path]) if seen.path in overrides else plain(c, seen)

        self._listener = Listener(("127.0.0.1", port))
        self._listener.mode = serve
        self._listener.gap_s = gap_s if gap_s is not None else (0.02 if mode.startswith("drip") else 0.0)
        if tls is not None:
            self._listener.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._listener.tls.load_cert_chain(DATA / "tls" / f"{tls}.pem", DATA / "tls" / f"{tls}.key")
        self.port: int = self._listener.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    @property
    def seen(self) -> list[Seen]:
        """Every request so far."""
        return self._listener.seen

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.hostile", description="A server that behaves badly.")
    parser.add_argument("--mode", choices=sorted(MODES), default="vllm")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--gap", type=float, default=None, help="seconds between dripped bytes, or between events")
    parser.add_argument("--tls", choices=("localhost", "othername"), default=None)
    asked = parser.parse_args()
    with Hostile(asked.mode, asked.port, gap_s=asked.gap, tls=asked.tls) as server:
        print(server.port, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
