#!/usr/bin/env python3
"""Loops recordings or traces to a long one: clock and counters carried on over the seams, each loop perturbed.

loop_recording.py OUT SOURCE... [--seconds N] [--seed N] [--perturb SHARE]

What a healthy minute says must hold for an hour of it; and sizes and times of long recordings are measured on these.
Counters grow by what they grew by in the source, times 1 ± SHARE, drawn anew for each loop; gauges that are not whole
numbers move by as much; the seam takes the first step of the source. A server that was idle stays idle.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))

from qtop.record.convert import import_trace
from qtop.record.reader import Recording
from qtop.record.writer import QUEUE, Header, RecordingWriter
from qtop.sample import Sample

COUNTERS = {
    "CpuTimes": "user nice system idle iowait irq softirq steal",
    "Pressure": "some_us full_us",
    "TaskSample": "cpu_ticks",
    "ThreadSample": "run_ns wait_ns slices",
    "ProcessSample": "cpu_ticks voluntary involuntary",
    "QuotaLevel": "nr_periods nr_throttled throttled_us",
    "CgroupSample": "usage_us",
    "VmStat": "numa_pages_migrated numa_hint_faults pswpin pswpout pgmajfault",
    "GpuSlow": "ecc_corrected ecc_uncorrected replays",
    "OwnSample": "cpu_ns tty_bytes",
    "ClientSample": "requests queue_ms ttft_ms",
}
"""Fields that only grow, by the struct they are in; ``series`` and ``reason_ns`` are told by their names."""
CLOCKS = {"t": 1.0, "at": 1.0, "first_us": 1e6}
"""Fields that are points in time, and their units a second."""
KEYED = ("series", "reason_ns")
T = TypeVar("T")


def is_counter(name: str) -> bool:
    """Whether a series of an exposition only grows, by the conventions for names."""
    bare = name.partition("{")[0]
    return bare.endswith(("_total", "_sum", "_count", "_bucket", "_seconds_total")) and "_created" not in bare


class Carrier:
    """Turns the samples of one source, over and over, into samples that go on."""

    def __init__(self, seed: int, perturb: float) -> None:
        self._random, self._perturb = random.Random(seed), perturb
        self._factor = 1.0
        self._shift = 0.0
        self._before: dict[tuple[Any, ...], float] = {}
        self._after: dict[tuple[Any, ...], float] = {}
        self._seam = False
        self._first_step: dict[tuple[Any, ...], float] = {}

    def begin(self, shift: float) -> None:
        """A new loop, its clock ``shift`` seconds later than the source's."""
        self._shift, self._seam = shift, bool(self._after)
        self._factor = 1.0 + self._random.uniform(-self._perturb, self._perturb)

    def carry(self, sample: Sample) -> Sample:
        """The sample as it would be now."""
        out = self._walk(sample, ())
        self._seam = False
        return cast(Sample, out)

    def _walk(self, node: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(node, msgspec.Struct):
            growing = COUNTERS.get(type(node).__name__, "").split()
            return type(node)(*(self._field(node, name, growing, path) for name in node.__struct_fields__))
        if isinstance(node, tuple):
            return tuple(self._walk(one, (*path, _identity(one, place))) for place, one in enumerate(node))
        if isinstance(node, dict):
            return {key: self._walk(value, (*path, key)) for key, value in node.items()}
        return node

    def _field(self, node: msgspec.Struct, name: str, growing: list[str], path: tuple[Any, ...]) -> Any:
        value = getattr(node, name)
        if name in CLOCKS and isinstance(value, (int, float)):
            return type(value)(value + self._shift * CLOCKS[name])
        if name in growing and isinstance(value, (int, float)):
            return self._grown(value, (*path, name))
        if name in KEYED and isinstance(value, dict):
            return {key: self._keyed(key, one, (*path, name, key), name) for key, one in value.items()}
        return self._walk(value, (*path, name))

    def _keyed(self, key: str, value: Any, path: tuple[Any, ...], name: str) -> Any:
        if not isinstance(value, (int, float)):
            return value
        if name == "reason_ns" or is_counter(key):
            return self._grown(value, path)
        return (
            value
            if float(value).is_integer()
            else min(1.0, value * self._factor)
            if value < 1
            else value * self._factor
        )

    def _grown(self, value: T, path: tuple[Any, ...]) -> T:
        """The counter as it stands now, after what stood in the sample before."""
        number = cast(float, value)
        if path not in self._after:
            self._before[path] = self._after[path] = number
            return value
        step = number - self._before[path]
        if self._seam or step < 0:
            step = self._first_step.get(path, 0.0)
        else:
            self._first_step.setdefault(path, step)
        grown = self._after[path] + step * self._factor
        self._before[path] = number
        self._after[path] = round(grown) if isinstance(value, int) else grown
        return cast(T, self._after[path])


def _identity(item: Any, place: int) -> Any:
    """What stays the same of an item whose place in a list may change."""
    for name in ("tid", "pid", "index", "path"):
        if hasattr(item, name):
            return (name, getattr(item, name))
    return place


def looped(sources: list[list[Sample]], seconds: float, seed: int, perturb: float) -> Iterator[Sample]:
    """Samples of the sources by turns until ``seconds`` are full; one source's counters are its own."""
    carriers = [Carrier(seed + number, perturb) for number in range(len(sources))]
    begin = now = sources[0][0].t
    turn = 0
    while True:
        samples, carrier = sources[turn % len(sources)], carriers[turn % len(sources)]
        carrier.begin(now - samples[0].t)
        for sample in samples:
            out = carrier.carry(sample)
            if out.t - begin > seconds:
                return
            yield out
        now += samples[-1].t - samples[0].t + (samples[1].t - samples[0].t)
        turn += 1


def read(path: Path) -> list[Sample]:
    """The samples of a recording or of a trace."""
    if path.suffix == ".qtop":
        return list(Recording(path).samples())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.qtop"
        import_trace(path, out)
        return list(Recording(out).samples())


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description="Loop recordings to a long one.")
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--perturb", type=float, default=0.03)
    options = parser.parse_args()
    sources = [read(path) for path in options.sources]
    names = " ".join(path.name for path in options.sources)
    header = Header.here(interval=1.0, source="synthetic", note=f"looped: {names}")
    writer = RecordingWriter(options.out, header, overwrite=True)
    count = 0
    for sample in looped(sources, options.seconds, options.seed, options.perturb):
        while count - writer.stats.samples >= QUEUE // 2:  # it drops rather than keep a live source waiting
            time.sleep(0.005)
        writer.sample(sample)
        count += 1
    writer.close()
    print(f"{options.out}: {count} samples, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
