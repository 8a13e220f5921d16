"""The helper as this process sees it: a child that may ask for a password, then speaks a line of JSON at a time.

What it and sudo write to standard error is kept back: of it a reason is told, in the one line that a user reads. The
prompt for a password goes to the terminal itself and does not pass here.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from qtop.errors import Refused

LINE = 4 << 20
"""Bytes of one message at most."""
KEPT = 4096
"""Bytes of standard error that a reason is looked for in."""
LEAVE_S = 5.0
"""For the helper to end once nobody talks to it any more."""
MOST_SAID = 160
PUT_BACK = "`qtop undo` puts back what it did."
_NOISE = ("sudo: ", "Error executing command as another user: ", "qtop's helper: ")
_REPORTED = "This incident "
"""What sudo and pkexec say last, and a user need not be told."""
_TOLD = {
    "Error getting authority": "polkit does not run here",
    "Error creating textual authentication agent": "there is no terminal on which to ask for a password",
    "Not authorized": "not authorized",
}
"""What pkexec says, in words; first what its line begins with."""


class Lost(Refused):
    """The helper has ended, does not answer, or cannot be understood: it is of no more use."""


class HelperProcess:
    """One helper, from its start to its end."""

    def __init__(self, command: Sequence[str]) -> None:
        """OSError where the command cannot be started."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = (
            self._process.stdin.fileno(),
            self._process.stdout.fileno(),
            self._process.stderr.fileno(),
        )
        self._heard = bytearray()
        self._noise = bytearray()
        self._poll = select.poll()
        for fd in (self._stdout, self._stderr):
            self._poll.register(fd, select.POLLIN)

        os.set_blocking(self._stdin, False)

    def tell(self, message: dict[str, Any], seconds: float = 30.0) -> None:
        """Send one message; Lost when it has ended, or takes none in that time."""
        data = json.dumps(message).encode() + b"\n"
        writable = select.poll()
        writable.register(self._stdin, select.POLLOUT)
        try:
            while data and writable.poll(seconds * 1000.0):
                data = data[os.write(self._stdin, data) :]
        except OSError:
            raise Lost("the helper has ended", PUT_BACK) from None
        if data:
            raise Lost("the helper does not listen", PUT_BACK)

    def hear(self, seconds: float) -> dict[str, Any]:
        """One message; Lost when none comes in time, or what comes is none."""
        deadline = time.monotonic() + seconds
        while (end := self._heard.find(b"\n")) < 0:
            if len(self._heard) > LINE:
                raise Lost("the helper cannot be understood", PUT_BACK)
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                why = "did not answer in time" if left <= 0 else "has ended"
                raise Lost(f"the helper {why}", PUT_BACK)
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Lost("the helper cannot be understood", PUT_BACK)
        return message

    def _read(self, seconds: float) -> bool:
        """Take in what has come, waiting for it; False at the end of its output."""
        for fd, _ in self._poll.poll(seconds * 1000.0):
            data = os.read(fd, 1 << 16)
            if fd == self._stdout:
                self._heard += data
                if not data:
                    return False
            elif data:
                self._noise = (self._noise + data)[-KEPT:]
            else:
                self._poll.unregister(fd)
        return True

    def close(self, patience: float = LEAVE_S) -> str:
        """Let it end, which it does by itself once nobody talks to it; why it ended by its own account, or ""."""
        process = self._process
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + patience
        # It must not stand in a full pipe.
        with suppress(OSError):
            while (left := deadline - time.monotonic()) > 0 and self._read(left):
                pass
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.2, deadline - time.monotonic()))
        if process.poll() is None:
            with suppress(OSError, subprocess.TimeoutExpired):  # it is root's: the kernel may not let us
                process.kill()
                process.wait(1.0)
        with suppress(OSError, ValueError):
            os.set_blocking(self._stderr, False)
            self._noise = (self._noise + os.read(self._stderr, 1 << 16))[-KEPT:]
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return self._reason()

    def _reason(self) -> str:
        """The last thing said to standard error, as one clause."""
        lines = []
        for line in self._noise.decode("utf-8", "replace").splitlines():
            said = line.strip()
            for noise in _NOISE:
                said = said.removeprefix(noise)
            if said and not said.startswith(_REPORTED):
                lines.append(said)
        for begin, told in _TOLD.items():
            if any(line.startswith(begin) for line in lines):
                return told
        last = lines[-1] if lines else ""
        return "".join(char if char.isprintable() else " " for char in last)[:MOST_SAID].rstrip(". ")
