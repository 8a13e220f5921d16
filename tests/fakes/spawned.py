"""The hostile server as a process of its own, that can be stopped, killed and started again on the same port; and what
whoever starts real servers shares."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parent.parent.parent


class CannotStart(Exception):
    """What was to be started is not there, ended before it answered, or never did; the message holds what it said."""


def with_parent() -> tuple[str, ...]:
    """What a command begins with so that it ends when whoever started it is killed, where the tool for it is there."""
    return ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()


class Spawned:
    """A server of one of the hostile modes on 127.0.0.1; ``name`` runs it under another program's name.

    With ``before`` it is started through another command (nsenter …).
    """

    def __init__(self, mode: str, port: int = 0, name: str = "", before: Sequence[str] = ()) -> None:
        words = ["-S", "-m", "tests.fakes.hostile", "--mode", mode, "--port", str(port)]
        # Started under another name, the interpreter does not find its library by its own path.
        environ = {**os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONDONTWRITEBYTECODE": "1"}
        interpreter = os.path.realpath(sys.executable)
        command = ["bash", "-c", 'exec -a "$0" "$@"', name or interpreter, interpreter, *words]
        self._child = subprocess.Popen([*before, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line.strip().isdigit():
            self.close()
            raise AssertionError(f"the fake server did not start: {line!r}")
        self.port = int(line)
        self.pid = self._child.pid
        self.url = f"http://127.0.0.1:{self.port}"

    def signal(self, number: int) -> None:
        """Send a signal and do not wait for what becomes of it: a killed one stays a zombie until ``close``."""
        self._child.send_signal(number)

    def close(self) -> None:
        """End it and take its exit status."""
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def __enter__(self) -> Spawned:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
