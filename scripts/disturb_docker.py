"""The suite for a server in a container: a real llama.cpp (one compute thread) in a real Docker of its own, disturbed
by ``docker update`` as its owner would by mistake, and watched by qtop from the host.

Needs root, Debian's package docker.io, and cgroups that Docker can limit (tests/fakes/real_docker.py says more).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from disturb import HERE, Case, nothing
from disturb_tools import BUSY, processes, streams

from qtop.demo.model import ensure_model

sys.path.insert(0, str(HERE.parent))

from tests.fakes.real_docker import Docker, LlamaInDocker
from tests.fakes.spawned import CannotStart

MIB = 1 << 20


@contextlib.contextmanager
def updated(server: LlamaInDocker, now: tuple[str, ...], after: tuple[str, ...], hogs: int = 0) -> Iterator[None]:
    """``docker update`` with these words, with those at the end; meanwhile ``hogs`` busy loops on CPU 0."""
    server.container.update(*now)
    try:
        with processes([["taskset", "-c", "0", sys.executable, "-c", BUSY]] * hogs):
            yield
    finally:
        server.container.update(*after)


def cold_copy(file: Path, folder: Path) -> Path:
    """A copy whose pages are in nobody's cache, so that they are charged to the cgroup that reads them first."""
    copy = folder / file.name
    shutil.copyfile(file, copy)
    handle = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return copy


def cases(stack: ExitStack, _args: argparse.Namespace) -> list[Case]:
    """All of them, on one container."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qtop-docker-", dir="/var/tmp")))
    model = cold_copy(ensure_model(None, print), folder)
    try:
        docker = stack.enter_context(Docker(folder))
        server = docker.llamacpp(model, context=2048)
    except CannotStart as error:
        sys.exit(f"disturb docker: {error}")
    target, light = ("--url", server.url), streams(server.url, 1, "en", 200)
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(server.pid))))
    free, whole = ("--cpus", str(len(os.sched_getaffinity(0)))), ("--cpuset-cpus", cpus)

    def case(name: str, expected: tuple[str, ...], disturb: object, **more: object) -> Case:
        return Case(name, expected, light, disturb, target, **more)  # type: ignore[arg-type]

    return [
        case("healthy", ("none",), nothing, patience=40.0),
        case("container throttled", ("QT202",), lambda: updated(server, ("--cpus", "0.2"), free)),
        case("container on a busy CPU", ("QT201",), lambda: updated(server, ("--cpuset-cpus", "0"), whole, 3)),
        case("container short of memory", ("QT601",), lambda: updated(server, _short(server.pid), _memory(4096))),
    ]


def _short(pid: int) -> tuple[str, ...]:
    """Words for a limit that leaves the model's file (94 MiB) a third of the room it needs beside what stays."""
    status = Path(f"/proc/{pid}/status").read_text()
    (anonymous,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))
    return _memory(anonymous // 1024 + 32)


def _memory(mib: int) -> tuple[str, ...]:
    """Words for a limit; swap is not to make up for it."""
    return ("--memory", str(mib * MIB), "--memory-swap", str(mib * MIB))
