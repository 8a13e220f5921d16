"""A recording as a source: its samples at the speed asked for, paused and stepped at will."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from qtop.clock import mono
from qtop.record.reader import Recording
from qtop.sample import Sample
from qtop.source import OnSample

LONGEST_WAIT = 5.0
"""Seconds: a gap in the recording is not sat through."""


@dataclass(frozen=True)
class Jump:
    """To the last sample at or before Unix second ``t`` (to the first, where all are later)."""

    t: float
    begin: float
    """From where samples are read before it."""
    land: Callable[[Iterator[Sample]], None]
    """Takes the samples from there on, the one that is gone to as the last."""
    settle: Callable[[Callable[[], bool]], None]
    """Called once it has landed, before anything is played on; for as long as what it gets says so, it may work."""


class ReplaySource:
    """Plays a recording once, then rests at its end."""

    live = False

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        self.recording = Recording(path)
        self.speed = speed
        self.interval = self.recording.header.interval or 1.0
        self.position = 0
        """Samples played, those gone through on the way to a jump's included."""
        self.t: float | None = None
        """Unix time of the last one."""
        self.ended = False
        self.failure = ""
        """What went wrong inside qtop while a sample was taken in, "" for nothing."""
        self._wake = threading.Condition()
        self._paused = False
        self._steps = 0
        self._stopped = False
        self._jump: Jump | None = None
        self._thread = threading.Thread(target=self._loop, name="qtop-replay", daemon=True)

    def start(self, on_sample: OnSample) -> None:
        """Begin to play."""
        self._on_sample = on_sample
        self._thread.start()

    def stop(self) -> None:
        """End."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def pause(self, paused: bool) -> None:
        """Hold, or go on."""
        with self._wake:
            self._paused = paused
            self._wake.notify_all()

    def step(self) -> None:
        """One sample more, while paused."""
        with self._wake:
            self._steps += 1
            self._wake.notify_all()

    def jump(self, jump: Jump) -> None:
        """Go there, and play on from there; held or not, it stays so. Of several the latest counts."""
        with self._wake:
            self._jump, self._steps = jump, 0
            self._wake.notify_all()

    def pace(self, speed: float) -> None:
        """So many times as fast as it was, from now on."""
        with self._wake:
            self.speed = speed
            self._wake.notify_all()

    def _loop(self) -> None:
        samples = self.recording.samples()
        while not self._stopped:
            self._play(samples)
            with self._wake:
                self.ended = self._jump is None
                self._wake.wait_for(lambda: self._wanted)
                jump, self._jump, self.ended = self._jump, None, False
            if jump is not None:
                samples = self._land(jump)

    def _play(self, samples: Iterator[Sample]) -> None:
        for sample in samples:
            if not self._hold(sample):
                return
            self._at(sample)
            with self._caught():
                self._on_sample(sample)

    def _land(self, jump: Jump) -> Iterator[Sample]:
        """Go there; gives what comes after it."""
        rest = self.recording.seek(jump.begin)
        after: list[Sample] = []

        def before() -> Iterator[Sample]:
            first = True
            for sample in rest:
                if self._wanted:
                    return
                if not first and sample.t > jump.t:
                    after.append(sample)
                    return
                first = False
                self._at(sample)
                yield sample

        with self._caught():
            jump.land(before())
            jump.settle(lambda: not self._wanted)
        return chain(after, rest)

    def _at(self, sample: Sample) -> None:
        self.t = sample.t
        self.position += 1

    @contextmanager
    def _caught(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if os.environ.get("QTOP_DEBUG"):
                raise
            self.failure = f"{type(error).__name__}: {error}"

    @property
    def _wanted(self) -> bool:
        """Something else is wanted than what is going on."""
        return self._stopped or self._jump is not None

    def _hold(self, sample: Sample) -> bool:
        """Wait until this sample is due; False when it is no longer wanted."""
        gap = 0.0 if self.t is None else min(LONGEST_WAIT, max(0.0, sample.t - self.t))
        begun = mono()
        with self._wake:
            while not self._wanted and self._steps == 0 and (left := gap / self.speed - (mono() - begun)) > 0:
                self._wake.wait(left)
            self._wake.wait_for(lambda: self._wanted or self._steps > 0 or not self._paused)
            if self._steps:
                self._steps -= 1
            return not self._wanted
