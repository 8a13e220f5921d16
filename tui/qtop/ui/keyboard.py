"""The keyboard, read when there is something to read.

Textual's driver looks up from its wait ten times a second, to see whether it is to end and whether an Escape stands
alone: 1 ms of CPU time a second, as much as everything that qtop reads of a host.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Any

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App
    from textual.driver import Driver

    _Base = App[None]
else:
    _Base = object

UNDECIDED_S = 0.1
"""How often to look up while what was read may be the beginning of more."""


class _Bell(threading.Event):
    """An event that also wakes whoever waits for a descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.heard, self._rung = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self) -> None:
        """Set it, and wake."""
        super().set()
        with contextlib.suppress(BlockingIOError):  # full: it has been rung already
            os.write(self._rung, b"!")

    def clear(self) -> None:
        """Unset it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.heard, 64)
        super().clear()

    def __del__(self) -> None:
        """Descriptors are plain numbers to Python: nobody else would close them."""
        os.close(self.heard)
        os.close(self._rung)


class PatientDriver(LinuxDriver):
    """Textual's driver for Linux, whose reader of the keyboard sleeps until a key comes or it is to end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exit_event: _Bell = _Bell()

    def run_input_thread(self) -> None:
        """Wait for input and pass it on, as the method that this replaces does."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")().decode
        with selectors.PollSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self.exit_event.heard, selectors.EVENT_READ)
            try:
                while not self.exit_event.is_set():
                    undecided = getattr(parser, "_timeout_time", 0.0) is not None
                    ready = selector.select(UNDECIDED_S if undecided else None)
                    if any(key.fd == self.fileno for key, _ in ready):
                        data = os.read(self.fileno, 4096)
                        if not data:
                            selector.unregister(self.fileno)  # it is at its end, and would be ready for ever
                        text = decode(data)
                        for event in parser.feed(text) if text else ():
                            self.process_message(event)
                    for event in parser.tick():
                        self.process_message(event)
            finally:
                with contextlib.suppress(EOFError, ParseError):
                    for _ in parser.feed(""):
                        pass


class KeyboardMixin(_Base):
    """Gives a Textual App that driver, where Textual would take its own."""

    def get_driver_class(self) -> type[Driver]:
        """The driver for this terminal."""
        found = super().get_driver_class()
        return PatientDriver if found is LinuxDriver else found
