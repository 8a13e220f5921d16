"""The suite for what only a machine with two NUMA nodes and cgroup v2 alone can show; the guest of tests/fakes/guest.py
is one: scripts/guest.py scripts/disturb.py guest.

The server is a real llama.cpp with a model of random weights, the kernel's nodes, cgroups and migrations are real. The
only stand-in is the driver of a GPU: tests/fakes/nvml says that it is the PCI device of the guest's second node, whose
node and CPUs the kernel tells. What runs on an emulated machine is slow: seconds until named are not those of a host.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from disturb import HERE, Case, nothing
from disturb_tools import processes

sys.path.insert(0, str(HERE.parent))

from tests.fakes import tiny_gguf
from tests.fakes.build import compile_shared
from tests.fakes.guest import Guest
from tests.fakes.nvml_fixture import SONAME, FakeNvml, hopper

from qtop.demo.server import answers, free_port

CGROUPS = Path("/sys/fs/cgroup")
NODES = Path("/sys/devices/system/node")
BALANCING = Path("/proc/sys/kernel/numa_balancing")
STUB = "the GPU's driver is the tests' stand-in, for a PCI device whose node the kernel tells"
WIDTH = 512
"""Of the model: 20 MiB of weights, in memory of the server's own (--no-mmap): those the kernel can move."""
PATIENCE_S = 240.0
WANDERS_S = 5.0


def why_not() -> str | None:
    """What keeps this machine from being disturbed so, None where nothing does."""
    if os.geteuid() != 0 or "cpuset" not in _text(CGROUPS / "cgroup.controllers").split():
        return "needs root and cgroup v2 alone"
    if _text(NODES / "online") != "0-1":
        return "needs two NUMA nodes"
    if shutil.which("curl") is None:
        return "needs curl"
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


class Group:
    """A cgroup of the v2 tree for the server."""

    def __init__(self) -> None:
        self.folder = CGROUPS / "qtop-disturb"
        (CGROUPS / "cgroup.subtree_control").write_text("+cpu +cpuset +memory")
        self.folder.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def set(self, name: str, now: str, after: str) -> Iterator[None]:
        """One of its files written, and again at the end."""
        (self.folder / name).write_text(now)
        try:
            yield
        finally:
            (self.folder / name).write_text(after)

    @contextlib.contextmanager
    def wandering(self, places: tuple[str, str]) -> Iterator[None]:
        """Its CPUs change from one place to the other again and again, as a scheduler's balancing moves threads."""
        over = threading.Event()

        def wander() -> None:
            turn = 0
            while not over.wait(WANDERS_S):
                turn += 1
                (self.folder / "cpuset.cpus").write_text(places[turn % 2])

        thread = threading.Thread(target=wander, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            (self.folder / "cpuset.cpus").write_text(places[0])


def server(stack: ExitStack, group: Group, cpus: str) -> tuple[int, int]:
    """A llama.cpp that was started on these CPUs, so that its memory is on their node; its pid and port."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/run")))
    model, port = tiny_gguf.write(folder / "tiny.gguf", WIDTH), free_port()
    (group.folder / "cpuset.cpus").write_text(cpus)
    words = [sys.executable, "-P", "-m", "qtop.demo.serve", "--model", str(model), "--port", str(port), "--no-mmap"]
    words += ["--threads", "1", "--parallel", "1", "--ctx-size", "512", "--log", "-"]
    command = ["sh", "-c", f'echo $$ > {group.folder}/cgroup.procs; exec "$@"', "sh", *words]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    stack.callback(child.wait)
    stack.callback(child.kill)
    deadline = time.monotonic() + PATIENCE_S
    while not answers(port):
        if time.monotonic() > deadline or child.poll() is not None:
            sys.exit("disturb guest: the server did not start")
        time.sleep(1.0)
    return child.pid, port


def prompts(port: int) -> AbstractContextManager[object]:
    """One request after the other, by one curl: few means of this machine are to go into asking."""
    body = '{"prompt": "Once upon a time", "max_tokens": 100, "ignore_eos": true, "stream": true}'
    url = f"http://127.0.0.1:{port}/v1/completions?[1-100000]"
    return processes([["curl", "-s", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", body, url]], 2.0)


def driver(stack: ExitStack) -> FakeNvml:
    """The stand-in for NVML, loaded before qtop asks for the library of that name; no GPU so far."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/run")))
    (folder / "built").mkdir()
    library = compile_shared(HERE.parent / "tests/fakes/nvml/nvml_fake.c", folder / "built" / SONAME)
    if library is None:
        sys.exit("disturb guest: no C compiler for the tests' NVML")
    fake = FakeNvml(folder, library)
    os.environ["QTOP_FAKE_NVML"] = str(fake.file)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return fake


@contextlib.contextmanager
def with_gpu(fake: FakeNvml, pid: int, load: AbstractContextManager[object]) -> Iterator[None]:
    """A GPU on the second node, which the server uses, beside the load."""
    fake.set(f"0.proc {pid} {60 << 30}", count=1, **hopper(0, pci=f"0000{Guest.device}", util=96))
    try:
        with load:
            yield
    finally:
        fake.set(count=0)


@contextlib.contextmanager
def balanced(disturbance: AbstractContextManager[None]) -> Iterator[None]:
    """The kernel moves pages to where they are used, meanwhile."""
    BALANCING.write_text("1")
    try:
        with disturbance:
            yield
    finally:
        BALANCING.write_text("0")


def cases(stack: ExitStack, _args: argparse.Namespace) -> list[Case]:
    """All of them, on a server that was started on the second node."""
    if (missing := why_not()) is not None:
        sys.exit(f"disturb guest: {missing}: scripts/guest.py scripts/disturb.py guest")
    near, far = _text(NODES / "node1/cpulist"), _text(NODES / "node0/cpulist")
    fake, group = driver(stack), Group()
    pid, port = server(stack, group, near)
    target = ("--url", f"http://127.0.0.1:{port}")
    BALANCING.write_text("0")

    def case(name: str, expected: str, disturb: object, **more: object) -> Case:
        given = {"load": lambda: prompts(port), "target": target, "patience": PATIENCE_S, **more}
        return Case(name, (expected,), disturb=disturb, **given)  # type: ignore[arg-type]

    def gpu() -> AbstractContextManager[object]:
        return with_gpu(fake, pid, prompts(port))

    def far_away() -> AbstractContextManager[None]:
        return group.set("cpuset.cpus", far, near)

    return [
        case("guest healthy", "none", nothing, patience=40.0),
        case("cgroup v2 throttling", "QT202", lambda: group.set("cpu.max", "20000 100000", "max 100000")),
        case("on the node of its GPU", "none", nothing, patience=20.0, load=gpu, stub=STUB),
        case("on the other node", "QT205", far_away, load=gpu, stub=STUB),
        case("moved to the other node once", "none", lambda: balanced(far_away()), patience=60.0),
        case("wandering between nodes", "QT604", lambda: balanced(group.wandering((near, far)))),
    ]
