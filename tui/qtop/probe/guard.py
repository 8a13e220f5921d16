"""Ends requests that go on for too long, from one thread that looks four times a second.

A read timeout alone would be reset by every comment a server sends to keep the line open, and would let a stream
overrun its total by a whole stall. Shutting the socket down wakes the blocked read at once.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

LOOK_S = 0.25
LINGER_S = 0.5
"""After [DONE] the end of the body is awaited this long: a proxy logs a client that leaves before it as a failure."""


class Guard:
    """Of one request: ``fired`` says why it was ended, "" while it was not."""

    def __init__(self, stall_s: float, timeout_s: float, t_start: float) -> None:
        self.fired = ""
        self._stall_s = stall_s
        self._timeout_s = timeout_s
        self._token_at: float | None = None
        self._ends_at = t_start + timeout_s
        self._linger_at = float("inf")
        self._socket: socket.socket | None = None

    def watch(self, stream: object) -> None:
        """Take charge of a connection (httpcore's network stream): its head may never end either."""
        ask = getattr(stream, "get_extra_info", None)
        sock = ask("socket") if ask is not None else None
        if isinstance(sock, socket.socket):
            self._socket = sock

    def token(self, t: float) -> None:
        """A token came at monotonic second ``t``. Before the first one nothing has stalled: the request may stand in a
        queue for as long as its whole time."""
        self._token_at = t

    def linger(self, t: float) -> None:
        """The answer is whole; only the end of the body may still come."""
        self._linger_at = min(self._linger_at, t + LINGER_S)

    def look(self, now: float) -> None:
        """End the request if it is time."""
        sock = self._socket
        if sock is None or self.fired:
            return
        if now < self._linger_at:
            if now >= self._ends_at:
                self.fired = f"not done after {self._timeout_s:g} s"
            elif self._token_at is not None and now >= self._token_at + self._stall_s:
                self.fired = f"no token for {self._stall_s:g} s"
            else:
                return
        with suppress(OSError):
            # The base class's method: an SSLSocket's own would drop its TLS state under the reader.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Watchdog:
    """Looks after the guards of all requests in flight."""

    def __init__(self) -> None:
        self._guards: set[Guard] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, guard: Guard) -> None:
        """Begin to look after a request."""
        with self._lock:
            self._guards.add(guard)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="probe-guard", daemon=True)
                self._thread.start()

    def remove(self, guard: Guard) -> None:
        """The request is over."""
        with self._lock:
            self._guards.discard(guard)

    def close(self) -> None:
        """Look after nothing more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            with self._lock:
                guards = tuple(self._guards)
            for guard in guards:
                guard.look(now)
