"""Latency over a window, from the histogram buckets of two scrapes: a mean, and percentiles no sharper than the
buckets are.

A percentile here is the nearest rank: the k-th smallest of n, k = ⌈p·n/100⌉. All that a histogram tells of it is the
bucket that holds it, so the range goes with the figure; below the first bound and above the last there is only that
bound.
"""

from __future__ import annotations

import math
from operator import gt

import msgspec

from qtop.model.series import Copies, Match, Totals, increase, ratio
from qtop.model.serving import Latency, Quantile
from qtop.sample import Absent, Reading, Why

PERCENTS = {"p50": 50, "p95": 95, "p99": 99}
WINDOW_S = 30.0
"""Shortest span of a window: a request is counted when it ends, its first token when it comes."""


class Window(msgspec.Struct, frozen=True):
    """What a histogram gained between two scrapes: observations up to each bound, in the histogram's own unit."""

    bounds: tuple[float, ...]
    """Finite, ascending."""
    below: tuple[float, ...]
    """Observations not above each bound."""
    n: float


def window(old: Totals, new: Totals, name: str, match: Match = (), copies: Copies | None = None) -> Window | Absent:
    """The gain of a histogram, its series (engines, ranks) added up; only bounds that each of them has are kept.

    Absent where a counter fell (the server began anew), where nothing was observed, where buckets contradict each
    other. A series that was not there before counts from 0, as servers create them with their first observation.
    """
    buckets = new.layout.buckets(name, match, copies)
    if not buckets.bounds:
        counted = bool(new.layout.named(f"{name}_count", match))
        why = f"{name} has no buckets" if counted else f"the server has no {name}"
        return Absent(Why.UNSUPPORTED, why)
    below = buckets.gained(old.series, new.series)
    if below is None:
        return Absent(Why.NOT_YET, "the counter began anew")
    bounds = buckets.bounds
    n: Reading[float]
    if buckets.complete:
        n, below, bounds = below[-1], below[:-1], bounds[:-1]
    else:  # without its last bucket a histogram has its count
        n = _gain(old, new, f"{name}_count", match)
        if copies is not None:
            n = Absent(Why.UNSUPPORTED, f"{name} has no last bucket")
    if isinstance(n, Absent):
        return n
    if n <= 0:
        return Absent(Why.NOT_YET, "nothing observed in the window")
    if any(map(gt, below, (*below[1:], n))):
        return Absent(Why.FAILED, f"the buckets of {name} contradict each other")
    return Window(bounds, tuple(below), n)


def _gain(old: Totals, new: Totals, name: str, match: Match) -> Reading[float]:
    now = new.total(name, match=match)
    before = old.total(name, match=match)
    return increase(0.0 if isinstance(before, Absent) else before, now)


def needed(percent: int) -> int:
    """Observations that a percentile needs: one beyond it on average (p50 2, p95 20, p99 100)."""
    return -(-100 // (100 - percent))


def quantile(gain: Window, percent: int, scale: float = 1.0) -> Reading[Quantile]:
    """The percentile as a figure, its relation to the truth and the range that holds the truth, in units × ``scale``.

    "=": between two known bounds, interpolated; "<": not above the first bound; ">": above the last one.
    """
    if gain.n < needed(percent):
        return Absent(Why.NOT_YET, f"needs {needed(percent)} in the window, there are {gain.n:.0f}")
    rank = math.ceil(percent * gain.n / 100)  # whole numbers below 2**53: exact where n is below 10**14
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
    # Rounding may carry an interpolated value past its bucket by the last bit.
    return Quantile(min(high, low + (high - low) * inside), "=", low, high)


def latency(
    old: Totals,
    new: Totals,
    names: tuple[str, ...],
    scale: float,
    match: Match = (),
    copies: Copies | None = None,
) -> Latency | Absent:
    """Mean, count and percentiles of the first of these histograms that is there; ``scale`` turns its unit into ms."""
    name = next((one for one in names if new.layout.named(f"{one}_count", match)), names[0])
    gain = window(old, new, name, match, copies)
    if isinstance(gain, Absent):
        return gain
    # Of all its series, copies too: they do not change a mean.
    mean = ratio(_gain(old, new, f"{name}_sum", match), _gain(old, new, f"{name}_count", match))
    figures = {key: quantile(gain, percent, scale) for key, percent in PERCENTS.items()}
    return Latency(
        source=name,
        n=gain.n,
        mean_ms=mean if isinstance(mean, Absent) else mean * scale,
        p50=figures["p50"],
        p95=figures["p95"],
        p99=figures["p99"],
    )
