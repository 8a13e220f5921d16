"""Signals while values are being put back: an impatient second Ctrl-C must not leave half of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class OneInterrupt:
    """Lets the first SIGINT, SIGTERM or SIGHUP interrupt what runs inside and no further one, and none after ``hold``:
    putting back must not be cut short. One that was held back is delivered at the end.

    Signals reach Python in the main thread; elsewhere there is nothing to hold off.
    """

    def __init__(self) -> None:
        self._olds: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._heard = self._holding = False
        self._held: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._olds[number] = handler
                    signal.signal(number, self._take)
        return self

    def hold(self) -> None:
        """From here on, interrupt nothing."""
        self._holding = True

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._holding:
            self._held = number
        elif not self._heard:
            self._heard = True
            self._olds[number](number, frame)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._olds.items():
            signal.signal(number, handler)
        if self._held is not None and not self._heard:
            self._olds[self._held](self._held, None)
