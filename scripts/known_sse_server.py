#!/usr/bin/env python3
"""A server that streams tokens at known instants and keeps the true stamps of what it sent; for bench_probe.

known_sse_server.py --log FILE [--port N] [--mode together|staggered] [--rate N] [--ttft MS] ...

It speaks as much of vLLM's HTTP as load tools and qtop ask for. One thread, one epoll, sockets that do not block, no
delay of small packets, no garbage collection, real-time priority where that is allowed. Before and after each send() it
reads CLOCK_MONOTONIC; when a request's last byte came in it learns from the kernel (SO_TIMESTAMPNS) where that can be
had. All stamps are written to the log once standard input closes. It prints one line of JSON (url, pid, stamps,
priority) when it answers. The text of an answer begins with its request's number (" #17"), and so does its
``usage.prompt_tokens`` (17), so that results can be told apart. An answer never ends before ``max_tokens``, with
``ignore_eos`` or without. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_probe_schedule import MODES, Plan, Timetable
from known_sse_http import Frames, Request, Response, answer, frames, parse

LONGEST_S = 3600.0
"""Whatever is asked for, it ends after this."""
MOST_REQUESTS = 20_000
SPIN_S = 60e-6
"""It sleeps until so shortly before an instant and then looks at the clock; a wake-up takes about this long."""
SO_TIMESTAMPNS = 35
"""Of Linux on all architectures but a few; the socket module does not have it."""
SCM_TIMESTAMPNS = SO_TIMESTAMPNS
PRIORITY = 10
PR_SET_TIMERSLACK = 29


@dataclass
class Stream:
    """One answer: its frames, when they are due (monotonic seconds) and when they went out (monotonic ns)."""

    number: int
    port: int
    path: str
    stamp: str
    """Where ``received`` is from: "kernel" or "user"."""
    received: int
    """When the request's last byte was there, monotonic ns."""
    received_unix: int
    read: int
    """When this process had read it, monotonic ns."""
    frames: Frames
    due: list[float]
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    blocked: int = 0
    """Sends that the socket did not take whole: the client does not read."""


@dataclass
class Connection:
    """One client's connection; ``rest`` could not be sent yet."""

    socket: socket.socket
    port: int
    data: bytearray = field(default_factory=bytearray)
    rest: bytearray = field(default_factory=bytearray)
    open: bool = True


class Server:
    """Accepts, answers, and sends each frame at its instant."""

    def __init__(self, plan: Plan, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._table = Timetable(plan, time.monotonic())
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(0, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._queue: list[tuple[float, int, int]] = []
        self._running: dict[int, tuple[Stream, Connection]] = {}
        self.streams: list[Stream] = []
        self.tokens = 0
        self.stamps = "kernel"
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # what it accepts takes it over
        except OSError:
            self.stamps = "user"

    def run(self) -> None:
        """Until standard input closes."""
        end = time.monotonic() + LONGEST_S
        while True:
            self._send_due()
            now = time.monotonic()
            if now > end:
                return
            wait = min(self._queue[0][0] - now - SPIN_S if self._queue else 1.0, 1.0)
            # epoll's own time-out is in whole milliseconds, that of select in microseconds.
            if wait <= 0.0:
                ready = self._poll.poll(0)
            else:
                ready = self._poll.poll(0) if select.select([self._poll], [], [], wait)[0] else []
            for fd, event in ready:
                if fd == 0:
                    if not os.read(0, 4096):
                        return
                elif fd == self._listener.fileno():
                    self._accept()
                else:
                    self._serve(fd, event)

    def _send_due(self) -> None:
        while self._queue:
            due, number, index = self._queue[0]
            if due > time.monotonic():
                return
            heapq.heappop(self._queue)
            if number in self._running:
                self._send_frame(number, index)

    def _send_frame(self, number: int, index: int) -> None:
        stream, connection = self._running[number]
        frame = stream.frames.at(index)
        stream.before.append(time.monotonic_ns())
        whole = self._send(connection, frame)
        stream.after.append(time.monotonic_ns())
        stream.blocked += not whole
        self.tokens += 1
        if index + 1 < len(stream.due):
            heapq.heappush(self._queue, (stream.due[index + 1], number, index + 1))
        else:
            del self._running[number]

    def _send(self, connection: Connection, data: bytes) -> bool:
        """Whether the kernel took all of it at once."""
        if not connection.open:
            return False
        if not connection.rest:
            try:
                sent = connection.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(connection)
                return False
            if sent == len(data):
                return True
            data = data[sent:]
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)
        connection.rest += data
        return False

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client, address = self._listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.stamps == "kernel":
                    client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                self._connections[client.fileno()] = Connection(client, address[1])
                self._poll.register(client, select.EPOLLIN)
                self._serve(client.fileno(), select.EPOLLIN)  # the request is often there by now

    def _serve(self, fd: int, event: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:
            return
        if event & select.EPOLLOUT and connection.rest:
            rest, connection.rest = bytes(connection.rest), bytearray()
            if self._send(connection, rest):
                self._poll.modify(connection.socket, select.EPOLLIN)
        try:
            data, extra, _, _ = connection.socket.recvmsg(65536, 64)
        except BlockingIOError:
            return
        except OSError:
            data, extra = b"", []
        read, unix = time.monotonic_ns(), time.time_ns()
        if not data:
            self._close(connection)
            return
        connection.data += data
        came = _kernel_stamp(extra)
        while (request := parse(connection.data)) is not None:
            del connection.data[: request.size]
            self._handle(connection, request, came, read, unix)

    def _handle(self, connection: Connection, request: Request, came: int | None, read: int, unix: int) -> None:
        reply = answer(request, len(self._running), self.tokens, len(self.streams) + 1)
        if not isinstance(reply, Response) and len(self.streams) >= MOST_REQUESTS:
            reply = Response(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", close=True)
        if isinstance(reply, Response):
            self._send(connection, reply.data)
            if reply.close and connection.open:
                self._close(connection)
            return
        # The kernel's stamp is of CLOCK_REALTIME: the distance of the two clocks was read a moment ago.
        stamp, came = ("user", unix) if came is None else ("kernel", came)
        received = came - unix + read
        number = len(self.streams) + 1
        due = self._table.due(number, received / 1e9, reply.tokens)
        made = frames(reply, number)
        stream = Stream(number, connection.port, reply.path, stamp, received, came, read, made, due)
        self.streams.append(stream)
        if reply.stream:
            self._send(connection, made.head)
        else:  # all of it at once, when its last token is due
            stream.due = due[-1:]
        self._running[number] = (stream, connection)
        heapq.heappush(self._queue, (stream.due[0], number, 0))

    def _close(self, connection: Connection) -> None:
        connection.open = False
        fd = connection.socket.fileno()
        self._connections.pop(fd, None)
        self._poll.unregister(fd)
        connection.socket.close()
        for number, (_, owner) in list(self._running.items()):
            if owner is connection:
                del self._running[number]

    def log(self, plan: Plan, priority: str) -> dict[str, object]:
        """What is written when it is over; all stamps in ns of CLOCK_MONOTONIC but those called unix."""
        return {
            "schema": 1,
            "plan": plan.__dict__,
            "stamps": self.stamps,
            "priority": priority,
            "unix_minus_monotonic": time.time_ns() - time.monotonic_ns(),
            "requests": [
                {
                    "number": one.number,
                    "port": one.port,
                    "path": one.path,
                    "stamp": one.stamp,
                    "received": one.received,
                    "received_unix": one.received_unix,
                    "read": one.read,
                    "due": [round(instant * 1e9) for instant in one.due],
                    "before": one.before,
                    "after": one.after,
                    "blocked": one.blocked,
                }
                for one in self.streams
            ],
        }


def _kernel_stamp(extra: Sequence[tuple[int, int, bytes]]) -> int | None:
    """When the kernel received the last byte read, in unix ns; None if it did not say."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == SCM_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds) if seconds else None
    return None


def hurry() -> str:
    """Ask for what makes instants exact, as far as that is allowed; says which priority came of it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # sleeps end on time, not up to 50 µs later
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return "real-time"
    with contextlib.suppress(OSError):
        os.nice(-10)
        return "nice -10"
    return "none"


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Plan()
    parser.add_argument("--port", type=int, default=0, metavar="N", help="listen here (a free one)")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE", help="where the true stamps go")
    parser.add_argument("--mode", choices=MODES, default=default.mode, help=f"({default.mode})")
    parser.add_argument("--rate", type=float, default=default.rate, metavar="N", help="tokens a second a stream (50)")
    parser.add_argument("--ttft", type=float, default=default.ttft * 1e3, metavar="MS", help="at the least (100)")
    parser.add_argument("--jitter", type=float, default=default.jitter, metavar="SHARE", help="of a gap (0.2)")
    parser.add_argument("--stall", type=float, default=default.stall * 1e3, metavar="MS", help="added to some (80)")
    parser.add_argument("--stall-every", type=int, default=default.stall_every, metavar="N", help="gaps (40)")
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="(1)")
    parsed = parser.parse_args(arguments)
    if not (0.1 <= parsed.rate <= 10_000 and 0 <= parsed.ttft <= 60_000 and 0 <= parsed.jitter < 1):
        parser.error("--rate is 0.1 to 10000, --ttft 0 to 60000, --jitter 0 to less than 1")
    if not (0 <= parsed.stall <= 60_000 and parsed.stall_every >= 0):
        parser.error("--stall is 0 to 60000, --stall-every 0 or more")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, then write the log."""
    wanted = options(arguments)
    plan = Plan(
        mode=wanted.mode,
        ttft=wanted.ttft / 1e3,
        rate=wanted.rate,
        jitter=wanted.jitter,
        stall=wanted.stall / 1e3,
        stall_every=wanted.stall_every,
        seed=wanted.seed,
    )
    server = Server(plan, wanted.port)
    priority = hurry()
    told = {"url": f"http://127.0.0.1:{server.port}", "pid": os.getpid(), "stamps": server.stamps}
    print(json.dumps(told | {"priority": priority}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    wanted.log.write_text(json.dumps(server.log(plan, priority)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
