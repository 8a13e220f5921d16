"""All of a recording, looked through beside its replay: events, findings, breaks; and places to begin anew from.

A day takes a minute or more: a thread of its own does it, in small steps with rests between them. It is not made less
urgent than others (nice): it holds the interpreter while it works, and one that is kept from a CPU then keeps the
screen waiting.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from qtop.clock import mono
from qtop.diagnose.checkpoint import Checkpoint, Start
from qtop.diagnose.parts import Turn
from qtop.diagnose.stretches import Stretch, Stretches
from qtop.errors import QtopError
from qtop.model.breaks import Break, Breaks
from qtop.model.derive import run_up
from qtop.record.reader import Recording
from qtop.timeline.kinds import Kind, Point, points_of
from qtop.timeline.rerun import Rerun

EVERY_S, MOST = 30.0, 3000
"""Between two checkpoints: a jump goes through at most so much, beside the run-up. They take some kilobytes each, so
there are not more than so many of them."""
FEWEST = 5
"""Where there are few samples a minute, a checkpoint stands for at least so many of them."""
BLIND_S = 300.0
"""The run-up where nothing was looked through yet: what stands for longer than that looks younger than it is."""
AT_ONCE, REST_S = 4, 0.002
"""Samples between two rests, and how long they are: four take about as long as the interpreter's switch of threads."""
TELL_S = 0.5


class Timeline:
    """Of one recording. The lists only grow, on a thread of their own; others may read them at any time."""

    def __init__(self, path: Path, told: Callable[[], None] = lambda: None) -> None:
        self._recording = Recording(path)
        self.begin, self.end = self._recording.start, self._recording.end
        """Unix times of the first and the last sample."""
        self.points: list[Point] = []
        """Of all events, by time; there before the samples are looked at."""
        self.breaks: list[Break] = []
        self.reached = self.begin
        """Unix time up to where it has been looked through."""
        self.done = False
        self.failure = ""
        """Why it ended early, one line."""
        self._interval = self._recording.header.interval or 1.0
        self._stretches = Stretches()
        self._checkpoints: list[Checkpoint] = []
        self._told = told
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="qtop-timeline", daemon=True)

    @property
    def stretches(self) -> list[Stretch]:
        """Findings from when to when."""
        return self._stretches.all

    @property
    def turns(self) -> list[Turn]:
        """Beginnings and ends of findings, in order."""
        return self._stretches.turns

    @property
    def version(self) -> tuple[int, ...]:
        """Differs where something has been found since."""
        return len(self.points), len(self.breaks), len(self.stretches), len(self._checkpoints), self.done

    def start(self) -> None:
        """Begin to look through."""
        self._thread.start()

    def stop(self) -> None:
        """End; does not wait."""
        self._stopped.set()

    def start_for(self, t: float) -> Start:
        """Where to begin so that the moment at Unix second ``t`` is as if all before it had been played."""
        known = self._checkpoints
        at = bisect_right(known, t, key=lambda one: one.t)
        needed = run_up(self._interval)
        if not at:
            return Start(None, None, t - max(BLIND_S, needed))
        judging = known[at - 1]
        if t > self.reached and t - judging.t > max(BLIND_S, 2 * self._spacing()):
            return Start(None, None, t - max(BLIND_S, needed))
        before = bisect_right(known, judging.t - needed, key=lambda one: one.t)
        if not before:
            return Start(None, judging, self.begin)
        return Start(known[before - 1], judging, known[before - 1].t)

    def next_turn(self, t: float, by: int) -> list[Turn]:
        """The turns of the first moment after ``t`` that has any (``by`` -1: the last before it); [] for none."""
        times = sorted({one.t for one in self.turns})
        found = _beside(times, t, by)
        return [] if found is None else [one for one in self.turns if one.t == found]

    def next_marker(self, t: float, by: int) -> Point | None:
        """The first marker after ``t``, or the last before it."""
        markers = [one for one in self.points if one.kind is Kind.MARKER]
        found = _beside(sorted({one.t for one in markers}), t, by)
        return None if found is None else next(one for one in markers if one.t == found)

    def _spacing(self) -> float:
        return max(EVERY_S, FEWEST * self._interval, (self.end - self.begin) / MOST)

    def _run(self) -> None:
        try:
            self._read()
        except QtopError as error:
            self.failure = str(error)
        except Exception as error:
            if os.environ.get("QTOP_DEBUG"):
                raise
            self.failure = f"internal error: {type(error).__name__}: {error}"
        self.done = not self._stopped.is_set()
        self._told()

    def _read(self) -> None:
        points = [point for event in self._recording.events() for point in points_of(event)]
        self.points = sorted(points, key=lambda one: one.t)
        self._told()
        rerun, breaks = Rerun(kept=False), Breaks(self._interval)
        spacing, due, told = self._spacing(), self.begin, mono()
        for worked, sample in enumerate(self._recording.samples(), 1):
            if sample.t >= due:
                due = sample.t + spacing
                self._keep(rerun.checkpoint(sample.t))
            moment = rerun.push(sample)
            assert moment is not None
            found = breaks.push(sample)
            if found is not None:
                self.breaks.append(found)
            self._stretches.push(sample.t, moment.findings)
            self.reached = sample.t
            self.end = max(self.end, sample.t)  # one that is still being written grows
            if worked % AT_ONCE == 0:
                if self._stopped.is_set():
                    return
                time.sleep(REST_S)
                if mono() - told > TELL_S:
                    told = mono()
                    self._told()

    def _keep(self, checkpoint: Checkpoint) -> None:
        """Checkpoints lie in order of time: those of times that came twice are of no use to who goes there."""
        if not self._checkpoints or checkpoint.t > self._checkpoints[-1].t:
            self._checkpoints.append(checkpoint)


def _beside(times: list[float], t: float, by: int) -> float | None:
    if by > 0:
        return next((one for one in times if one > t), None)
    return next((one for one in reversed(times) if one < t), None)
