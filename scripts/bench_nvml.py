#!/usr/bin/env python3
"""What one reading of the GPUs costs qtop: CPU milliseconds of the thread in NvmlCollector.read, over a fake NVML.

The fake answers at once (each call looks whether its scenario file has changed, some microseconds), so this is the cost
of Python and ctypes; a real driver adds its own, which collect/nvml_gpu.py tells.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tui")]


def prepare(folder: Path, gpus: int, kind: str) -> dict[str, str]:
    """Build the fake and its scenario; the environment that a process needs to find it."""
    from tests.fakes.build import compile_shared
    from tests.fakes.nvml_fixture import SONAME, a100, hopper, rtx4090d

    make = {"h100": hopper, "a100": a100, "4090d": rtx4090d}[kind]
    if compile_shared(ROOT / "tests/fakes/nvml/nvml_fake.c", folder / SONAME) is None:
        raise SystemExit("no C compiler")
    lines = [f"count {gpus}"]
    for index in range(gpus):
        lines += [f"{key} {value}" for key, value in make(index).items()]
        lines += [f"{index}.proc {os.getpid()} 1073741824", f"{index}.proc {os.getppid()} 2073741824"]
    scenario = folder / "gpus.txt"
    scenario.write_text("\n".join(lines) + "\n")
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "QTOP_FAKE_NVML": str(scenario)}


def measure(ticks: int, pause: float, profile: bool) -> None:
    """Read ``ticks`` times, ``pause`` seconds apart, and print the CPU time a reading."""
    from qtop.collect.nvml import NvmlCollector
    from qtop.sample import GpuSection

    collector = NvmlCollector()
    profiler = cProfile.Profile(time.thread_time)
    costs, seen = [], 0
    for tick in range(ticks + 5):
        time.sleep(pause)
        if profile and tick >= 5:
            profiler.enable()
        begin = time.thread_time()
        section = collector.read()
        spent = (time.thread_time() - begin) * 1e3
        profiler.disable()
        if not isinstance(section, GpuSection):
            raise SystemExit(str(section))
        seen = len(section.gpus)
        if tick >= 5:
            costs.append(spent)
    collector.close()
    ordered = sorted(costs)
    print(
        f"{seen} GPUs, {ticks} ticks: median {statistics.median(costs):.2f} ms CPU a tick, "
        f"mean {statistics.fmean(costs):.2f}, p90 {ordered[int(0.9 * len(ordered))]:.2f}"
    )
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Parse the arguments; the measuring runs in a process of its own, which loads the fake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--kind", choices=("h100", "a100", "4090d"), default="h100")
    parser.add_argument("--ticks", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.12, help="seconds between readings (GPM needs 0.1)")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.ticks, arguments.pause, arguments.profile)
        return
    with tempfile.TemporaryDirectory() as folder:
        env = prepare(Path(folder), arguments.gpus, arguments.kind)
        command = [sys.executable, __file__, "--child", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=env, check=False).returncode)


if __name__ == "__main__":
    main()
