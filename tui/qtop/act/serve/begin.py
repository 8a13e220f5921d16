"""Beginning a ``qtop serve`` beside this program: it goes on when this ends, and is ended by a signal of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qtop.act.serve.control import folder, is_alive, read_state
from qtop.clock import boot_id
from qtop.errors import QtopError

FIRST_PORT, PORTS = 8000, 100
"""vLLM's own, and how many after it are tried."""
ANSWER_S = 15.0
"""How long it may take to say that it is there: a Python that starts on a busy host."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A ``qtop serve`` that was begun from here."""

    name: str
    pid: int
    start: int
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return is_alive({"serve": [self.pid, self.start], "boot": boot_id()})


def free_port() -> int:
    """vLLM's port, or the next that nobody listens on. Errors: QtopError where none is free."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("", port))
            except OSError:
                continue
            return port
    raise QtopError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free")


def begin(words: Sequence[str], name: str, log: Path) -> Begun:
    """Run ``qtop serve -- WORDS`` in a session of its own, until it says that it is there.

    Errors: QtopError with its own line where it ends at once."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "qtop", "serve", "--name", name, "--log", str(log), "--", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        file = folder() / f"{name}.json"
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            state = read_state(file)
            if state is not None and state["serve"][0] == process.pid and is_alive(state):
                return Begun(name, process.pid, int(state["serve"][1]), log)
            if process.poll() is not None:
                said.seek(0)
                told = said.read(4096).decode(errors="replace").strip().splitlines()
                raise QtopError(told[-1].removeprefix("qtop: ") if told else "qtop serve ended at once")
            time.sleep(0.05)
        process.terminate()
    raise QtopError("qtop serve did not begin in time", f"Look at {log}.")


def end(one: Begun) -> None:
    """Ask it to end its server and itself; returns at once. Nothing is done to a process that is another by now."""
    if one.alive:
        os.kill(one.pid, signal.SIGTERM)
