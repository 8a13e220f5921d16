"""``python -m tests.fakes.die_at URL FLAGS apply|undo [PATTERN]``: kill -9 of a change of a server's flags (or of its
undo) at each step, or at those that a pattern finds, then undo.

The real transaction, knob, launcher and journal; no measurement. A step is what Python is about to do to the world once
the journal is begun: a file opened for writing, renamed, linked, removed; a program run, a request to Docker's socket.
Reading is none. At step N of the N-th round the process dies before it (N even), or 5 ms into it, while what it has
started goes on. After each, undo runs in a process of its own. Prints a line of JSON per round:
{"at", "mode", "step", "killed", "said", "words": the server's afterwards}; in the last round nothing is killed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from qtop.act.knobs import knob
from qtop.act.launchers import find
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.clock import wall
from qtop.collect.discover import pid_for_url, server_root
from qtop.errors import QtopError
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Sample, ServerInfo

INTO_S = 0.005
MOST = 100
READERS = ("show", "config", "version")
PATIENCE_S = 20.0
PASSING = tempfile.gettempdir()
"""Found out now: a hook that asks for it would be called by it."""


class Deadly:
    """An audit hook that counts steps and dies at one; "before" it or "into" it."""

    def __init__(self, at: int, mode: str, told: int, pattern: re.Pattern[str]) -> None:
        self._at, self._mode, self._told, self._pattern = at, mode, told, pattern
        self._begun, self._count = False, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        step = self._step(event, arguments)
        if not step or not self._pattern.search(step):
            return
        self._count += 1
        if self._count == self._at:
            os.write(self._told, step.encode()[:200])
            if self._mode == "into":
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, INTO_S)
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def _step(self, event: str, arguments: tuple[Any, ...]) -> str:
        """What is about to be done, "" for what changes nothing."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR) or str(path).startswith("/dev/"):
                return ""
            self._begun = self._begun or str(path).endswith("journal.jsonl")
            passing = str(path).endswith(".lock") or str(path).startswith(PASSING)
            return f"write {path}" if self._begun and not passing else ""
        if not self._begun:
            return ""
        if event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"):
            return f"{event} {arguments[0]}"
        if event == "subprocess.Popen":
            words = [str(word) for word in arguments[1]]
            reads = words[0] == "journalctl" or any(word in READERS or word.startswith("--hash") for word in words)
            return "" if reads else f"run {' '.join(words)}"
        if event == "qtop.docker":
            return f"docker {' '.join(arguments)}" if arguments[0] != "GET" else ""
        return ""


def in_child(work: Callable[[int], str]) -> tuple[int, str]:
    """Run it in a process of its own, with a pipe to tell on: its wait status and what was told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            said = work(writing)
        except QtopError as error:
            said = f"refused: {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:2000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode()
    return os.waitpid(child, 0)[1], told


def frame(url: str, pid: int) -> Frame:
    return Deriver().push(Sample(t=wall(), server=ServerInfo(url=url, engine="llamacpp", pid=pid)))


def now(url: str) -> int:
    """The server's process, once it is up; 0 where it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        pid = pid_for_url(url)
        if pid is not None:
            return pid
        time.sleep(0.02)
    return 0


def words(url: str) -> list[str]:
    """The server's, as its launcher tells; none where it is down."""
    pid = now(url)
    return list(find(server_root(pid))[1]["argv"]) if pid else []


def spy_on_docker() -> None:
    """Requests to its socket raise an audit event of their own."""
    from qtop.act.launchers.engine_api import Engine

    plain = Engine.ask

    def ask(self: Engine, method: str, path: str, *more: Any, **named: Any) -> tuple[int, bytes]:
        sys.audit("qtop.docker", method, path.partition("?")[0])
        return plain(self, method, path, *more, **named)

    Engine.ask = ask  # type: ignore[method-assign]


def main() -> int:
    """0; what was found is for the reader to judge."""
    url, flags, what = sys.argv[1:4]
    pattern = re.compile("".join(sys.argv[4:5]))
    flag_knob = knob("server-flags")
    spy_on_docker()

    def apply() -> str:
        seen = frame(url, now(url))
        run([(flag_knob, lambda: flag_knob.plan(seen, flags))], None, lambda *_: None)
        return ""

    def killed(told: int, at: int, mode: str) -> str:
        if what == "undo":
            apply()
        sys.addaudithook(Deadly(at, mode, told, pattern))
        if what == "undo":
            undo()
            return ""
        return apply()

    for at in range(1, MOST):
        mode = ("before", "into")[at % 2]
        status, told = in_child(partial(killed, at=at, mode=mode))
        _, said = in_child(lambda _: undo().text)
        row = {"at": at, "mode": mode, "step": told, "killed": os.WIFSIGNALED(status), "said": said}
        print(json.dumps({**row, "words": words(url)}), flush=True)
        if not told:
            return 0
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
