"""Stamps of the kernel, and a request that leaves in one piece."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest

from qtop.probe.wire import StampedStream, StampingBackend, kernel_stamps

needs_kernel = pytest.mark.skipif(not kernel_stamps(), reason="this kernel does not stamp what arrives")
TLS = Path(__file__).parents[1] / "data" / "tls"
LATE_S = 0.2


@pytest.fixture(scope="module", autouse=True)
def stamping() -> Iterator[None]:
    """The kernel stamps already: it begins a moment after the first socket asks for it."""
    backend = StampingBackend()
    time.sleep(0.2)
    yield
    backend.close()


@contextmanager
def served(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection on loopback, answered on a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def _wait_for_the_end(connection: socket.socket) -> None:
    connection.recv(1)


def connect(port: int, kernel: bool = True) -> StampedStream:
    stream = StampingBackend(kernel).connect_tcp("127.0.0.1", port, timeout=10)
    assert isinstance(stream, StampedStream)
    return stream


@needs_kernel
def test_bytes_that_are_read_late_have_the_stamp_of_their_arrival() -> None:
    sent: list[float] = []

    def talk(connection: socket.socket) -> None:
        sent.append(time.monotonic())
        connection.sendall(b"token")
        connection.recv(1)

    with served(talk) as port:
        stream = connect(port)
        while not sent:
            time.sleep(0.001)
        time.sleep(LATE_S)
        assert stream.read(100, 10) == b"token"
        read = time.monotonic()
        stream.close()
    assert stream.by_kernel
    # The disturbance is 200 ms: who stamps after reading is off by all of it.
    assert read - sent[0] >= LATE_S
    assert abs(stream.stamp - sent[0]) < LATE_S / 1.5
    assert stream.lag_s == pytest.approx(read - stream.stamp, abs=0.05)


def test_without_the_kernel_the_stamp_is_that_of_the_read() -> None:
    with served(lambda connection: connection.sendall(b"token")) as port:
        stream = connect(port, kernel=False)
        time.sleep(LATE_S)
        before = time.monotonic()
        assert stream.read(100, 10) == b"token"
        assert before <= stream.stamp <= time.monotonic()
        assert not stream.by_kernel and stream.lag_s == 0
        stream.close()


@needs_kernel
@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_clock_that_was_set_does_not_bend_a_stamp(step_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.clock_gettime_ns
    with served(lambda connection: connection.sendall(b"token")) as port:
        stream = connect(port)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: real(clock) + step_s * 10**9)
        before = time.monotonic()
        assert stream.read(100, 10) == b"token"
        assert not stream.by_kernel
        assert before - 0.01 <= stream.stamp <= time.monotonic()
        stream.close()


def test_head_and_body_leave_together() -> None:
    got: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        got.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with served(talk) as port:
        before = time.monotonic()
        with httpcore.ConnectionPool(network_backend=StampingBackend()) as pool:
            answer = pool.request("POST", f"http://127.0.0.1:{port}/x", content=b"body")
            assert answer.content == b"ok"
            stream = answer.extensions["network_stream"]
    assert got[0].startswith(b"POST /x ") and got[0].endswith(b"body")
    assert before <= stream.sent_at <= time.monotonic()


def test_a_request_without_a_body_is_not_held_back() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 204 No\r\n\r\n")

    with served(talk) as port, httpcore.ConnectionPool(network_backend=StampingBackend()) as pool:
        assert pool.request("POST", f"http://127.0.0.1:{port}/x").status == 204


def test_errors_are_httpcores() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpcore.ConnectError):
        StampingBackend().connect_tcp("127.0.0.1", port, timeout=1)
    with served(_wait_for_the_end) as port:
        stream = connect(port)
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(10, 0.05)
        stream.close()


def test_tls_is_stamped_by_the_reader() -> None:
    certificate = TLS / "localhost.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, TLS / "localhost.key")

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(b"token")
            secure.recv(1)

    with served(talk) as port:
        secure = connect(port).start_tls(ssl.create_default_context(cafile=str(certificate)), "localhost", 10)
        assert isinstance(secure, StampedStream)
        assert secure.read(100, 10) == b"token"
        assert not secure.by_kernel and secure.stamp > 0
        assert secure.get_extra_info("ssl_object") is not None
        secure.close()


class Disturbed:
    """A socket whose thread loses the interpreter between taking a stamp and sending."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> int:
        time.sleep(LATE_S)
        return self._sock.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@needs_kernel
def test_a_request_has_left_when_the_kernel_says_so() -> None:
    arrived: list[float] = []

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        arrived.append(time.monotonic())
        connection.sendall(b"token")

    with served(talk) as port:
        stream = connect(port)
        stream._sock = Disturbed(stream._sock)  # type: ignore[assignment]
        begun = time.monotonic()
        stream.write(b"POST / HTTP/1.1\r\n\r\n")
        stream.write(b"body")
        assert stream.read(10, 10) == b"token"
        stream.close()
    assert stream.sent_at is not None
    assert stream.sent_at - begun >= LATE_S / 1.5, "the stamp taken before is that of the disturbance"
    assert abs(stream.sent_at - arrived[0]) < LATE_S / 1.5


def test_a_long_request_is_stamped_where_it_begins() -> None:
    def talk(connection: socket.socket) -> None:
        left = 300_000
        while left > 0:
            left -= len(connection.recv(65536))
        connection.sendall(b"token")

    with served(talk) as port:
        stream = connect(port)
        begun = time.monotonic()
        stream.write(b"x" * 300_000)
        ended = time.monotonic()
        assert stream.read(10, 10) == b"token"
        stream.close()
    assert stream.sent_at is not None and begun <= stream.sent_at <= ended
