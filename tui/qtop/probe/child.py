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
from qtop.probe.client import ProbeClient
from qtop.probe.fill import lengthened
from qtop.probe.load import Load
from qtop.probe.messages import ProbeEvent, ProbeRequest

FLUSH_S = 0.05
"""Events go out at most this often: the parent draws at 20 Hz at best, and each event has its own stamp."""


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
        request = lengthened(request)
        with ProbeClient(request) as client:
            Load(client, request, writer.put).run()
    except QtopError as error:
        writer.put(ProbeEvent(kind="error", error=error.message))
    writer.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the stdin thread still reads, and nothing is left to unwind
