"""The suite for this machine: a real llama.cpp server with one compute thread, disturbed for real. Needs root,
cgroup v1 controllers cpu and memory, and two CPUs."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

from disturb import Case, nothing
from disturb_tools import group_v1, pinned, stopped, streams

from qtop.demo.server import DemoServer

READ_OVER = """
import mmap, os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
with open(sys.argv[2], "wb") as file:
    for _ in range(int(sys.argv[3])):
        file.write(os.urandom(1 << 20))
with open(sys.argv[2], "rb") as file:
    held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    while True:
        for at in range(0, len(held), 4096):
            held[at]
"""


@contextlib.contextmanager
def squeezed(pid: int, mib: int) -> Iterator[None]:
    """The server and a reader of a file twice as large share a memory limit that holds neither."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        limit = {"limit_in_bytes": str(mib << 20)}
        with group_v1("memory", [pid], **limit) as group:
            command = [sys.executable, "-c", READ_OVER, str(group), f"{folder}/file", str(mib * 2)]
            reader = subprocess.Popen(command)
            try:
                yield
            finally:
                reader.kill()
                reader.wait()


def cases(stack: ExitStack, _args: argparse.Namespace) -> list[Case]:
    """All of them, on a server of their own."""
    server = stack.enter_context(DemoServer(parallel=4).start(threads=1))
    target, pid = ("--url", server.url), server.pid
    light, full = streams(server.url, 1, "en", 200), streams(server.url, 9, "en", 200, settle=1.0)
    quota = {"cfs_period_us": "100000", "cfs_quota_us": "20000"}

    def case(name: str, expected: tuple[str, ...], disturb: object, **more: object) -> Case:
        return Case(name, expected, light, disturb, target, **more)  # type: ignore[arg-type]

    return [
        case("healthy", ("none",), nothing, patience=40.0),
        case("cpu starved", ("QT201",), lambda: pinned([pid], [0], 3)),
        case("narrow affinity beside a neighbour", ("QT201",), lambda: pinned([pid], [0], 1)),
        case("cgroup throttling", ("QT202",), lambda: group_v1("cpu", [pid], **quota)),
        case("memory pressure", ("QT601", "QT602"), lambda: squeezed(pid, 280)),
        case("slots all busy", ("QT303",), full),
        case("stopped", ("QT310", "QT305"), lambda: stopped(pid)),
    ]
