"""The process that runs a test prompt: ``python -m qtop.probe.child``, one ProbeRequest on stdin, events on stdout.

Inside the dashboard's process the stamps would measure its drawing. stdin stays open for as long as the test is
wanted: when it reaches its end, because the parent cancelled or died in whatever way, this process ends at once, and
with it the connection, so that the server stops generating.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections import deque

import msgspec

from qtop.errors import QtopError
from qtop.probe.answer import Delta
from qtop.probe.client import ProbeClient
from qtop.probe.messages import ProbeEvent, ProbeRequest

FLUSH_S = 0.05
"""Events go out at most this often: the parent draws at 20 Hz at best, and each event has its own stamp."""
FAILURES_IN_A_ROW = 2
"""A server that fails two requests running would fail the rest as well."""


class Writer:
    """Writes events from a thread of its own, so that a slow reader cannot hold up the thread that stamps."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: deque[ProbeEvent] = deque()
        self._some = threading.Event()
        self._closing = False
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="probe-writer", daemon=True)
        self._thread.start()

    def put(self, event: ProbeEvent) -> None:
        """Queue an event; never blocks."""
        self._queue.append(event)
        self._some.set()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing = True
        self._some.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            closing = self._closing
            if self._queue:
                self._flush()
            if closing:
                return
            time.sleep(FLUSH_S)

    def _flush(self) -> None:
        lines = bytearray()
        while self._queue:
            lines += self._encoder.encode(self._queue.popleft()) + b"\n"
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os._exit(0)  # nobody reads any more


def run(request: ProbeRequest, writer: Writer) -> None:
    """Send the warm-up requests, then those that count, one after the other; QtopError if none can be sent."""
    with ProbeClient(request) as client:
        for _ in range(request.warmup):
            if not _one(client, 0, writer, warmup=True):
                break
        failures = 0
        for i in range(request.requests):
            failures = 0 if _one(client, i, writer, warmup=False) else failures + 1
            if failures == FAILURES_IN_A_ROW:
                return


def _one(client: ProbeClient, i: int, writer: Writer, *, warmup: bool) -> bool:
    """One request; whether it came to its end."""
    seen = False

    def on_delta(delta: Delta) -> None:
        nonlocal seen
        if warmup:
            return
        if not seen:
            seen = True
            writer.put(ProbeEvent(kind="first", i=i, t=delta.t))
        writer.put(ProbeEvent(kind="delta", i=i, t=delta.t, text=delta.text, reasoning=delta.reasoning))

    # A collection in the middle of a stream would be a gap that the server has no part in. It is done here, between two
    # requests, and what is alive then is set aside.
    gc.collect()
    gc.freeze()
    t_due = time.monotonic()
    writer.put(ProbeEvent(kind="started", i=i, t=t_due, warmup=warmup))
    result = client.ask(on_delta, t_due)
    if not warmup:
        writer.put(ProbeEvent(kind="done", i=i, t=time.monotonic(), result=result))
    return result.ok


def _watch_stdin() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(0)  # the kernel closes the connection; unwinding would first wait for the server's next token


def main() -> int:
    """Run the request on stdin: 0 when it was run (whatever came of it), 2 when it could not be understood."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    threading.Thread(target=_watch_stdin, name="probe-stdin", daemon=True).start()
    writer = Writer(1)
    try:
        request = msgspec.json.decode(line, type=ProbeRequest)
    except msgspec.MsgspecError as error:
        writer.put(ProbeEvent(kind="error", error=f"the request cannot be sent: {error}"))
        writer.close()
        return 2
    gc.disable()
    try:
        run(request, writer)
    except QtopError as error:
        writer.put(ProbeEvent(kind="error", error=error.message))
    writer.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the stdin thread still reads, and nothing is left to unwind
