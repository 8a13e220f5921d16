"""Wake-up latency of a process beside the server: how late the kernel wakes a sleeper on this host right now."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from qtop.clock import mono
from qtop.sample import NOT_YET, Absent, WakeupSample, Why

PERIOD_MS = 25
"""A sleeper of 5 ms costs 1.1 % of a core; 25 ms gives 40 readings a second for a quarter of that."""
KEEP = 400
"""Readings kept between two calls: ten seconds of them."""
SKIP_S = 2.0
"""After a stop, what the child says for so long may tell of the stop itself: it reports once a second."""


class WakeupCollector:
    """Runs the child and gathers what it reports; ``read`` hands over the readings since the last call."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._child: subprocess.Popen[str] | None = None
        self._late: deque[int] = deque(maxlen=KEEP)
        self._heard = 0.0
        self._retry_at = 0.0
        self._deaf_until = 0.0
        self._closed = False
        self._lock = threading.Lock()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [self._python, "-I", "-S", "-B", str(Path(__file__).with_name("wakeup_child.py")), str(PERIOD_MS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # a Ctrl-C or SIGHUP of the terminal is the parent's to handle
        )
        self._heard = mono()
        threading.Thread(target=self._listen, args=(self._child,), name="wakeup", daemon=True).start()

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            try:
                late = [int(word) for word in line.split()]
            except ValueError:
                continue  # cut by the child's end
            with self._lock:
                self._heard = mono()
                if self._heard >= self._deaf_until:
                    self._late.extend(late)
        child.wait()

    def read(self) -> WakeupSample | Absent:
        """The overshoots since the last call; starts the child at the first, and again 10 s after it died."""
        if self._closed:
            return Absent(Why.LOST, "stopped")
        child = self._child
        if child is None or child.poll() is not None:
            if mono() < self._retry_at:
                return Absent(Why.LOST, "the wake-up probe ended; starting it again soon")
            self._retry_at = mono() + 10.0
            try:
                self._start()
            except OSError as error:
                return Absent(Why.FAILED, f"the wake-up probe does not start: {error.strerror}")
            if self._closed:  # meanwhile, from another thread
                self.close()
            return NOT_YET
        with self._lock:
            late = tuple(self._late)
            self._late.clear()
        if not late and mono() - self._heard > 3.0:
            return Absent(Why.STALE, "the wake-up probe is silent")
        return WakeupSample(at=mono(), period_ms=PERIOD_MS, late_us=late)

    def skip(self) -> None:
        """Forget what was measured across a stop of qtop: the child may have been stopped with it."""
        with self._lock:
            self._late.clear()
            self._deaf_until = mono() + SKIP_S

    def pids(self) -> tuple[int, ...]:
        """The child, while there is one."""
        child = self._child
        return (child.pid,) if child is not None else ()

    def close(self) -> None:
        """End the child."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.kill()
            child.wait()
