"""Recordings of the rules about the host's memory and clocks, QT601 to QT605; called by fixtures_cpu.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fixture_record import record
from fixtures_parts import ROOT, ahead, llamacpp, model_file, record_stub, streams
from tests.fakes.kernel import Kernel

from qtop.collect.discover import server_tree
from qtop.demo.server import DemoServer

MIB = 1 << 20
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified"))
"""The v1 memory controller, which limits, and the v2 tree, which has the pressure of each cgroup."""
MODULES = ROOT / "tests/data/udev/dmi-two-of-four.synthetic.txt"
SIDECAR = """
import mmap, sys, time
held = mmap.mmap(-1, int(sys.argv[1]))
while True:
    for at in range(0, len(held), 4096):
        held[at] = (held[at] + 1) % 251
    time.sleep(0.01)
"""


@contextmanager
def limited(limit: int) -> Iterator[Callable[[], None]]:
    """A cgroup whose memory is limited; gives what puts the calling process into it. Its members must have ended."""
    groups = [parent / f"qtop-fixture-{os.getpid()}" for parent in GROUPS]
    for group in groups:
        group.mkdir()
    (groups[0] / "memory.limit_in_bytes").write_text(str(limit))

    def join() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text("0")

    try:
        yield join
    finally:
        time.sleep(0.5)
        for group in groups:
            group.rmdir()


@contextmanager
def outside() -> Iterator[None]:
    """What this process joins in the block it leaves at its end; its children of that time stay."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    homes = {line.split(":")[1]: line.split(":", 2)[2] for line in own}
    try:
        yield
    finally:
        for parent, controller in zip(GROUPS, ("memory", ""), strict=True):
            (Path(f"{parent}{homes[controller]}") / "cgroup.procs").write_text("0")


def confined(join: Callable[[], None], model: Path) -> DemoServer:
    """A llama.cpp that was started inside the cgroup."""
    with outside():
        join()
        return DemoServer(model, patience=180.0, context=1024).start(threads=1)


def qt601(out: Path, fires: bool, folder: Path) -> None:
    """The model's file, read inside the cgroup, does not fit into its limit: each token reads it anew."""
    model = model_file()
    limit = (135 if fires else 600) * MIB
    with limited(limit) as join:
        copy = folder / model.name
        subprocess.run(["cp", str(model), str(copy)], check=True, preexec_fn=join)
        subprocess.run(["sync", str(copy)], check=True)
        with confined(join, copy) as server, streams(server.url):
            ahead(server.pid)
            record(out, 17, "real", f"llama.cpp with a memory limit of {limit // MIB} MiB", "--url", server.url)


def qt602(out: Path, fires: bool, folder: Path) -> None:
    """A process beside the server in its cgroup uses more than the limit, and what it uses comes back from swap."""
    swap = folder / "swap"
    if fires:
        subprocess.run(["dd", "if=/dev/zero", f"of={swap}", "bs=1M", "count=1024", "status=none"], check=True)
        swap.chmod(0o600)
        subprocess.run(["mkswap", str(swap)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["swapon", str(swap)], check=True)
    try:
        with limited(400 * MIB) as join, confined(join, model_file()) as server, streams(server.url):
            ahead(server.pid)
            beside: list[subprocess.Popen[bytes]] = []
            if fires:
                command = [sys.executable, "-S", "-c", SIDECAR, str(600 * MIB)]
                beside.append(subprocess.Popen(command, preexec_fn=join))  # noqa: PLW1509
                time.sleep(5.0)
            try:
                note = "llama.cpp" + (" in a cgroup whose other process swaps" if fires else ", and nothing swaps")
                record(out, 17, "real", note, "--url", server.url)
            finally:
                for one in beside:
                    one.kill()
                    one.wait()
    finally:
        if fires:
            subprocess.run(["swapoff", str(swap)], check=True)


@contextmanager
def _tree(folder: Path) -> Iterator[tuple[Kernel, str]]:
    """A real llama.cpp, and files for what is put in the place of the host's."""
    with llamacpp() as server:
        ahead(server.pid)
        yield Kernel(folder / "tree", server_tree(server.pid)), server.url


def qt603(out: Path, fires: bool, folder: Path) -> None:
    """Governors of an acpi-cpufreq."""
    with _tree(folder) as (kernel, url):
        kernel.governor(2, *(("powersave", "", 1200, 3700) if fires else ("performance", "", 3600, 3700)))
        record_stub(kernel, out, "a real llama.cpp; cpufreq is made of files", url, 11)


def qt605(out: Path, fires: bool, folder: Path) -> None:
    """What udev wrote of four slots, two of them empty."""
    text = MODULES.read_text()
    if not fires:
        text = text.replace("CONFIGURED_SPEED_MTS=4800", "CONFIGURED_SPEED_MTS=5600")
    with _tree(folder) as (kernel, url):
        kernel.put("run/udev/data/+dmi:id", text)
        record_stub(
            kernel, out, "a real llama.cpp; udev's file on the modules is written by hand", url, 12, "synthetic"
        )


MAKERS: dict[str, Callable[[Path, bool, Path], None]] = {
    "QT601": qt601,
    "QT602": qt602,
    "QT603": qt603,
    "QT605": qt605,
}
