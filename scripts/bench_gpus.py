"""GPUs for the benchmarks: the tests' NVML (a C library that reads a text file); figures move each second or rest."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from bench_run import ROOT, CannotMeasure

PERIOD_S = 1.0
MIB = 1 << 20


class Gpus:
    """``count`` H100s; while ``moving`` is set, their readings change once a second."""

    def __init__(self, folder: Path, count: int, pids: Sequence[int]) -> None:
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        fixture: Any = import_module("tests.fakes.nvml_fixture")
        build: Any = import_module("tests.fakes.build")
        built = folder / "built"
        built.mkdir(parents=True)
        library = build.compile_shared(ROOT / "tests/fakes/nvml/nvml_fake.c", built / fixture.SONAME)
        if library is None:
            raise CannotMeasure("no C compiler for the tests' NVML (cc, gcc, clang or the Python package ziglang)")
        self._hopper, self._fake = fixture.hopper, fixture.FakeNvml(folder, library)
        self._count, self._pids = count, tuple(pids)
        self._turn = 0
        self.moving = threading.Event()
        self._write()

    def env(self) -> dict[str, str]:
        """What makes a program find these GPUs and no others."""
        found: Mapping[str, str] = self._fake.env()
        return {name: found[name] for name in ("LD_LIBRARY_PATH", "QTOP_FAKE_NVML")}

    def _write(self) -> None:
        self._turn += 1
        lines: dict[str, Any] = {"count": self._count}
        processes = []
        for gpu in range(self._count):
            wave = math.sin(self._turn / 6 + gpu) + 0.3 * math.sin(self._turn * 2.1 + gpu)
            used = 74_517_053_440 + round(40 * wave) * 16 * MIB
            moved = {
                "util": round(55 + 25 * wave),
                "mem_util": round(30 + 12 * wave),
                "mem_used": used,
                "temp": round(56 + 4 * wave),
                "power": round(410_000 + 130_000 * wave),
                "sm_mhz": 1980 - 15 * (self._turn % 5),
                "field.74": 123_456_789_012 + 310_000_000 * self._turn,
                "gpm.2": round(50 + 22 * wave, 1),
                "gpm.5": round(12 + 6 * wave, 1),
                "gpm.10": round(40 + 18 * wave, 1),
                "gpm.20": round(12 + 6 * wave, 1),
                "gpm.21": round(30 + 15 * wave, 1),
            }
            lines |= self._hopper(gpu, **moved)
            if self._pids:
                processes.append(f"{gpu}.proc {self._pids[gpu % len(self._pids)]} {used - 600 * MIB}")
        self._fake.set(*processes, **lines)

    def run(self, stop: threading.Event) -> None:
        """Move until ``stop``."""
        while not stop.wait(PERIOD_S):
            if self.moving.is_set():
                self._write()


@contextmanager
def gpus(folder: Path, count: int, pids: Sequence[int] = ()) -> Iterator[Gpus]:
    """GPUs on which the processes ``pids`` run, moved by a thread for the length of the block."""
    fake, stop = Gpus(folder, count, pids), threading.Event()
    mover = threading.Thread(target=fake.run, args=(stop,), daemon=True)
    mover.start()
    try:
        yield fake
    finally:
        stop.set()
        mover.join()
