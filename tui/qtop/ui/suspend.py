"""To the shell and back: Ctrl-Z, ``fg``, and stops that come from outside.

Textual's driver handles SIGTSTP and SIGCONT inside the signal handler, where a write to its queue may find the queue's
lock held, and takes every SIGCONT for the end of a Ctrl-Z: after a plain ``kill -STOP`` it would start a second reader
of the keyboard and forget how the terminal was before. Here both are handled between two turns of the event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.driver import Driver


class Suspension:
    """Gives the terminal back while the process is stopped, and takes it again when it goes on."""

    def __init__(self, driver: Driver, loop: asyncio.AbstractEventLoop) -> None:
        self._driver = driver
        self._away = False
        if driver.can_suspend:
            loop.add_signal_handler(signal.SIGTSTP, self._stop)
            loop.add_signal_handler(signal.SIGCONT, self._go_on)

    def _stop(self) -> None:
        self._driver.suspend_application_mode()
        self._away = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        """The shell may have set the terminal up for itself in between, also where nobody asked us to stop."""
        if not self._away:
            self._driver.suspend_application_mode()
        self._away = False
        self._driver.resume_application_mode()
