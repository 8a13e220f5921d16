"""The last minutes of frames, for charts and for stepping back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from qtop.model.frame import Frame
from qtop.sample import Absent, Reading

KEEP_S = 900.0
"""Fifteen minutes; a frame is a few KB."""
MAX_FRAMES = 4000


class History:
    """Frames in order of time, bounded by age and number."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []

    def add(self, frame: Frame) -> None:
        """Append a frame; an earlier one (a replay that went back) begins anew from there."""
        while self._frames and self._frames[-1].t >= frame.t:
            self._frames.pop()
        self._frames.append(frame)
        if len(self._frames) > MAX_FRAMES or self._frames[0].t < frame.t - KEEP_S * 1.1:
            start = bisect_right(self._frames, frame.t - KEEP_S, key=lambda one: one.t)
            del self._frames[: max(start, len(self._frames) - MAX_FRAMES)]

    def between(self, begin: float, end: float) -> list[Frame]:
        """The frames later than ``begin`` and not later than ``end``."""
        first = bisect_right(self._frames, begin, key=lambda one: one.t)
        return self._frames[first : bisect_right(self._frames, end, key=lambda one: one.t)]

    def series(
        self, pick: Callable[[Frame], Reading[float]], until: float, seconds: float
    ) -> list[tuple[float, float | None]]:
        """(t, value) of the frames in the ``seconds`` up to ``until``; None where it was absent."""
        points: list[tuple[float, float | None]] = []
        for frame in self.between(until - seconds, until):
            value = pick(frame)
            points.append((frame.t, None if isinstance(value, Absent) else float(value)))
        return points

    def __len__(self) -> int:
        return len(self._frames)
