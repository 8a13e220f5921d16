"""The wire of the fake servers: requests read, answers written byte by byte, nothing between."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
DRIP_S = 25.0
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Seen:
    """A request as it came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client_port: int


class Connection(socketserver.BaseRequestHandler):
    """One client; ``mode`` decides what each request gets."""

    server: Listener
    request: socket.socket

    def handle(self) -> None:
        self.answered = 0
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.server.tls is not None:
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.request.settimeout(30)
            while (seen := self._read()) is not None:
                self.server.seen.append(seen)
                if not self.server.mode(self, seen):
                    break
                self.answered += 1

    def _read(self) -> Seen | None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = self.request.recv(65_536)
            if not more:
                return None
            raw += more
            if raw.startswith(b"\x16\x03"):  # a TLS hello, which uvicorn answers so
                self.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nInvalid HTTP request received.")
                return None
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += self.request.recv(65_536)
        method, path, _ = first.split(" ", 2)
        return Seen(method, path, headers, body, self.client_address[1])

    def send(self, data: bytes) -> None:
        self.request.sendall(data)

    def head(self, status: int, kind: str, *more: str, server: str = "uvicorn") -> None:
        lines = (f"HTTP/1.1 {status} Status", f"Server: {server}", f"Content-Type: {kind}", *more, "", "")
        self.send("\r\n".join(lines).encode())

    def answer(self, status: int, kind: str, body: bytes, server: str = "uvicorn") -> bool:
        self.head(status, kind, f"Content-Length: {len(body)}", server=server)
        self.send(body)
        return True

    def chunk(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def stream(self, chunks: Iterator[bytes], kind: str = SSE) -> None:
        """A chunked answer without its end."""
        self.head(200, kind, "Transfer-Encoding: chunked")
        for data in chunks:
            self.chunk(data)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        self.server.stopping.wait(seconds)

    def drip(self, data: bytes) -> None:
        """A byte at a time, and for no longer than DRIP_S: a reader without a deadline gets a cut answer, late."""
        until = time.monotonic() + DRIP_S
        for byte in data:
            if self.server.stopping.is_set() or time.monotonic() > until:
                return
            self.send(bytes([byte]))
            self.pause(self.server.gap_s)


Mode = Callable[[Connection, Seen], bool]


class Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64
    mode: Mode
    tls: ssl.SSLContext | None = None
    gap_s: float = 0.0

    def __init__(self, address: tuple[str, int]) -> None:
        self.started = time.monotonic()
        self.stopping = threading.Event()
        self.seen: list[Seen] = []
        super().__init__(address, Connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is nothing to report."""
