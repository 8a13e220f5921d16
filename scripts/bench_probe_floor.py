#!/usr/bin/env python3
"""As near as a client of this kind comes: bare sockets, one epoll, stamps by the kernel, nothing parsed until the end.

bench_probe_floor.py URL REQUESTS STREAMS TOKENS prints one JSON document. What bench_probe finds as its error is what
the truth itself is uncertain by, and the best that qtop's client could do. It knows how the server cuts its answers:
one send an instant, each an event or more in whole chunks. Standard library only.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

SO_TIMESTAMPNS = 35
LONGEST_S = 600.0
END = b"0\r\n\r\n"
_NUMBER = re.compile(rb'"prompt_tokens":(\d+)')


@dataclass
class Stream:
    """One connection, and the answer that comes over it now."""

    socket: socket.socket
    sent: int = 0
    """Unix ns."""
    reads: list[tuple[int, bytes]] = field(default_factory=list)


def load(url: str, requests: int, streams: int, tokens: int) -> list[dict[str, Any]]:
    """``requests`` of them, ``streams`` at a time."""
    where = urlsplit(url)
    body = json.dumps(
        {
            "model": "known/instants",
            "messages": [{"role": "user", "content": "say something"}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
    request = (head + body).encode()
    poll, open_now, left = select.epoll(), {}, requests
    done: list[Stream] = []
    deadline = time.monotonic() + LONGEST_S
    for _ in range(min(streams, requests)):
        one = socket.create_connection((where.hostname or "", where.port or 80))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        poll.register(one, select.EPOLLIN)
        open_now[one.fileno()] = Stream(one)
    for stream in open_now.values():
        left -= 1
        _send(stream, request)
    while open_now and time.monotonic() < deadline:
        for fd, _ in poll.poll(1.0):
            stream = open_now[fd]
            data, extra, _, _ = stream.socket.recvmsg(65536, 64)
            now = time.time_ns()
            if not data:
                raise ConnectionError("the server closed the connection")
            stream.reads.append((_stamp(extra) or now, data))
            if data.endswith(END):
                done.append(Stream(stream.socket, stream.sent, stream.reads))
                stream.reads = []
                if left:
                    left -= 1
                    _send(stream, request)
                else:
                    poll.unregister(fd)
                    del open_now[fd]
    return [_result(stream) for stream in done]


def _send(stream: Stream, request: bytes) -> None:
    stream.sent = time.time_ns()
    stream.socket.sendall(request)


def _stamp(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return 0


def _result(stream: Stream) -> dict[str, Any]:
    """An event's stamp is that of the read which brought it."""
    stamps = [at for at, data in stream.reads for _ in range(data.count(b'"content":" '))]
    number = _NUMBER.search(stream.reads[-1][1])
    return {
        "number": int(number.group(1)) if number else None,
        "sent": stream.sent / 1e9,
        "ttft_ms": (stamps[0] - stream.sent) / 1e6,
        "gaps_ms": [(b - a) / 1e6 for a, b in pairwise(stamps)],
    }


if __name__ == "__main__":
    gc.disable()
    print(json.dumps({"requests": load(sys.argv[1], *map(int, sys.argv[2:5]))}))
