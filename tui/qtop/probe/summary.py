"""What many test requests show together. Pure.

Percentiles stand only where there are requests enough: p90 from 10, p95 from 20, p99 from 100. The interval of a median
is distribution-free (order statistics, 95 %): from 6 values on. ITL is pooled over all gaps of all requests; gaps of
one request depend on each other, so its median gets no interval. The stall is the largest gap of all, and is always
told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import stdev
from typing import Literal

import msgspec

from qtop.probe.timing import P90_NEEDS, P99_NEEDS, ProbeResult, ServerTimes, quantile

P95_NEEDS = 20
INTERVAL_NEEDS = 6
"""Values below which no two of them hold the median in 95 %."""
GapKind = Literal["itl", "icl"]


class Stat(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of all requests, ms. What the number of values does not support is None."""

    n: int
    mean: float
    p50: float
    max: float
    std: float | None = None
    p50_low: float | None = None
    """The true median lies between this and ``p50_high`` in 95 %."""
    p50_high: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


class Objective(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request has to keep to count for goodput, ms; None: no demand."""

    ttft_ms: float | None = None
    """From being due: a user's wait has the client's queue in it."""
    tpot_ms: float | None = None
    e2e_ms: float | None = None

    def met(self, result: ProbeResult) -> bool:
        """Whether a request did; one that failed never did."""
        pairs = ((self.ttft_ms, result.ttft_due_ms), (self.tpot_ms, result.tpot_ms), (self.e2e_ms, result.e2e_ms))
        return result.ok and all(limit is None or (value is not None and value <= limit) for limit, value in pairs)


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one test; figures of latency are of the requests that ended well."""

    requests: int
    ok: int
    failed: int
    timed_out: int = 0
    """Of those that failed."""
    errors: dict[str, int] = {}
    seconds: float
    """From the first request's sending to the last one's end."""
    requests_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    output_tok_s: float | None = None
    total_tok_s: float | None = None
    ttft_ms: Stat | None = None
    ttft_due_ms: Stat | None = None
    ttfo_ms: Stat | None = None
    itl_ms: Stat | None = None
    gap_kind: GapKind = "itl"
    """"icl" where any request's events held several tokens."""
    tpot_ms: Stat | None = None
    e2e_ms: Stat | None = None
    client_queue_ms: Stat | None = None
    stall_ms: float | None = None
    """The largest gap of all."""
    goodput_s: float | None = None
    """Requests a second that met the objective, of those due; None without one."""
    good: int | None = None
    server: ServerTimes | None = None
    """Means of what the server says of each request, where it does."""


def summarise_all(results: Sequence[ProbeResult], objective: Objective | None = None) -> Summary:
    """The summary of a test's requests, in any order."""
    good = [result for result in results if result.ok]
    begin = min((result.started for result in results), default=0.0)
    seconds = max(0.0, max((result.ended for result in results), default=0.0) - begin)
    inputs = _total(result.prompt_tokens for result in good)
    outputs = _total(result.completion_tokens for result in good)
    gaps = [gap for result in good for gap in result.gaps_ms]
    met = sum(objective.met(result) for result in results) if objective is not None else None
    return Summary(
        requests=len(results),
        ok=len(good),
        failed=len(results) - len(good),
        timed_out=sum(result.timed_out for result in results),
        errors=dict(Counter(result.error for result in results if result.error).most_common(20)),
        seconds=round(seconds, 3),
        requests_s=_rate(len(good), seconds),
        input_tokens=inputs,
        output_tokens=outputs,
        output_tok_s=_rate(outputs, seconds),
        total_tok_s=None if inputs is None or outputs is None else _rate(inputs + outputs, seconds),
        ttft_ms=stat(result.ttft_ms for result in good),
        ttft_due_ms=stat(result.ttft_due_ms for result in good),
        ttfo_ms=stat(result.ttfo_ms for result in good),
        itl_ms=stat(gaps, interval=False),
        gap_kind="icl" if any(result.gap_kind == "icl" for result in good) else "itl",
        tpot_ms=stat(result.tpot_ms for result in good),
        e2e_ms=stat(result.e2e_ms for result in good),
        client_queue_ms=stat(result.client_queue_ms for result in good),
        stall_ms=max(gaps, default=None),
        goodput_s=None if met is None else _rate(met, seconds),
        good=met,
        server=_server([result.server for result in good if result.server is not None]),
    )


def _server(times: Sequence[ServerTimes]) -> ServerTimes | None:
    """The mean of each figure, over the requests that have it."""
    means: dict[str, float | None] = {}
    for name in ServerTimes.__struct_fields__:
        values = [value for one in times if (value := getattr(one, name)) is not None]
        means[name] = _round(math.fsum(values) / len(values)) if values else None
    return ServerTimes(**means) if times else None


def stat(values: Iterable[float | None], interval: bool = True) -> Stat | None:
    """The figures of the values that are there, or None if there are none."""
    ordered = sorted(value for value in values if value is not None)
    n = len(ordered)
    if not n:
        return None
    low, high = median_interval(ordered) if interval else (None, None)
    return Stat(
        n=n,
        mean=_round(math.fsum(ordered) / n),
        p50=_round(quantile(ordered, 0.5)),
        max=_round(ordered[-1]),
        std=_round(stdev(ordered)) if n > 1 else None,
        p50_low=low,
        p50_high=high,
        p90=_round(quantile(ordered, 0.9)) if n >= P90_NEEDS else None,
        p95=_round(quantile(ordered, 0.95)) if n >= P95_NEEDS else None,
        p99=_round(quantile(ordered, 0.99)) if n >= P99_NEEDS else None,
    )


def median_interval(ordered: Sequence[float]) -> tuple[float | None, float | None]:
    """The k-th smallest and k-th largest of ascending values, between which the true median lies in 95 % or more;
    (None, None) below 6 values. The number of values below the median is binomial(n, 1/2), so that the interval misses
    it with 2·P(X < k), and k is the largest that keeps this at or below 5 %."""
    n = len(ordered)
    if n < INTERVAL_NEEDS:
        return None, None
    k = interval_rank(n)
    return ordered[k - 1], ordered[n - k]


def interval_rank(n: int) -> int:
    """The k of ``median_interval`` for n values, at least 1."""
    limit = 0.05 * 2**n if n < 1000 else None
    if limit is None:  # the normal approximation is exact to a rank from here on
        return max(1, math.floor((n - 1.96 * math.sqrt(n)) / 2))
    k, below = 1, 1
    for candidate in range(2, n // 2 + 1):
        below += math.comb(n, candidate - 1)
        if 2 * below > limit:
            break
        k = candidate
    return k


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum, None where a request has no count: a sum of some would be read as one of all."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _rate(count: int | None, seconds: float) -> float | None:
    return round(count / seconds, 3) if count is not None and seconds > 0 else None


def _round(ms: float) -> float:
    return round(ms, 3)
