"""Servers to be started anew by the tests, and a process that changes them and is killed at a step of its choice."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from tests.fakes.spawned import ROOT

from qtop.act.launchers import bare
from qtop.collect.discover.procfs import argv as argv_of
from qtop.collect.discover.procfs import pids
from qtop.demo.server import answers, free_port
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

PATIENCE_S = 20.0


def await_health(port: int, log: Path, every: float = 0.05, patience: float = PATIENCE_S) -> None:
    """Returns once the server on this port answers; what it logged is told where it does not."""
    deadline = time.monotonic() + patience
    while not answers(port):
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no answer"
        time.sleep(every)


def running_with(word: str, without: str = "") -> list[tuple[int, list[str]]]:
    """Every process that has the one word on its command line, and not the other: its number and its words."""
    found = ((pid, argv_of(pid)) for pid in pids())
    return [
        (pid, list(words))
        for pid, words in found
        if isinstance(words, tuple) and word in words and (not without or without not in words)
    ]


class LlamaLike:
    """A stand-in of llama-server, started as a user would: from a folder, with a log file, in the background."""

    def __init__(
        self,
        folder: Path,
        *more: str,
        environ: dict[str, str] | None = None,
        log: bool = True,
        user: int | None = None,
        python: str = sys.executable,
        engine: str = "llamacpp",
    ) -> None:
        """``user``: as this one, by root."""
        self.folder, self.engine = folder, engine
        self.program = folder / {"llamacpp": "llama-server", "vllm": "vllm"}[engine]
        verb = ["serve", "MODEL"] if engine == "vllm" else []
        shutil.copy(ROOT / "tests/fakes/llama_like.py", self.program)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.words = [python, "-S", str(self.program), *verb, "--port", str(self.port), "--parallel", "4", *more]
        self.log = folder / "server.log"
        out = self.log.open("ab") if log else subprocess.DEVNULL
        self._child = subprocess.Popen(
            self.words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            env=environ,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self.pid = self._child.pid
        self.await_health()

    def await_health(self) -> None:
        """Returns once it answers."""
        await_health(self.port, self.log, 0.01)

    def _each(self) -> list[tuple[int, list[str]]]:
        return running_with(str(self.program), "--help")

    def now(self) -> list[list[str]]:
        """The words of every server there is with this program."""
        return [words for _, words in self._each()]

    def running(self) -> list[int]:
        """Their processes."""
        return [pid for pid, _ in self._each()]

    def slots(self) -> int:
        """Requests that it runs at once, as it says itself."""
        return int(httpx.get(f"{self.url}/props", trust_env=False).json()["total_slots"])

    def frame(self) -> Frame:
        """As the live source would see the one that runs now."""
        (pid,) = self.running()
        words = argv_of(pid)
        server = ServerInfo(url=self.url, engine=self.engine, pid=pid, argv=words)
        return Frame(0.0, 0.0, server=server)

    def stop(self) -> None:
        """Nothing of it is left."""
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.kill()
        self._child.wait()


Step = tuple[str, int]
"""What is done, and for which time: ("fsync", 3)."""


class Steps:
    """Counts what a change consists of, and kills this process at one of it: before it, after it, or half-way through a
    write. Installed in a forked process, whose modules it may change."""

    def __init__(self, at: Step | None, mode: str, tell: Callable[[str], None]) -> None:
        self._at, self._mode, self._tell = at, mode, tell
        self._counts: Counter[str] = Counter()

    def install(self) -> None:
        """From here on."""
        self._wrap(os, "write")
        self._wrap(os, "fsync")
        self._wrap(Path, "rename")
        self._wrap(signal, "pidfd_send_signal")
        self._wrap(subprocess, "Popen")
        self._wrap(bare, "_heard")  # what is to be started is on its way, and may run or not yet
        self._wrap(httpx.Client, "get")
        self._wrap(httpx.Client, "post")

    def _wrap(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def stepped(*args: Any, **more: Any) -> Any:
            self._counts[name] += 1
            here = (name, self._counts[name]) == self._at
            self._tell(name)
            if here and self._mode == "torn":
                real(args[0], args[1][: len(args[1]) // 2])
                self._die()
            if here and self._mode != "after":
                self._die()
            result = real(*args, **more)
            if here:
                self._die()
            return result

        setattr(owner, name, stepped)

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        while True:
            signal.pause()


def forked(work: Callable[[], object], at: Step | None = None, mode: str = "before") -> tuple[int, list[Step]]:
    """Run ``work`` in a process of its own that is killed at this step; (exit status, the steps begun).

    0 when it ended by itself, 1 when ``work`` raised.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            raw = os.write

            def tell(name: str) -> None:
                raw(writing, f"{name}\n".encode())

            Steps(at, mode, tell).install()
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writing)
    data = b""
    while select.select([reading], [], [], 60.0)[0] and (more := os.read(reading, 65536)):
        data += more
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    counts: Counter[str] = Counter()
    steps = []
    for name in data.decode().split():
        counts[name] += 1
        # How often it is asked whether it answers is a matter of time.
        if name not in ("get", "post") or counts[name] == 1:
            steps.append((name, counts[name]))
    return status, steps
