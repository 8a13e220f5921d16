"""Recordings of an imagined machine, written as the dashboard writes them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.fakes.stub_source import Machine

from qtop.record.writer import QUEUE, Header, RecordingWriter
from qtop.sample import Event, Sample


def record(path: Path, records: Iterable[Sample | Event], interval: float = 1.0) -> Path:
    """A recording of these, made every ``interval`` seconds."""
    writer = RecordingWriter(path, Header.here(interval=interval, source="synthetic"))
    for number, one in enumerate(records, 1):
        if isinstance(one, Event):
            writer.event(one)
        else:
            writer.sample(one)
        while number - sum(writer.stats[:2]) >= QUEUE // 2:
            time.sleep(0.001)
    writer.close()
    assert writer.error is None
    return path


def eventful() -> Iterator[Sample]:
    """Twelve minutes: an engine that waits for a CPU now and then, for longer and longer."""
    t = 0
    for wait, seconds in ((0.0, 40), (0.9, 30), (0.0, 200), (0.5, 90), (0.0, 150), (0.9, 150), (0.0, 60)):
        yield from Machine(wait=wait, tokens_s=50.0).samples(t, t + seconds)
        t += seconds
