#!/usr/bin/env python3
"""What `qtop doctor --from` takes for a recording of an hour, the start of the process included, and where it goes.

bench_doctor.py [FILE] [--runs N]

Without FILE a minute of the tests' traces is looped to an hour first. Then doctor is run N times: wall and CPU seconds.
At last the three parts of it, in CPU microseconds a sample: reading, deriving, judging.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tui"))

from qtop.diagnose.engine import Diagnosis  # noqa: E402
from qtop.diagnose.registry import RULES  # noqa: E402
from qtop.model.derive import Deriver  # noqa: E402
from qtop.record.reader import Recording  # noqa: E402

TRACE = ROOT / "tests/data/traces/steady1.jsonl.xz"
AT_ONCE = 200
"""Samples that go through one part together, so that looking at the clock costs nothing."""


def run(recording: Path) -> tuple[float, float, float]:
    """Wall and CPU seconds of one doctor, and the MiB it held at most."""
    environ = os.environ | {"PYTHONPATH": str(ROOT / "tui")}
    command = [sys.executable, "-m", "qtop", "doctor", "--json", "--from", str(recording)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: something was found
        sys.exit(f"doctor ended with {process.returncode}")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def parts(recording: Path) -> tuple[int, dict[str, float]]:
    """The number of samples, and CPU microseconds a sample by part."""
    samples, deriver, diagnosis = Recording(recording).samples(), Deriver(kept=False), Diagnosis(RULES)
    count, spent = 0, dict.fromkeys(("reading", "deriving", "judging"), 0.0)
    while True:
        begun = time.process_time()
        some = list(islice(samples, AT_ONCE))
        read = time.process_time()
        frames = [deriver.push(sample) for sample in some]
        derived = time.process_time()
        for frame in frames:
            diagnosis.by_rule(frame)
        judged = time.process_time()
        for name, seconds in zip(spent, (read - begun, derived - read, judged - derived), strict=True):
            spent[name] += seconds
        count += len(some)
        if not some:
            return count, {name: seconds / max(1, count) * 1e6 for name, seconds in spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time `qtop doctor --from` on an hour.")
    parser.add_argument("recording", type=Path, nargs="?", help="a .qtop file; else an hour is made")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = options.recording
        if recording is None:
            recording = Path(folder) / "hour.qtop"
            subprocess.run([sys.executable, ROOT / "scripts/loop_recording.py", recording, TRACE], check=True)
        for _ in range(options.runs):
            wall, cpu, held = run(recording)
            print(f"doctor: {wall:.2f} s, {cpu:.2f} s of CPU, {held:.0f} MiB at most")
        count, spent = parts(recording)
    print(f"{count} samples, µs of CPU each: {', '.join(f'{name} {value:.0f}' for name, value in spent.items())}")


if __name__ == "__main__":
    main()
