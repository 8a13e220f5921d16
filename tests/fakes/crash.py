"""What tests of changes need: processes whose threads' masks are known, frames of them, a qtop that dies on call."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace
from tests.fakes.build import compile_shared

from qtop.clock import wall
from qtop.collect.host import HostCollector
from qtop.collect.procs import ProcsCollector
from qtop.model.derive import Deriver
from qtop.model.frame import Frame, SchedView
from qtop.sample import NOT_YET, Sample, ServerInfo

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("killat.c")

Masks = dict[int, frozenset[int]]
"""CPUs by thread number."""

_THREADS = """
import ctypes, os, sys, threading
def wait():
    threading.Event().wait()
def born():
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    print(thread.native_id, flush=True)
def end_with_stdin(pipe):
    os.read(pipe, 1)
    os._exit(0)
for _ in range(int(sys.argv[1])):
    born()
for line in sys.stdin:
    if line == "born\\n":
        born()
    elif line == "leave\\n":
        threading.Thread(target=end_with_stdin, args=(os.dup(0),), daemon=True).start()
        print(0, flush=True)
        ctypes.CDLL(None).syscall(93 if os.uname().machine in ("aarch64", "riscv64") else 60, 0)
"""


class ThreadedProcess:
    """A process with a main thread and ``workers`` more, all waiting; it ends with this one."""

    def __init__(self, workers: int = 3) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-S", "-c", _THREADS, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self.pid = self._child.pid
        self.workers = [self._answer() for _ in range(workers)]

    def _answer(self) -> int:
        assert self._child.stdout is not None
        return int(self._child.stdout.readline())

    def _ask(self, command: str) -> int:
        assert self._child.stdin is not None
        self._child.stdin.write(command + "\n")
        self._child.stdin.flush()
        return self._answer()

    def born(self) -> int:
        """Let the main thread start one more; gives its number."""
        return self._ask("born")

    def leave_main(self) -> None:
        """Let the main thread end while the others run on: it stays listed as a zombie."""
        self._ask("leave")
        stat = Path(f"/proc/{self.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.005)

    def stop(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def masks(pid: int) -> Masks:
    """The mask of every thread of a process."""
    found: Masks = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        try:
            found[int(name)] = frozenset(os.sched_getaffinity(int(name)))
        except ProcessLookupError:
            continue
    return found


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Give every thread of a process the same mask."""
    wanted = frozenset(cpus)
    for tid in masks(pid):
        try:
            os.sched_setaffinity(tid, wanted)
        except ProcessLookupError:
            continue


def as_nobody(work: Callable[[], object]) -> str:
    """What ``work`` gives, or "Error: message" of what it raises, in a forked process of a user who owns nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            told = str(work())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode()[:4096])
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        return pipe.read()


def frame_of(*pids: int) -> Frame:
    """A frame as the live source derives it, of these processes as a server: two readings, some milliseconds apart.

    To it they are a vLLM, of which the first process's main thread is the one that counts.
    """
    collector, host, deriver = ProcsCollector(lambda: pids), HostCollector(), Deriver()
    server = ServerInfo(url="http://127.0.0.1:1", engine="vllm", pid=pids[0])
    try:
        for _ in range(2):
            frame = deriver.push(Sample(t=wall(), server=server, procs=collector.read(), host=host.read(NOT_YET)))
            time.sleep(0.03)
    finally:
        collector.close()
        host.close()
    # On a busy machine another thread may have waited longer for its few microseconds.
    sched = frame.sched
    if isinstance(sched, SchedView):
        mains = tuple(thread for thread in sched.critical if thread.tid == pids[0])
        frame = replace(frame, sched=replace(sched, critical=mains or sched.critical))
    return frame


@cache
def build(folder: Path) -> Path | None:
    """The library of killat.c, built into ``folder``; None without a C compiler."""
    return compile_shared(SOURCE, folder / "killat.so", "-ldl")


def environment(state: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a qtop process of its own: the checkout's package, its journal under ``state``, no settings of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QTOP_", "XDG_"))}
    paths = f"{ROOT / 'tui'}{os.pathsep}{ROOT}"
    own = {"PYTHONPATH": paths, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(state / "config")}
    return kept | own | dict(extra or {})


def deadly(shim: Path, at: int, mode: str = "before", log: Path | None = None) -> dict[str, str]:
    """Environment of a process that dies at its ``at``-th call (see killat.c)."""
    told = {"QTOP_KILL_LOG": str(log)} if log is not None else {}
    return {"LD_PRELOAD": str(shim), "QTOP_KILL_AT": str(at), "QTOP_KILL_MODE": mode} | told


def calls(log: Path) -> list[str]:
    """The counted calls of a process, in order."""
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []
