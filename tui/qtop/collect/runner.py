"""Collectors on daemon threads of their own, each with a latest-wins mailbox: a reading that hangs holds up nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from qtop.clock import mono
from qtop.sample import NOT_YET, Absent, Why

T = TypeVar("T")

STALE_PERIODS = 3
"""A mailbox not refilled for so many periods (and 2 s) is stale."""


class Worker(Generic[T]):
    """Calls ``read`` each time it is poked; the last answer lies in the mailbox.

    NVML can hang on a sick GPU and a server can accept and never answer: then the mailbox goes stale, and everything
    else goes on. The thread is a daemon, so that it cannot hold up quitting either.
    """

    def __init__(self, name: str, read: Callable[[], T | Absent], every: int = 1) -> None:
        self.name = name
        self._read = read
        self._every = every
        self._pokes = 0
        self._wake = threading.Event()
        self._done = threading.Event()
        self._stopped = False
        self._box: T | Absent = NOT_YET
        self._stamp = mono()
        self._thread = threading.Thread(target=self._loop, name=f"qtop-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread; nothing is read before the first poke."""
        self._thread.start()

    def poke(self) -> None:
        """Ask for a reading now; while one is under way this changes nothing."""
        self._pokes += 1
        if (self._pokes - 1) % self._every == 0:
            self._done.clear()
            self._wake.set()

    def wait(self, timeout: float) -> bool:
        """Wait until the last poke is answered, at most ``timeout`` seconds; True if it is."""
        return self._done.wait(timeout)

    def latest(self, period: float) -> T | Absent:
        """What the mailbox holds; Absent(STALE) when it is too old for a worker poked every ``period`` seconds."""
        age = mono() - self._stamp
        if age > max(STALE_PERIODS * period * self._every, period + 2.0):
            return Absent(Why.STALE, f"{self.name}: no reading for {age:.0f} s")
        return self._box

    def stop(self) -> None:
        """Tell the thread to end after its present reading; does not wait for it."""
        self._stopped = True
        self._wake.set()

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopped:
                return
            try:
                self._box = self._read()
            except Exception as error:
                told = " ".join(f"{self.name}: {type(error).__name__}: {error}".split())
                self._box = Absent(Why.FAILED, told[:120])
            self._stamp = mono()
            self._done.set()
