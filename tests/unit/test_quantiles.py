"""Percentiles out of histogram buckets: never sharper than the buckets, never wrong."""

from __future__ import annotations

import math
from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from qtop.model.quantiles import PERCENTS, latency, needed, quantile, window
from qtop.model.series import Totals
from qtop.model.serving import Latency, Quantile
from qtop.sample import Absent, Why

_BOUNDS = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12, unique=True).map(sorted)
_VALUES = st.lists(st.floats(0.0, 150.0), max_size=300)


def histogram(values: list[float], bounds: list[float], label: str = "0") -> dict[str, float]:
    ordered = sorted(values)
    series = {
        f'h_bucket{{engine="{label}",le="{bound}"}}': float(sum(value <= bound for value in ordered))
        for bound in bounds
    }
    series[f'h_bucket{{engine="{label}",le="+Inf"}}'] = float(len(values))
    series[f'h_sum{{engine="{label}"}}'] = math.fsum(values)
    series[f'h_count{{engine="{label}"}}'] = float(len(values))
    return series


def holds(found: Quantile, truth: float) -> bool:
    inside = found.low_ms < truth <= found.high_ms or (found.low_ms == 0.0 and truth <= found.high_ms)
    return inside and found.low_ms <= found.value_ms <= found.high_ms


@given(_BOUNDS, st.lists(_VALUES, min_size=1, max_size=3), st.lists(_VALUES, min_size=1, max_size=3))
def test_the_truth_lies_in_the_range_claimed(
    bounds: list[float], before: list[list[float]], after: list[list[float]]
) -> None:
    """Several engines, a window that begins with counts already there."""
    old: dict[str, float] = {}
    new: dict[str, float] = {}
    for rank in range(max(len(before), len(after))):
        first = before[rank] if rank < len(before) else []
        more = after[rank] if rank < len(after) else []
        if rank < len(before):
            old |= histogram(first, bounds, str(rank))
        new |= histogram(first + more, bounds, str(rank))
    seen = sorted(value for values in after for value in values)
    found = latency(Totals(old), Totals(new), ("h",), 1.0)
    if not seen:
        assert isinstance(found, Absent) and found.why is Why.NOT_YET
        return
    assert isinstance(found, Latency) and found.n == len(seen)
    assert not isinstance(found.mean_ms, Absent)
    assert math.isclose(found.mean_ms, math.fsum(seen) / len(seen), rel_tol=1e-6, abs_tol=1e-6)
    for name, percent in PERCENTS.items():
        one = getattr(found, name)
        if len(seen) < needed(percent):
            assert isinstance(one, Absent)
            continue
        assert isinstance(one, Quantile)
        truth = seen[math.ceil(percent * len(seen) / 100) - 1]
        assert holds(one, truth), (name, truth, one)
        place = bisect_left(bounds, truth)
        if one.relation == ">":
            assert place == len(bounds) and math.isinf(one.high_ms) and one.value_ms == bounds[-1]
        elif one.relation == "<":
            assert place == 0 and one.value_ms == bounds[0]
        else:
            assert one.high_ms == bounds[place]


@given(_VALUES, _BOUNDS, st.data())
def test_engines_with_other_bounds_keep_what_they_share(
    values: list[float], bounds: list[float], data: st.DataObject
) -> None:
    fewer = data.draw(st.lists(st.sampled_from(bounds), unique=True).map(sorted))
    new = histogram(values, bounds, "0") | histogram(values, fewer, "1")
    found = window(Totals({}), Totals(new), "h")
    if not values:
        assert isinstance(found, Absent)
        return
    assert not isinstance(found, Absent)
    assert found.bounds == tuple(fewer) and found.n == 2 * len(values)
    assert list(found.below) == [2.0 * sum(value <= bound for value in values) for bound in fewer]


def test_no_percentile_inside_the_first_bucket_and_none_above_the_last() -> None:
    new = Totals(histogram([0.01] * 150 + [9.0] * 50, [0.3, 0.5, 0.8]))
    found = latency(Totals({}), new, ("gone", "h"), 1000.0)
    assert isinstance(found, Latency) and found.source == "h"
    assert found.p50 == Quantile(300.0, "<", 0.0, 300.0)
    assert found.p95 == found.p99 == Quantile(800.0, ">", 800.0, math.inf)


def test_inside_a_bucket_the_range_goes_with_the_figure() -> None:
    found = latency(Totals({}), Totals(histogram([0.2] * 100, [0.1, 0.3])), ("h",), 1000.0)
    assert isinstance(found, Latency)
    assert found.p50 == Quantile(200.0, "=", 100.0, 300.0)


def test_a_percentile_needs_its_number_of_observations() -> None:
    assert {percent: needed(percent) for percent in (50, 90, 95, 99)} == {50: 2, 90: 10, 95: 20, 99: 100}
    for n, count in ((1, 0), (2, 1), (19, 1), (20, 2), (99, 2), (100, 3)):
        found = latency(Totals({}), Totals(histogram([0.2] * n, [0.1, 0.3])), ("h",), 1.0)
        assert isinstance(found, Latency)
        assert [name for name in PERCENTS if isinstance(getattr(found, name), Quantile)] == [*PERCENTS][:count]


def test_a_reset_a_gap_and_a_contradiction_are_absent() -> None:
    full = histogram([0.2] * 10, [0.1, 0.3])
    fewer = histogram([0.2] * 3, [0.1, 0.3])
    reset = window(Totals(full), Totals(fewer), "h")
    assert isinstance(reset, Absent) and "began anew" in reset.detail
    assert isinstance(window(Totals(full), Totals(full), "h"), Absent)
    assert isinstance(window(Totals({}), Totals({}), "h"), Absent)
    bare = {key: value for key, value in full.items() if "_bucket" not in key}
    none = window(Totals({}), Totals(bare), "h")
    assert isinstance(none, Absent) and "no buckets" in none.detail
    broken = full | {'h_bucket{engine="0",le="0.1"}': 11.0}
    wrong = window(Totals({}), Totals(broken), "h")
    assert isinstance(wrong, Absent) and wrong.why is Why.FAILED


def test_without_its_last_bucket_a_histogram_has_its_count() -> None:
    full = histogram([0.2] * 60 + [9.0] * 140, [0.1, 0.3])
    del full['h_bucket{engine="0",le="+Inf"}']
    gain = window(Totals({}), Totals(full), "h")
    assert not isinstance(gain, Absent) and gain.n == 200
    assert quantile(gain, 95) == Quantile(0.3, ">", 0.3, math.inf)


def test_labels_choose_among_series() -> None:
    new = {key.replace('engine="0"', 'method="prefill"'): value for key, value in histogram([0.2] * 4, [0.3]).items()}
    new |= {key.replace('engine="0"', 'method="decode"'): value for key, value in histogram([0.1], [0.3]).items()}
    found = latency(Totals({}), Totals(new), ("h",), 1.0, (("method", "prefill"),))
    assert isinstance(found, Latency) and found.n == 4 and found.mean_ms == 0.2
