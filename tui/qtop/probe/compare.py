"""Whether a change helped: two sets of test requests against each other, with a band for noise. Pure.

One number a request goes in (its TTFT; the median of its gaps, or its TPOT where an event carries several tokens), and
the medians of the two sides are compared. The band
is the larger of 5 % and the uncertainty of the difference. A side's uncertainty is half the width of the
distribution-free 95 % interval of its median (order statistics; below six requests that is their whole range). The two
are added as they are where a side has fewer than five requests, otherwise as the root of the sum of squares.

Simulated with gaussian noise of 10 % a request: where nothing changed it calls a difference in 12 % of comparisons of 3
requests a side and in 5 % or fewer from 5 on; a change of 20 % is seen in 56 % (3 and 5), 74 % (10) and 98 % (20).
With noise of 2 %, as on a quiet server: 1 % and 100 %, at 3 requests already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal

import msgspec

from qtop.probe.summary import interval_rank
from qtop.probe.timing import ProbeResult

Metric = Literal["TTFT", "ITL p50", "TPOT"]
Verdict = Literal["better", "worse", "within noise", "cannot tell"]

FLOOR_PCT = 5.0
"""Below this nobody notices, and runs a minute apart differ by as much."""
NEEDS = 3
"""Requests that ended well, on each side."""
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


def compare(before: Sequence[ProbeResult], after: Sequence[ProbeResult]) -> Comparison:
    """Compare test requests from before and after a change.

    Overall it is worse where either metric is, or where a larger share of the requests fails than before; better where
    one is better and none worse; within noise where both are; otherwise it cannot be told.
    """
    good = [[r for r in side if r.ok] for side in (before, after)]
    ttft = _change("TTFT", *(_values(side, _ttft) for side in good))
    kinds = {r.gap_kind for side in good for r in side if r.itl_ms is not None}
    # A server that gets behind sends several tokens an event: gaps of the two sides then mean different things, and
    # the time a token, from the server's own count, is what can be compared.
    itl = (
        _change("TPOT", *(_values(side, _tpot) for side in good))
        if "icl" in kinds
        else _change("ITL p50", *(_values(side, _itl) for side in good))
    )
    failed = [len(side) - len(ok) for side, ok in zip((before, after), good, strict=True)]
    more_fail = failed[1] * len(before) > failed[0] * len(after)
    verdicts = {ttft.verdict, itl.verdict}
    verdict: Verdict
    if more_fail or "worse" in verdicts:
        verdict = "worse"
    elif "better" in verdicts:
        verdict = "better"
    elif verdicts == {"within noise"}:
        verdict = "within noise"
    else:
        verdict = "cannot tell"
    parts = [_part(ttft), _part(itl)]
    if more_fail:
        parts.insert(0, f"{failed[1]} of {len(after)} requests failed after ({failed[0]} of {len(before)} before)")
    return Comparison(ttft=ttft, itl=itl, verdict=verdict, text=f"{verdict}: " + "; ".join(parts))


def _ttft(result: ProbeResult) -> float | None:
    return result.ttft_ms


def _itl(result: ProbeResult) -> float | None:
    return result.itl_ms.p50 if result.itl_ms else None


def _tpot(result: ProbeResult) -> float | None:
    return result.tpot_ms


def _values(results: Sequence[ProbeResult], pick: Callable[[ProbeResult], float | None]) -> list[float]:
    return sorted(value for r in results if (value := pick(r)) is not None)


def _change(metric: Metric, before: list[float], after: list[float]) -> Change:
    old = median(before) if before else None
    new = median(after) if after else None
    if old is None or new is None or len(before) < NEEDS or len(after) < NEEDS:
        why = f"needs {NEEDS} good requests on each side, there are {len(before)} and {len(after)}"
        return Change(metric, old, new, None, None, "cannot tell", why)
    if old <= 0:
        return Change(metric, old, new, None, None, "cannot tell", "the stream came all at once")
    change = (new - old) / old * 100
    sides = (_half_width(before), _half_width(after))
    spread = sum(sides) if min(len(before), len(after)) < FEW else math.hypot(*sides)
    band = max(FLOOR_PCT, spread / old * 100)
    verdict: Verdict = "within noise" if abs(change) <= band else "better" if change < 0 else "worse"
    return Change(metric, round(old, 3), round(new, 3), round(change, 1), round(band, 1), verdict)


def _half_width(ordered: Sequence[float]) -> float:
    """Half the width of the interval that holds the true median in 95 %; below six values half their range."""
    k = interval_rank(len(ordered))
    return (ordered[len(ordered) - k] - ordered[k - 1]) / 2


def _part(change: Change) -> str:
    if change.change_pct is None or change.verdict == "cannot tell":
        return f"{change.metric} cannot be told ({change.why})"
    return (
        f"{change.metric} {change.before_ms:.4g} → {change.after_ms:.4g} ms "
        f"({change.change_pct:+.0f} %, noise ±{change.band_pct:.0f} %)"
    )
