"""The wire under httpx: stamps taken by the kernel when bytes arrive, and a request that leaves in one piece.

A stamp taken after a read returns has the reader's own delay in it: waking up, waiting for a CPU, waiting for the
interpreter. With 64 streams that all get a token in the same instant, as vLLM sends them after each step, the last one
read is milliseconds late. Linux stamps each segment when it arrives (SO_TIMESTAMPNS, socket(7)) and hands the stamp out
with the bytes. On loopback it also says when a request left (SO_TIMESTAMPING): between taking a stamp and sending, a
thread of a busy prober may lose the interpreter. Stamps are on the realtime clock; they are moved to the monotonic one
with both clocks read together, so that a step of the realtime clock cannot bend a gap. TLS hides the segments: there,
and where the kernel gives no stamp, the stamp is that of the read, and the result says so.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import httpcore
import httpx

_SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; Python's socket module does not name it."""
_SO_TIMESTAMPING = 37
_TX_STAMP_ALONE = 1 << 1 | 1 << 4 | 1 << 11
"""SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE and _OPT_TSONLY (linux/net_tstamp.h): when it left, without a copy of it."""
_GENERIC = frozenset({"x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "loongarch64"})
"""Machines with that number, and whose timespec is two 64-bit words."""
_TIMESPEC = struct.Struct("=qq")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_ERRORS = 512
"""Bytes of ancillary data of a stamp of what left: three timespecs and a sock_extended_err."""
_ONE_SEGMENT = 60_000
"""Bytes of a request that leave at once on loopback; a longer one leaves as the server reads it."""
_TOGETHER_NS = 20_000
"""Two clocks read within so many nanoseconds count as read at once."""
_OLDEST_S = 10.0
"""A stamp older than this, or from the future, is the mark of a clock that was set: it is not used."""

_Option: TypeAlias = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class StampedStream(httpcore.NetworkStream):
    """One connection. ``stamp`` is the monotonic second at which the bytes of the last read arrived."""

    def __init__(self, sock: socket.socket, kernel: bool) -> None:
        self._sock = sock
        self._kernel = kernel
        self._timeout: float | None = -1.0
        self._held = b""
        self.sent_at: float | None = None
        """When the request left, by the kernel's stamp on loopback, else taken just before handing it over."""
        self.stamp = 0.0
        self.by_kernel = False
        """Whether ``stamp`` is the kernel's."""
        self.lag_s = 0.0
        """How long after its arrival the last read returned; 0 where that is not known."""
        self.behind = False
        """The bytes lay there before the read began: what came in between two of ours was read as one."""
        self.send_s = 0.0
        """How long handing the request over took."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes, b"" at the end; stamps them."""
        self._flush(timeout)
        with _mapped(httpcore.ReadTimeout, httpcore.ReadError):
            self._set_timeout(timeout)
            if not self._kernel:
                data = self._sock.recv(max_bytes)
                self.stamp = time.monotonic()
                return data
            asked = time.monotonic_ns()
            data, ancillary, _, _ = self._sock.recvmsg(max_bytes, _ANCILLARY)
        mono, real = _clocks()
        self.by_kernel, self.lag_s = False, 0.0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                lag = (real - seconds * 1_000_000_000 - nanoseconds) / 1e9
                if 0.0 <= lag < _OLDEST_S:
                    self.by_kernel, self.lag_s = True, lag
        self.stamp = mono / 1e9 - self.lag_s
        self.behind = self.by_kernel and self.stamp < asked / 1e9
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send; the head of a request waits for its body, so that both leave at once and one stamp is true of both."""
        if not buffer:
            return
        if self.sent_at is None and not self._held and buffer.startswith(b"POST "):
            self._held = buffer
            return
        self._held += buffer
        self._flush(timeout)

    def _flush(self, timeout: float | None) -> None:
        if not self._held:
            return
        view, self._held = memoryview(self._held), b""
        with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
            self._set_timeout(timeout)
            first = self.sent_at is None
            ask = first and self._kernel and len(view) <= _ONE_SEGMENT and self._ask_when_it_leaves()
            begun = time.monotonic()
            while view:
                view = view[self._sock.send(view) :]
            ended = time.monotonic()
            if first:
                left = self._left_at() if ask else None
                self.sent_at = left if left is not None and begun <= left <= ended else begun
                self.send_s = 0.0 if self.sent_at is left else ended - begun

    def _ask_when_it_leaves(self) -> bool:
        """Have the kernel stamp what leaves next. On loopback alone: there the stamp lies ready when the send returns;
        of a network card it may come later, and would wake a reader that waits for tokens."""
        try:
            host = self._sock.getpeername()[0]
            if not (host.startswith("127.") or host == "::1"):
                return False
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _TX_STAMP_ALONE)
        except (OSError, TypeError, IndexError):
            return False
        return True

    def _left_at(self) -> float | None:
        """The kernel's stamp of what was sent, as a monotonic second; the next sends get none."""
        found: float | None = None
        with contextlib.suppress(OSError):
            _, ancillary, _, _ = self._sock.recvmsg(0, _ERRORS, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            mono, real = _clocks()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING and len(value) >= _TIMESPEC.size:
                    seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                    found = (mono - (real - seconds * 1_000_000_000 - nanoseconds)) / 1e9
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, 0)
        return found

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout:
            self._sock.settimeout(timeout)
            self._timeout = timeout

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection under TLS: its reads come out of OpenSSL, so that only the reader can stamp them."""
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            try:
                self._sock.settimeout(timeout)
                return StampedStream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname), False)
            except BaseException:
                self.close()
                raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore and httpx ask a stream for."""
        if info == "socket":
            return self._sock
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if info == "client_addr":
            return self._sock.getsockname()
        if info == "server_addr":
            return self._sock.getpeername()
        if info == "is_readable":  # asked of kept connections only, and none is kept
            return True
        return None


class StampingBackend(httpcore.NetworkBackend):
    """Opens connections whose reads are stamped; ``kernel`` says whether to ask the kernel for it."""

    def __init__(self, kernel: bool = True) -> None:
        self._kernel = kernel and kernel_stamps()
        # The kernel begins to stamp a moment after the first socket asks for it, and ends with the last: one that asks
        # all the time keeps the first tokens of a connection from going without.
        self._keeper = socket.socket() if self._kernel else None
        if self._keeper is not None:
            _ask_for_stamps(self._keeper)

    def close(self) -> None:
        """Let the kernel stop stamping, if nobody else wants it."""
        if self._keeper is not None:
            self._keeper.close()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore.NetworkStream:
        """A TCP connection; httpcore's exceptions where there is none."""
        source = None if local_address is None else (local_address, 0)
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            sock = socket.create_connection((host, port), timeout, source_address=source)
            for option in socket_options or ():
                sock.setsockopt(*option)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return StampedStream(sock, self._kernel and _ask_for_stamps(sock))


class StampedTransport(httpx.HTTPTransport):
    """httpx's own transport over connections whose reads are stamped, one connection a request.

    A connection of its own measures all requests alike; and llama.cpp promises to keep one open after a stream, yet
    closes it often, which would look like a failed request.
    """

    def __init__(self, verify: ssl.SSLContext, kernel: bool = True) -> None:
        super().__init__(verify=verify)
        self._backend = StampingBackend(kernel)
        # httpx offers no way to hand in the backend that httpcore takes; all else of the transport is as it comes.
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=self._backend,
        )

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._backend.close()


@functools.cache
def kernel_stamps() -> bool:
    """Whether this kernel stamps what arrives."""
    if sys.platform != "linux" or platform.machine() not in _GENERIC:
        return False
    with socket.socket() as sock:
        return _ask_for_stamps(sock)


def _ask_for_stamps(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _clocks() -> tuple[int, int]:
    """The monotonic and the realtime clock, ns, of the same instant: read anew where something came in between."""
    for _ in range(3):
        before = time.monotonic_ns()
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.monotonic_ns()
        if after - before < _TOGETHER_NS:
            break
    return (before + after) // 2, real


@contextlib.contextmanager
def _mapped(late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    """Errors of a socket as httpcore's."""
    try:
        yield
    except TimeoutError as error:
        raise late(error) from error
    except OSError as error:
        raise failed(error) from error
