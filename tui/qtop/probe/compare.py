"""Whether a change helped: test requests from before and after against each other, with a band for noise. Pure.

One number a request goes in (its TTFT; the median of its gaps, or its TPOT where an event carries several tokens), and
the medians of the two sides are compared. The band is the larger of 5 % and the uncertainty of the difference. A side's
uncertainty is half the width of the distribution-free 95 % interval of its median (order statistics; below six requests
that is their whole range). The two are added as they are where a side has fewer than five requests, otherwise as the
root of the sum of squares.

A machine that gets slower or faster by itself between before and after looks like a change. ``compare_in_turn`` takes
several blocks of each, measured in turn (before, after, before, after): a side's figure is the geometric mean of its
blocks' medians, and the band is at least as wide as the blocks of one side lie apart (of a single block: its halves).
So, in turn, neither a steady drift nor a single step, whenever it comes and however large, can be taken for an effect:
it moves the blocks of one side apart by at least as much as the two sides. Simulated as ``act.proof`` does it (up to
three blocks a side of at least 3 s and 6 requests, the next only where there is a difference so far), with nothing
changed, noise of 3–10 % a request, and a machine that drifts by 1 % a second, steps once by 50 %, wanders by 10 %
within 3 to 10 s, has a neighbour that comes and goes every 5 to 20 s and costs 50 %, or swings by 15 % in waves of 5 to
60 s: a difference is called in 0–3 % (waves: 4–6 %), where a single before and after calls one in 20–98 %. A change of
20 % on a machine that keeps still is seen in all of them, one of 50 % on any of these in 90–100 %.

Simulated with gaussian noise of 10 % a request: where nothing changed it calls a difference in 12 % of comparisons of 3
requests a side and in 5 % or fewer from 5 on; a change of 20 % is seen in 56 % (3 and 5), 74 % (10) and 98 % (20).
With noise of 2 %, as on a quiet server: 1 % and 100 %, at 3 requests already.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, geometric_mean, median
from typing import Literal, NamedTuple

import msgspec

from qtop.probe.summary import interval_rank
from qtop.probe.timing import ProbeResult

Metric = Literal["TTFT", "ITL p50", "TPOT", "E2E"]
Verdict = Literal["better", "worse", "within noise", "cannot tell"]
Requests = Sequence[ProbeResult]

FLOOR_PCT = 5.0
"""Below this nobody notices, and runs a minute apart differ by as much."""
NEEDS = 3
"""Requests that ended well, on each side."""
RANGES = {3: 2.61, 4: 1.43, 5: 1.01}
"""So many times half the range of so many values holds the middle in 95 % (Lord, Biometrika 34, 1947, table 9: 1.304,
0.717 and 0.507 of the range)."""
MOST_ALIKE = 0.8
"""More correlation of neighbours than this cannot be told from a drift in so few values."""
FEW = 5
"""Below this many on a side, a range understates the noise, so the two sides' are added in full."""


class Change(msgspec.Struct, frozen=True):
    """One metric before and after; lower is better. Figures are None where they cannot be had."""

    metric: Metric
    before_ms: float | None
    """Median of the requests."""
    after_ms: float | None
    change_pct: float | None
    """(after - before) / before, in %; negative is better."""
    band_pct: float | None
    """A change within ± this is noise."""
    verdict: Verdict
    why: str = ""
    """Why it cannot be told, one clause."""


class Comparison(msgspec.Struct, frozen=True):
    """What two sets of test requests show together."""

    ttft: Change
    itl: Change
    """ITL p50, or TPOT where events carry several tokens on either side."""
    verdict: Verdict
    text: str
    """All of it on one line."""
    whole: Change | None = None
    """The whole request, where it decides: one of the two is worse and the other shorter, or the server was started
    anew and TTFT alone differs."""


def compare(before: Requests, after: Requests, halves: bool = False, anew: bool = False) -> Comparison:
    """Compare test requests from before and after a change. ``halves``: they are in the order in which they were sent,
    one by one, and the band is at least as wide as the two halves of a side lie apart. ``anew``: the server was started
    in between, and where TTFT alone differs the time of the whole request decides: TTFT differs from start to start by
    more than within one (measured on an idle vLLM on an H100, nothing changed: 18.9 → 18.0 ms and 17.5 → 22.6 ms).

    Overall it is worse where either metric is, or where a larger share of the requests fails than before; better where
    one is better and none worse; within noise where both are; otherwise it cannot be told. Where one is worse and the
    other shorter, as when more requests run at once and none waits, the time of the whole request decides.
    """
    return _compare([before], [after], halves, anew)


def compare_in_turn(befores: Sequence[Requests], afters: Sequence[Requests]) -> Comparison:
    """As ``compare``, of blocks of requests that were measured in turn."""
    return _compare(befores, afters)


def _compare(
    befores: Sequence[Requests], afters: Sequence[Requests], halves: bool = False, anew: bool = False
) -> Comparison:
    blocks = [[[r for r in block if r.ok] for block in side] for side in (befores, afters)]
    ttft = _change("TTFT", *(_values(side, _ttft) for side in blocks), halves=halves)
    kinds = {r.gap_kind for side in blocks for block in side for r in block if r.itl_ms is not None}
    # A server that gets behind sends several tokens an event: gaps of the two sides then mean different things, and
    # the time a token, from the server's own count, is what can be compared.
    itl = (
        _change("TPOT", *(_values(side, _tpot) for side in blocks), halves=halves)
        if "icl" in kinds
        else _change("ITL p50", *(_values(side, _itl) for side in blocks), halves=halves)
    )
    asked = [sum(len(block) for block in side) for side in (befores, afters)]
    failed = [count - sum(len(block) for block in side) for count, side in zip(asked, blocks, strict=True)]
    more_fail = failed[1] * asked[0] > failed[0] * asked[1]
    verdicts = {ttft.verdict, itl.verdict}
    whole: Change | None = None
    verdict: Verdict
    if "worse" in verdicts and not more_fail and any(_shorter(one) for one in (ttft, itl)):
        whole = _change("E2E", *(_values(side, _e2e) for side in blocks), halves=halves)
        verdict = "cannot tell" if whole.verdict == "within noise" else whole.verdict
    elif anew and not more_fail and itl.verdict == "within noise" and ttft.verdict in ("better", "worse"):
        whole = _change("E2E", *(_values(side, _e2e) for side in blocks), halves=halves)
        verdict = whole.verdict
    elif more_fail or "worse" in verdicts:
        verdict = "worse"
    elif "better" in verdicts:
        verdict = "better"
    elif verdicts == {"within noise"}:
        verdict = "within noise"
    else:
        verdict = "cannot tell"
    parts = [_part(one) for one in (ttft, itl, whole) if one is not None]
    if more_fail:
        parts.insert(0, f"{failed[1]} of {asked[1]} requests failed after ({failed[0]} of {asked[0]} before)")
    return Comparison(ttft=ttft, itl=itl, verdict=verdict, text=f"{verdict}: " + "; ".join(parts), whole=whole)


def _shorter(change: Change) -> bool:
    return change.change_pct is not None and change.change_pct < -FLOOR_PCT


def _ttft(result: ProbeResult) -> float | None:
    return result.ttft_ms


def _itl(result: ProbeResult) -> float | None:
    return result.itl_ms.p50 if result.itl_ms else None


def _tpot(result: ProbeResult) -> float | None:
    return result.tpot_ms


def _e2e(result: ProbeResult) -> float | None:
    return result.e2e_ms


def _values(blocks: Sequence[Requests], pick: Callable[[ProbeResult], float | None]) -> list[list[float]]:
    """Each block's figures, in the order in which they were measured."""
    return [[value for r in block if (value := pick(r)) is not None] for block in blocks]


class Side(NamedTuple):
    """One figure of several windows, in the order in which they were measured."""

    middle: float
    """The median."""
    half: float
    """Half the width of the interval that holds the true median in 95 %; below six values half their range."""
    halves: tuple[float, float] | None
    """Medians of the earlier and the later half, None where there is too little for them."""


def side_of(values: Sequence[float]) -> Side | None:
    """What is known of a figure from these windows; None where there are fewer than ``NEEDS``."""
    if len(values) < NEEDS:
        return None
    parts = _halved(values)
    halves = (median(parts[0]), median(parts[1])) if len(parts) == 2 else None
    return Side(median(values), _half_width(sorted(values)), halves)


def band_of(befores: Sequence[float], afters: Sequence[float]) -> float | None:
    """Within ± this, in the figure's own unit, the medians of two recordings differ by chance or by a drift of the
    machine, without the floor. None where a side has too little.

    Windows are not requests. Three of a recording may all lie in one wave of the load, so below six a side the ranges
    are widened to what holds the middle in 95 % (``RANGES``). From six on it is half the 95 % interval of Moses for a
    shift (of all differences between the sides, those that a rank test would not reject; Hollander & Wolfe,
    Nonparametric Statistical Methods, 4.3): a server takes its requests in rounds, windows are of two or three kinds
    then, and the interval of a median reaches from one kind to the other however many windows there are. Windows that
    are like the one before are worth fewer (``_worth_fewer``).

    Simulated with independent gaussian noise of 10 %, nothing changed: a difference in 2–6 %; a change of 25 % is seen
    in 23 % (3 windows a side), 52 % (4), 82 % (6) and 95 % (10). Where each window is correlated with the next by a
    half, 9–18 % are false (11 % of 18 windows; 16 % without that). scripts/diff_pairs.py does it with recordings.
    """
    sides = [side_of(befores), side_of(afters)]
    found = [one for one in sides if one is not None]
    if len(found) < 2:
        return None
    drift = max(abs(one.halves[1] - one.halves[0]) if one.halves else 0.0 for one in found)
    if min(len(befores), len(afters)) > max(RANGES):
        spread = _shift_half_width(befores, afters)
    else:
        wide = [one.half * RANGES.get(len(side), 1.0) for one, side in zip(found, (befores, afters), strict=True)]
        few = min(len(befores), len(afters)) < FEW
        spread = max(math.hypot(*wide), found[0].half + found[1].half if few else 0.0)
    return max(spread * _worth_fewer(befores, afters), drift)


def _worth_fewer(*sides: Sequence[float]) -> float:
    """How many times wider an interval is because each value is like the one before: the root of (1 + r) / (1 - r), r
    the correlation of neighbours within the sides, where it is positive (source: the variance of the mean of a
    first-order autoregressive process)."""
    product = square = 0.0
    for side in sides:
        apart = [value - fmean(side) for value in side]
        product += sum(a * b for a, b in pairwise(apart))
        square += sum(a * a for a in apart)
    r = min(MOST_ALIKE, max(0.0, product / square)) if square > 0 else 0.0
    return math.sqrt((1 + r) / (1 - r))


def _shift_half_width(befores: Sequence[float], afters: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the shift between two sides, by the normal approximation of the ranks
    (within one rank of exact from six a side on)."""
    n, m = len(befores), len(afters)
    rank = max(1, round(n * m / 2 - 1.96 * math.sqrt(n * m * (n + m + 1) / 12)))
    olds, news = sorted(befores), sorted(afters)
    return (_difference_at(olds, news, n * m + 1 - rank) - _difference_at(olds, news, rank)) / 2


def _difference_at(olds: Sequence[float], news: Sequence[float], rank: int) -> float:
    """Of all differences between two sorted sides that of this rank, from 1: found by halving, since of two days there
    are 75 million of them."""
    low, high = news[0] - olds[-1], news[-1] - olds[0]
    for _ in range(60):
        middle = (low + high) / 2
        if sum(bisect_right(news, old + middle) for old in olds) >= rank:
            high = middle
        else:
            low = middle
    return high


def _change(metric: Metric, befores: list[list[float]], afters: list[list[float]], *, halves: bool) -> Change:
    old, new = _middle(befores), _middle(afters)
    least = [min((len(block) for block in side), default=0) for side in (befores, afters)]
    if old is None or new is None or min(least) < NEEDS:
        why = f"needs {NEEDS} good requests on each side, there are {least[0]} and {least[1]}"
        return Change(metric, old, new, None, None, "cannot tell", why)
    if old <= 0:
        return Change(metric, old, new, None, None, "cannot tell", "the stream came all at once")
    change = (new - old) / old * 100
    sides = (_uncertainty(befores), _uncertainty(afters))
    spread = sum(sides) if min(least) < FEW else math.hypot(*sides)
    factor = max(_apart(_halved(side[0]) if halves else side) for side in (befores, afters))
    drift = 1 - 1 / factor if change < 0 else factor - 1
    band = max(FLOOR_PCT, spread / old * 100, drift * 100)
    verdict: Verdict = "within noise" if abs(change) <= band else "better" if change < 0 else "worse"
    return Change(metric, round(old, 3), round(new, 3), round(change, 1), round(band, 1), verdict)


def _middle(blocks: Sequence[Sequence[float]]) -> float | None:
    """The geometric mean of the blocks' medians: a machine gets so many times slower, not by so many ms."""
    if not blocks or not all(blocks):
        return None
    middles = [median(block) for block in blocks]
    return geometric_mean(middles) if min(middles) > 0 else fmean(middles)


def _uncertainty(blocks: Sequence[Sequence[float]]) -> float:
    """Half the width of the interval of ``_middle``."""
    return math.hypot(*(_half_width(sorted(block)) for block in blocks)) / len(blocks)


def _apart(blocks: Sequence[Sequence[float]]) -> float:
    """How many times slower one block of a side is than another: what the machine did by itself meanwhile."""
    middles = [median(block) for block in blocks]
    return max(middles) / min(middles) if min(middles) > 0 else 1.0


def _halved(block: Sequence[float]) -> list[Sequence[float]]:
    """The earlier and the later half, where each has figures enough for a median."""
    middle = len(block) // 2
    return [block[:middle], block[middle:]] if middle >= NEEDS else [block]


def _half_width(ordered: Sequence[float]) -> float:
    """Half the width of the interval that holds the true median in 95 %; below six values half their range."""
    k = interval_rank(len(ordered))
    return (ordered[len(ordered) - k] - ordered[k - 1]) / 2


def _part(change: Change) -> str:
    if change.change_pct is None or change.verdict == "cannot tell":
        return f"{change.metric} cannot be told ({change.why})"
    return (
        f"{change.metric} {change.before_ms:.4g} → {change.after_ms:.4g} ms "
        f"({change.change_pct:+.0f} %, noise {_band_text(change.band_pct or 0.0)})"
    )


def _band_text(percent: float) -> str:
    return f"±{percent:.0f} %" if percent <= 100 else "larger than the figure itself"


def known_within(results: Requests, percent: float) -> bool:
    """Whether the medians of a block's TTFT and gaps are known within ± this."""
    good = [r for r in results if r.ok]
    for pick in (_ttft, _itl):
        (values,) = _values([good], pick)
        if len(values) < FEW or _half_width(sorted(values)) > percent / 100 * median(values):
            return False
    return True
