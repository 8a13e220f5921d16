"""A recording as a source: its samples at the speed asked for, paused and stepped at will."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from qtop.record.reader import Recording
from qtop.sample import Sample
from qtop.source import OnSample

LONGEST_WAIT = 5.0
"""Seconds: a gap in the recording is not sat through."""


class ReplaySource:
    """Plays a recording once, then rests at its end."""

    live = False

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        self.recording = Recording(path)
        self.speed = speed
        self.interval = self.recording.header.interval or 1.0
        self.position = 0
        """Samples played."""
        self.t: float | None = None
        """Unix time of the last one."""
        self.ended = False
        self.failure = ""
        """What went wrong inside qtop while a sample was taken in, "" for nothing."""
        self._wake = threading.Condition()
        self._paused = False
        self._steps = 0
        self._stopped = False
        self._again = False
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

    def restart(self) -> None:
        """Play from the beginning."""
        with self._wake:
            self._again = True
            self._wake.notify_all()

    def _loop(self) -> None:
        while not self._stopped:
            self._play(self.recording.samples())
            with self._wake:
                self.ended = not self._again
                self._wake.wait_for(lambda: self._stopped or self._again)
                self._again = self.ended = False

    def _play(self, samples: Iterator[Sample]) -> None:
        self.position, self.t = 0, None
        for sample in samples:
            if not self._hold(sample):
                return
            self.t = sample.t
            self.position += 1
            try:
                self._on_sample(sample)
            except Exception as error:
                if os.environ.get("QTOP_DEBUG"):
                    raise
                self.failure = f"{type(error).__name__}: {error}"

    def _hold(self, sample: Sample) -> bool:
        """Wait until this sample is due; False when it is no longer wanted."""
        gap = 0.0 if self.t is None else min(LONGEST_WAIT, max(0.0, sample.t - self.t)) / self.speed
        with self._wake:
            self._wake.wait_for(lambda: self._stopped or self._again or self._steps > 0, gap)
            self._wake.wait_for(lambda: self._stopped or self._again or self._steps > 0 or not self._paused)
            if self._steps:
                self._steps -= 1
            return not (self._stopped or self._again)
