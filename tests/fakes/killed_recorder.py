"""Recorders, one after another, each killed (kill -9) at a random instant; prints as JSON what their files held.

killed_recorder.py FOLDER COUNT SEED. They are forks of this process, so that hundreds take seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from qtop.record import blockfile
from qtop.record.redact import Redactor
from qtop.record.writer import RecordingWriter
from qtop.sample import EngineSample, Sample
from qtop.sample.codec import Header

SERIES = {f"vllm:series_{i}": float(i) for i in range(200)}


def play(path: Path, told: int) -> None:
    """Record for ever; each number of samples that were written goes into the pipe."""
    blockfile.BLOCK_RECORDS = 5  # so that most of the time a block is being made
    writer = RecordingWriter(path, Header(created=0.0, qtop_version="0"), redactor=Redactor())
    i = 0
    while writer.error is None:
        if i - writer.stats.samples < 4:
            writer.sample(Sample(float(i), engine=EngineSample(float(i), 1.0, {**SERIES, "vllm:x": float(i)})))
            i += 1
        os.write(told, writer.stats.samples.to_bytes(4, "little"))
        time.sleep(0.0002)


def one(path: Path, wait: float) -> int:
    """The number of samples that had been written when the recorder was killed, ``wait`` seconds after its first."""
    reading, told = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        play(path, told)
        os._exit(1)
    os.close(told)
    written = 0
    end = time.monotonic() + 10
    while not written and time.monotonic() < end:
        written = int.from_bytes(os.read(reading, 4), "little")
    end = time.monotonic() + wait
    while time.monotonic() < end:
        written = max(written, int.from_bytes(os.read(reading, 4), "little"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while word := os.read(reading, 4):
        written = max(written, int.from_bytes(word, "little"))
    os.close(reading)
    return written


def main() -> None:
    """Kill them, and say where their files are and how many samples each must hold."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    print(json.dumps({str(path := folder / f"{i}.qtop"): one(path, chance.uniform(0, 0.1)) for i in range(count)}))


if __name__ == "__main__":
    main()
