"""When the tokens of scripts/known_sse_server.py are due: instants worked out beforehand. Pure; monotonic seconds.

In the mode "together" all streams emit in the same instants, as vLLM does in each step; in "staggered" each has its
own. Either way gaps differ from one another in a known way and some are stalls, so that a tool which reports the mean
for each gap, or loses the longest, is found out.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Mode = Literal["together", "staggered"]
MODES: tuple[Mode, ...] = ("together", "staggered")
_GOLDEN = 0.6180339887498949
"""Multiples of it, whole parts left out, spread evenly over 0 to 1 however many there are."""


@dataclass(frozen=True)
class Plan:
    """What is asked of a run, in seconds and tokens a second."""

    mode: Mode = "together"
    ttft: float = 0.1
    """From the request's last byte to its first token, at the least; up to one gap more, in a known way."""
    rate: float = 50.0
    """Tokens a second of one stream, stalls left out."""
    jitter: float = 0.2
    """Gaps are the mean gap give or take this share of it."""
    stall: float = 0.08
    """How much longer a stalled gap is."""
    stall_every: int = 40
    """One gap in so many is a stall; 0 for none."""
    seed: int = 1

    @property
    def gap(self) -> float:
        """The mean gap without stalls."""
        return 1.0 / self.rate


def gaps(plan: Plan, key: int, offset: int = 0) -> Iterator[float]:
    """Gaps without end, the same for the same ``key``; the first stall comes after ``offset`` gaps."""
    noise = random.Random(f"{plan.seed}/{key}")
    number = plan.stall_every - 1 - offset
    while True:
        gap = plan.gap * (1.0 + plan.jitter * (2.0 * noise.random() - 1.0))
        if plan.stall_every and number % plan.stall_every == plan.stall_every - 1:
            gap += plan.stall
        number += 1
        yield gap


class Timetable:
    """The instants of a run that began at ``origin``."""

    def __init__(self, plan: Plan, origin: float) -> None:
        self.plan = plan
        self._steps = gaps(plan, 0, offset=plan.stall_every // 2)
        self._grid = [origin]

    def due(self, number: int, received: float, tokens: int) -> list[float]:
        """When each token of request ``number``, whose last byte came at ``received``, is due."""
        first = received + self.plan.ttft + self.plan.gap * (number * _GOLDEN % 1.0)
        if self.plan.mode == "staggered":
            # Stalls fall on different tokens of different streams, and on at least one where there are enough tokens.
            offset = number % self.plan.stall_every if self.plan.stall_every else 0
            own = gaps(self.plan, number + 1, offset)
            return list(accumulate((next(own) for _ in range(tokens - 1)), initial=first))
        self._extend_to(first)
        start = bisect_left(self._grid, first)
        while len(self._grid) < start + tokens:
            self._grid.append(self._grid[-1] + next(self._steps))
        return self._grid[start : start + tokens]

    def _extend_to(self, instant: float) -> None:
        while self._grid[-1] < instant:
            self._grid.append(self._grid[-1] + next(self._steps))
