"""How many requests ran over the last seconds: what stands at 64 or 256 while others wait is at a limit, even where the
limit itself is not told."""

from __future__ import annotations

from collections import deque

import msgspec

from qtop.sample import NOT_YET, Absent, Reading

SECONDS = 6.0
HARDLY = 0.8
LEAST_LIMIT = 16
"""Limits are powers of two from here up, by default (256 and 1024 of vLLM) and by habit."""
GAP_S = 5.0
"""Scrapes further apart than this do not belong together."""


class RunningView(msgspec.Struct, frozen=True):
    """The scrapes of the last six seconds."""

    seconds: float
    least: float
    """Requests that ran at the scrape at which fewest did."""
    most: float
    waiting: float
    """Requests that waited at the scrape at which fewest did."""

    at_most: float
    """Share of the scrapes at which ``most`` ran, 0–1."""

    @property
    def stands(self) -> bool:
        """It hardly moved while something waited all the time."""
        return self.at_most >= HARDLY and self.waiting > 0

    @property
    def limit(self) -> int | None:
        """The limit that shows in it; None where it does not stand, or at a number that nobody sets: an engine whose
        steps are full of prompts runs eleven, and stands there too."""
        number = int(self.most)
        usual = number >= LEAST_LIMIT and number & (number - 1) == 0
        return number if self.stands and usual else None


class RunningTrack:
    """Feed it the readings of each frame in order."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, float, float]] = deque()

    def push(self, t: float, running: Reading[float], waiting: Reading[float]) -> RunningView | Absent:
        """The window that ends at ``t``; absent until it is full."""
        kept = self._kept
        if isinstance(running, Absent) or isinstance(waiting, Absent):
            kept.clear()
            return running if isinstance(running, Absent) else waiting  # type: ignore[return-value]
        if kept and not 0.0 < t - kept[-1][0] <= GAP_S:
            kept.clear()
        kept.append((t, running, waiting))
        while t - kept[0][0] > SECONDS + 0.5:
            kept.popleft()
        seconds = t - kept[0][0]
        if seconds < SECONDS * 0.85:
            return NOT_YET
        counts = [one[1] for one in kept]
        most = max(counts)
        return RunningView(seconds, min(counts), most, min(one[2] for one in kept), counts.count(most) / len(counts))
