#!/usr/bin/env python3
"""Makes the recordings of the rules about CPUs, scheduling and the host: QT203 to QT209, QT601 to QT605
(but for QT205 and QT604, which scripts/guest.py scripts/disturb.py guest --record {out} records).

fixtures_cpu.py [ID[/fires|/quiet]…]       all of them, or these
Real where this machine can do it: a real llama.cpp under real masks, busy loops, memory limits and swap (root, a v1
memory controller beside a v2 tree). What it cannot do (steal, governors, memory modules, GPUs) stands in a
tree of files that the real collectors read instead of /proc, /sys and /run: those say "stub".
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from fixture_record import record
from fixtures_parts import OUT, ahead, gpu, llamacpp, loops, record_stub, stand_in, vllm
from tests.fakes.kernel import Kernel

from qtop.collect.discover import server_tree


def qt203(out: Path, fires: bool, folder: Path) -> None:
    """An event loop that is really full."""
    with stand_in(folder, *(("--spin", "0.08") if fires else ())) as server:
        ahead(server.pid)
        note = f"a stand-in for vLLM whose event loop {'never rests' if fires else 'rests'}"
        record(out, 18, "stub", note, "--url", server.url)


def qt204(out: Path, fires: bool, _folder: Path) -> None:
    """A mask, and nothing that is in the way there."""
    with llamacpp("0" if fires else "") as server:
        ahead(server.pid)
        record(out, 17, "real", "llama.cpp" + (" under taskset -c 0" if fires else ""), "--url", server.url)


def qt206(out: Path, fires: bool, _folder: Path) -> None:
    """Busy loops beside it."""
    with llamacpp("1" if fires else "") as server, ExitStack() as stack:
        if fires:
            stack.enter_context(loops(3, 1))
        else:
            ahead(server.pid)
        note = "llama.cpp on CPU 1 beside three busy loops" if fires else "llama.cpp with nobody in its way"
        record(out, 17, "real", note, "--url", server.url)


def qt207(out: Path, fires: bool, folder: Path) -> None:
    """A hypervisor that takes."""
    with llamacpp() as server:
        ahead(server.pid)
        kernel = Kernel(folder / "tree", server_tree(server.pid))
        kernel.cpu_times(2, busy=0.6, steal=0.12 if fires else 0.01)
        record_stub(kernel, out, "a real llama.cpp; /proc/stat is made of files", server.url, 17)


def qt208(out: Path, fires: bool, folder: Path) -> None:
    """A GPU with gaps, an engine that waits less than QT201 would call a fault."""
    with vllm(folder, 16, 1, (0.5, 0.075 if fires else 0.004, 1)) as (kernel, url, core):
        note = "utilization swings and the engine waits 7 %" if fires else "utilization is steady and nothing waits"
        util = "wave 25 100 3.7" if fires else "wave 93 100 3.7"
        record_stub(kernel, out, note, url, 24, fake=gpu(folder, (core,), util=util))


def qt209(out: Path, fires: bool, folder: Path) -> None:
    """One GPU, and few CPUs or many."""
    cpus = 2 if fires else 16
    with vllm(folder, cpus, 1, (0.5, 0.004, 1)) as (kernel, url, core):
        record_stub(kernel, out, f"one GPU and {cpus} CPUs", url, 14, fake=gpu(folder, (core,), util=96))


MAKERS: dict[str, Callable[[Path, bool, Path], None]] = {
    "QT203": qt203,
    "QT204": qt204,
    "QT206": qt206,
    "QT207": qt207,
    "QT208": qt208,
    "QT209": qt209,
}


def make(only: Iterable[str] = ()) -> None:
    """All of them, or these."""
    import fixtures_memory

    makers = {**MAKERS, **fixtures_memory.MAKERS}
    for one in only or makers:
        rule, _, which = one.partition("/")
        for name in (which,) if which else ("fires", "quiet"):
            with tempfile.TemporaryDirectory(prefix="qtop-fixture-") as folder:
                makers[rule](OUT / f"{rule}/{name}.qtop", name == "fires", Path(folder))


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("fixtures_cpu: needs root (priorities, cgroups, swap)")
    make(sys.argv[1:])
