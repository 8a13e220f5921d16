"""Latency over a window, from the histogram buckets of two scrapes: a mean, and percentiles no sharper than the
buckets are.

A percentile here is the nearest rank: the k-th smallest of n, k = ⌈q·n⌉. All that a histogram tells of it is the bucket
that holds it, so the range goes with the figure; below the first bound and above the last there is only that bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from qtop.model.series import Match, Totals, increase, ratio
from qtop.model.serving import Latency, Quantile
from qtop.sample import Absent, Reading, Why

SHARES = {"p50": Fraction(1, 2), "p95": Fraction(95, 100), "p99": Fraction(99, 100)}
WINDOW_S = 30.0
"""Shortest span of a window: a request is counted when it ends, its first token when it comes."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a histogram gained between two scrapes: observations up to each bound, in the histogram's own unit."""

    bounds: tuple[float, ...]
    """Finite, ascending."""
    below: tuple[float, ...]
    """Observations not above each bound."""
    n: float
    total: Reading[float]
    """Sum of all observations."""


def window(old: Totals, new: Totals, name: str, match: Match = ()) -> Window | Absent:
    """The gain of a histogram, its series (engines, ranks) added up; only bounds that each of them has are kept.

    Absent where a counter fell (the server began anew), where nothing was observed, where buckets contradict each
    other. A series that was not there before counts from 0, as servers create them with their first observation.
    """
    counts = new.layout.named(f"{name}_count", match)
    buckets = new.layout.buckets(name, match)
    if not counts and not buckets:
        return Absent(Why.UNSUPPORTED, f"the server has no {name}")
    if not buckets:
        return Absent(Why.UNSUPPORTED, f"{name} has no buckets")
    shared: dict[float, float] | None = None
    n, whole = 0.0, True
    for pairs in buckets.values():
        gained: dict[float, float] = {}
        for bound, key in pairs:
            grown = new.series[key] - old.series.get(key, 0.0)
            if grown < 0:
                return Absent(Why.NOT_YET, "the counter began anew")
            gained[bound] = grown
        whole = whole and math.inf in gained
        n += gained.pop(math.inf, 0.0)
        shared = gained if shared is None else {b: shared[b] + gained[b] for b in shared.keys() & gained.keys()}
    if not whole:  # without its last bucket a histogram has its count
        counted = _gain(old, new, f"{name}_count", match)
        if isinstance(counted, Absent):
            return counted
        n = counted
    bounds = tuple(sorted(shared or ()))
    below = tuple((shared or {})[bound] for bound in bounds)
    if n <= 0:
        return Absent(Why.NOT_YET, "nothing observed in the window")
    if any(a > b for a, b in zip(below, (*below[1:], n), strict=True)):
        return Absent(Why.FAILED, f"the buckets of {name} contradict each other")
    return Window(bounds, below, n, _gain(old, new, f"{name}_sum", match))


def _gain(old: Totals, new: Totals, name: str, match: Match) -> Reading[float]:
    now = new.total(name, match=match)
    before = old.total(name, match=match)
    return increase(0.0 if isinstance(before, Absent) else before, now)


def needed(share: Fraction) -> int:
    """Observations that a percentile needs: one beyond it on average (p50 2, p95 20, p99 100)."""
    return math.ceil(1 / (1 - share))


def quantile(gain: Window, share: Fraction, scale: float = 1.0) -> Reading[Quantile]:
    """The percentile as a figure, its relation to the truth and the range that holds the truth, in units × ``scale``.

    "=": between two known bounds, interpolated; "<": not above the first bound; ">": above the last one.
    """
    if gain.n < needed(share):
        return Absent(Why.NOT_YET, f"needs {needed(share)} in the window, there are {gain.n:.0f}")
    rank = math.ceil(share * Fraction(gain.n))
    at = next((place for place, below in enumerate(gain.below) if below >= rank), None)
    if at is None:
        if not gain.bounds:
            return Absent(Why.UNSUPPORTED, "the histogram has no finite bucket")
        last = gain.bounds[-1] * scale
        return Quantile(last, ">", last, math.inf)
    high = gain.bounds[at] * scale
    if at == 0:
        return Quantile(high, "=" if high == 0 else "<", 0.0, high)
    low, before = gain.bounds[at - 1] * scale, gain.below[at - 1]
    inside = (rank - before) / (gain.below[at] - before)
    return Quantile(low + (high - low) * inside, "=", low, high)


def latency(old: Totals, new: Totals, names: tuple[str, ...], scale: float, match: Match = ()) -> Latency | Absent:
    """Mean, count and percentiles of the first of these histograms that is there; ``scale`` turns its unit into ms."""
    name = next((one for one in names if new.layout.named(f"{one}_count", match)), names[0])
    gain = window(old, new, name, match)
    if isinstance(gain, Absent):
        return gain
    mean = ratio(gain.total, gain.n)
    figures: Mapping[str, Reading[Quantile]] = {key: quantile(gain, share, scale) for key, share in SHARES.items()}
    return Latency(
        source=name,
        n=gain.n,
        mean_ms=mean if isinstance(mean, Absent) else mean * scale,
        p50=figures["p50"],
        p95=figures["p95"],
        p99=figures["p99"],
    )
