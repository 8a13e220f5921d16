"""When a rule enters, eases and clears, by seconds observed, whatever the interval between frames.

Only the moments at which a threshold was reached are kept: a rule that is far from all of them costs an addition or two
a tick, and there are dozens of such rules.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from qtop.diagnose.rule import Clear, Enter, Severity

MAX_WEIGHT_S = 10.0
"""One frame speaks for at most so long: after a gap (suspended laptop, stopped qtop) its mean says nothing of the
moments."""
USUAL = 3.0
"""Nor for more than so many times what the frame before it spoke for: between them nobody looked."""
SLACK = 0.95
"""Half a tick of slack: eight ticks of 0.99 s are eight seconds to anybody but a machine."""


class Standing(NamedTuple):
    """What a ``Hysteresis`` knows; its fields are those of it."""

    hits: tuple[tuple[tuple[float, float], ...], ...]
    eased: float
    t: float
    dt: float
    severity: Severity | None
    watched: float
    better: float


class Hysteresis:
    """Of one rule. ``severity`` is what stands now, None where it does not fire."""

    def __init__(self, enter: tuple[Enter, ...], clear: Clear) -> None:
        worst_first = sorted(enter, key=lambda one: one.severity.rank, reverse=True)
        self._enters: tuple[tuple[Enter, deque[tuple[float, float]]], ...] = tuple(
            (one, deque()) for one in worst_first
        )
        """Each with the (t, seconds it speaks for) at which its threshold was reached."""
        self._clear = clear
        self._least = min(one.seconds for one in enter) * SLACK
        self._eased = 0.0
        self._t = self._dt = 0.0
        self.severity: Severity | None = None
        self.watched = 0.0
        """Seconds observed since it began, or since its input was gone for long."""
        self.better = 0.0
        """Seconds for which the value has been below what clears, without a gap."""

    def state(self) -> Standing:
        """All that it knows, as something that stays as it is."""
        hits = tuple(tuple(hits) for _, hits in self._enters)
        return Standing(hits, self._eased, self._t, self._dt, self.severity, self.watched, self.better)

    def resume(self, state: Standing) -> None:
        """Know what another one of the same rule knew."""
        for (_, hits), kept in zip(self._enters, state.hits, strict=True):
            hits.clear()
            hits.extend(kept)
        self._eased, self._t, self._dt = state.eased, state.t, state.dt
        self.severity, self.watched, self.better = state.severity, state.watched, state.better

    @property
    def may_clear(self) -> bool:
        """It has been watched for long enough to say that all is well."""
        return self.watched >= self._least

    def forget(self) -> None:
        """Its input was gone for long: begin anew."""
        for _, hits in self._enters:
            hits.clear()
        self.severity = None
        self.watched = self.better = self._eased = 0.0

    def push(self, t: float, dt: float, value: float) -> None:
        """A frame at ``t`` that speaks for the ``dt`` seconds before it."""
        weight = min(dt, MAX_WEIGHT_S)
        if self._dt > 0.0:
            weight = min(weight, USUAL * self._dt)
        if t < self._t:  # the clock was set back: what it told until then would be of the future
            for _, hits in self._enters:
                hits.clear()
        self._t, self._dt = t, dt or self._dt
        clear = self._clear
        self.watched += weight
        self.better = self.better + weight if value < clear.below else 0.0
        if clear.ease is not None:
            self._eased = self._eased + weight if value < clear.ease else 0.0
        worst: Severity | None = None
        for enter, hits in self._enters:
            if value >= enter.at:
                hits.append((t, weight))
            elif not hits:
                continue
            # A frame speaks for the dt before it: keep it until its own beginning has left the span.
            begin = t - enter.of - 1e-6
            while hits and hits[0][0] <= begin:
                hits.popleft()
            if worst is None and hits and 0.0 < sum(one[1] for one in hits) >= enter.seconds * SLACK:
                worst = enter.severity
        standing = self.severity
        if worst is not None:
            eased = clear.ease is not None and self._eased >= clear.seconds - 1e-6
            if standing is None or worst.rank > standing.rank or eased:
                self.severity = worst
        elif standing is not None and self.better >= clear.seconds - 1e-6:
            self.severity = None
