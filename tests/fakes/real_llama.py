"""A real llama.cpp with the demo's model that is not qtop's own: started in the background, or by a ``qtop serve``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fakes.crash import environment
from tests.fakes.restarts import await_health, running_with

from qtop.demo.server import free_port

PATIENCE_S = 60.0


class Llama:
    """Its folder ``state`` holds its log and the journal; ``before``: a command that starts it."""

    def __init__(self, model: Path, state: Path, before: Sequence[str] = ()) -> None:
        self.port, self.state = free_port(), state
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"--model": str(model), "--port": str(self.port), "--parallel": "4", "--ctx-size": "4096"}
        more = [word for pair in own.items() for word in pair]
        self.words = [sys.executable, "-P", "-m", "qtop.demo.serve", *more, "--threads", "1", "--log", "-"]
        self.log = state / "llama.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*before, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(state),
                start_new_session=True,
            )
        self.await_health()

    def await_health(self) -> None:
        """Returns once it answers."""
        await_health(self.port, self.log, patience=PATIENCE_S)

    def _each(self) -> list[tuple[int, list[str]]]:
        return running_with(str(self.port), "serve")

    def now(self) -> list[list[str]]:
        """The words of every server there is on its port."""
        return [words for _, words in self._each()]

    def with_words(self, flag: str, value: str) -> list[str]:
        """The words it was started with, but for one."""
        words = list(self.words)
        words[words.index(flag) + 1] = value
        return words

    def qtop(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit status, JSON document ({} without one), standard error."""
        command = [sys.executable, "-m", "qtop", *words, "--json"]
        if words[0] != "undo":
            command += ["--url", self.url]
        done = subprocess.run(
            command, env=environment(self.state), capture_output=True, text=True, timeout=200, check=False
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def stop(self) -> None:
        """Nothing of it is left."""
        self._child.kill()
        for pid, _ in self._each():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()
