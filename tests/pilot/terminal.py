"""qtop in a real pseudo-terminal: what it draws as a screen (pyte), what it leaves behind, what happens to its
processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyte

_STYLE = re.compile(r"\x1b\[[\d;]*m")
QTOP = (sys.executable, "-m", "qtop")
PATIENCE_S = 20.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment of its own for qtop: nothing of the user's settings, journal or terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME", "PYTHONPATH") if name in os.environ}
    return {
        **kept,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        **more,
    }


class Terminal:
    """A command in a pseudo-terminal of its own; its output is read all the time unless ``reading`` is cleared."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        size: tuple[int, int] = (120, 40),
        cwd: Path | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        self.size = size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        self.reading = threading.Event()
        self.reading.set()
        self._hung_up = False
        self.child = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that a dropped line sends SIGHUP
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the command."""
        return self.child.pid

    def _read(self) -> None:
        while not self._hung_up:
            if not self.reading.wait(0.1):
                continue
            try:
                if not select.select([self.master], [], [], 0.1)[0]:
                    continue
                data = os.read(self.master, 65536)
            except (OSError, ValueError):
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def rows(self) -> list[str]:
        """What stands on the screen now."""
        with self._lock:
            # Not pyte's own ``display``: it fails on the second half of a wide character whose first was written over.
            screen = self._screen
            lines = [[screen.buffer[y][x].data for x in range(screen.columns)] for y in range(screen.lines)]
        return ["".join(line).rstrip() for line in lines]

    def text(self) -> str:
        """The screen as one string."""
        return "\n".join(self.rows())

    def verdict(self) -> str:
        """Row 2."""
        return self.rows()[1]

    def output(self) -> str:
        """All that was ever written, escapes included."""
        with self._lock:
            return self.raw.decode(errors="replace")

    def forget(self) -> None:
        """Blank the picture: what stands there afterwards has been drawn since."""
        with self._lock:
            self._screen.reset()

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def click(self, x: int, y: int) -> None:
        """Press and release the left button on this cell, counted from 1 (SGR mouse report)."""
        self.press(f"\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m")

    def resize(self, columns: int, lines: int) -> None:
        """The terminal gets another size."""
        with self._lock:
            self._screen.resize(lines, columns)
        self.size = (columns, lines)
        self.announce(columns, lines)

    def announce(self, columns: int, lines: int) -> None:
        """Tell the command of a size; the picture here stays as it is."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def waiting(self) -> int:
        """Bytes that were written and not read yet."""
        return int(struct.unpack("i", fcntl.ioctl(self.master, termios.FIONREAD, b"\0" * 4))[0])

    def hang_up(self) -> None:
        """The line drops: nobody holds the terminal's other side any more."""
        self._hung_up = True
        self._thread.join(2.0)
        os.close(self._slave)
        os.close(self.master)
        self._slave = self.master = -1

    def until(self, what: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        """Wait until something holds; fails with the screen."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError("it did not come about; the screen:\n" + self.text())
            time.sleep(0.05)

    def until_shows(self, text: str, seconds: float = PATIENCE_S) -> None:
        """Wait until this text stands on the screen."""
        self.until(lambda: text in self.text(), seconds)

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the command's end; its exit status."""
        return self.child.wait(seconds)

    def attributes(self) -> list[Any]:
        """The terminal's modes now."""
        return termios.tcgetattr(self._slave)

    def left_as_it_was(self) -> None:
        """The terminal is as before: its modes, the main screen, the cursor shown, the style plain, no mouse reports or
        paste marks."""
        assert self.attributes() == self.before
        raw = self.output()
        for on, off in (
            ("\x1b[?1049h", "\x1b[?1049l"),
            ("\x1b[?25l", "\x1b[?25h"),
            ("\x1b[?1000h", "\x1b[?1000l"),
            ("\x1b[?1003h", "\x1b[?1003l"),
            ("\x1b[?2004h", "\x1b[?2004l"),
            ("\x1b[?7l", "\x1b[?7h"),
        ):
            assert on in raw, f"{on!r} was never sent"
            assert raw.rindex(off) > raw.rindex(on), f"{on!r} still stands"
        style = list(_STYLE.finditer(raw))
        assert not style or style[-1][0] == "\x1b[m", f"the style {style[-1][0]!r} still stands"

    def close(self) -> None:
        """Kill the command if it still runs, and let the terminal go."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait(10.0)
        self._hung_up = True
        self._thread.join(2.0)
        for fd in (self.master, self._slave):
            if fd >= 0:
                os.close(fd)


@contextlib.contextmanager
def terminal(command: Sequence[str], environ: Mapping[str, str], **more: Any) -> Iterator[Terminal]:
    """A command in a terminal, killed at the end whatever happens."""
    one = Terminal(command, environ, **more)
    try:
        yield one
    finally:
        family = children(one.pid)
        one.close()
        for process in family:  # a test that failed must not leave anything running
            with contextlib.suppress(psutil.Error):
                process.kill()


def children(pid: int) -> list[psutil.Process]:
    """All descendants of a process that run now."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def all_gone(processes: Sequence[psutil.Process], seconds: float) -> bool:
    """True once none of these processes runs any more (a pid that was given to another process does not count)."""
    deadline = time.monotonic() + seconds
    while any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
