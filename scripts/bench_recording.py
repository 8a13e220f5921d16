#!/usr/bin/env python3
"""What recordings cost: room an hour for each trace, CPU of the recorder, and opening, seeking and diagnosing a day.

bench_recording.py [--day FILE] [--hours N] [--seconds N] [--at-1hz SECONDS] [TRACE...]

Each trace is looped to an hour at 1 Hz (--seconds; see loop_recording.py), recorded as the dashboard does it, and read
back. The recorder's CPU is its thread's own, by /proc: while samples come as fast as it takes them, and with --at-1hz
for so long at one a second, when nothing of it is in the caches. The day is made of the first trace, in some ten
minutes, unless --day names one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT / "scripts")]

import bench_doctor  # noqa: E402
from loop_recording import looped, read  # noqa: E402

from qtop.record.reader import Recording  # noqa: E402
from qtop.record.writer import QUEUE, Header, RecordingWriter  # noqa: E402
from qtop.sample import Sample  # noqa: E402

TRACES = sorted((ROOT / "tests/data/traces").glob("*.jsonl.xz"))
SEEKS = 50
PERTURB = 0.03


def thread_ns(name: str) -> int:
    """CPU time of the thread of this name, ns (source: /proc/PID/task/TID/schedstat, first field)."""
    (found,) = [one for one in threading.enumerate() if one.name == name]
    return int(Path(f"/proc/self/task/{found.native_id}/schedstat").read_text().split()[0])


def record(out: Path, samples: Iterator[Sample], pace: float = 0.0) -> tuple[int, float]:
    """Record them, one each ``pace`` seconds; their number, and CPU seconds of the recorder a sample."""
    writer = RecordingWriter(out, Header.here(interval=1.0, source="synthetic"), overwrite=True)
    count = 0
    for sample in samples:
        while count - writer.stats.samples >= QUEUE // 2:  # it drops rather than keep a live source waiting
            time.sleep(0.005)
        writer.sample(sample)
        count += 1
        time.sleep(pace)
    while writer.stats.samples < count:
        time.sleep(0.005)
    spent = thread_ns("qtop-recorder") / 1e9
    writer.close()
    if writer.error or writer.stats.dropped:
        sys.exit(f"{out}: {writer.error or 'samples were dropped'}")
    return count, spent / count


def timed(what: Callable[[], object]) -> float:
    """Wall seconds."""
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def hours(traces: list[Path], seconds: float, folder: Path) -> None:
    """Size, recorder and reading for an hour of each trace."""
    print(f"{'trace':<16}{'MB an hour':>12}{'bytes each':>12}{'recorder, % of a core':>24}{'reading, µs each':>18}")
    for trace in traces:
        out = folder / f"{trace.name.partition('.')[0]}.qtop"
        count, spent = record(out, looped([read(trace)], seconds, 0, PERTURB))
        size = out.stat().st_size / count
        begun = time.process_time()
        found = sum(1 for _ in Recording(out).samples())
        reading = (time.process_time() - begun) / count
        if found != count:
            sys.exit(f"{out}: {found} of {count} samples came back")
        print(f"{out.stem:<16}{size * 3600 / 1e6:>12.2f}{size:>12.0f}{spent * 100:>32.3f}{reading * 1e6:>18.0f}")


def at_1hz(trace: Path, seconds: float, folder: Path) -> None:
    """The recorder at the pace at which it works."""
    samples = chain.from_iterable(repeat(read(trace)))
    count, spent = record(folder / "pace.qtop", islice(samples, max(1, int(seconds))), 1.0)
    print(f"recorder over {count} s at one sample a second: {spent * 100:.3f} % of a core")


def day(path: Path, runs: int) -> None:
    """Opening, seeking and diagnosing a long recording."""
    recording = Recording(path)
    print(f"{path.name}: {recording.duration / 3600:.1f} h, {path.stat().st_size / 1e6:.1f} MB")
    opened = [timed(lambda: Recording(path).duration) for _ in range(7)]
    print(f"open, with its length: median {statistics.median(opened) * 1e3:.0f} ms, at most {max(opened) * 1e3:.0f} ms")
    chance = random.Random(0)
    places = [chance.uniform(recording.start, recording.end) for _ in range(SEEKS)]
    sought = [timed(lambda t=t: next(iter(recording.seek(t)))) for t in places]  # type: ignore[misc]
    fresh = [timed(lambda t=t: next(iter(Recording(path).seek(t)))) for t in places]  # type: ignore[misc]
    for name, took in (("seek", sought), ("open and seek", fresh)):
        print(
            f"{name}, {SEEKS} places: median {statistics.median(took) * 1e3:.0f} ms, at most {max(took) * 1e3:.0f} ms"
        )
    for _ in range(runs):
        wall, cpu, held = bench_doctor.run(path)
        print(f"doctor: {wall:.1f} s, {cpu:.1f} s of CPU, {held:.0f} MiB at most")
    count, spent = bench_doctor.parts(path)
    print(f"{count} samples, µs of CPU each: {', '.join(f'{name} {value:.0f}' for name, value in spent.items())}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What recordings cost.")
    parser.add_argument("traces", type=Path, nargs="*", default=TRACES)
    parser.add_argument("--day", type=Path, help="a long recording that is there already")
    parser.add_argument("--hours", type=float, default=24.0, help="of the day; 0: none")
    parser.add_argument("--seconds", type=float, default=3600.0, help="that each trace is looped to; 0: none")
    parser.add_argument("--at-1hz", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--runs", type=int, default=1, help="of doctor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.seconds:
            hours(options.traces, options.seconds, Path(folder))
        if options.at_1hz:
            at_1hz(options.traces[0], options.at_1hz, Path(folder))
        if options.hours:
            long = options.day or Path(folder) / "day.qtop"
            if options.day is None:
                command = [ROOT / "scripts/loop_recording.py", long, options.traces[0]]
                subprocess.run([sys.executable, *command, "--seconds", str(options.hours * 3600)], check=True)
            day(long, options.runs)


if __name__ == "__main__":
    main()
