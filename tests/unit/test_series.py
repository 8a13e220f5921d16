"""Sums over series, and the memory of the latest few."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from qtop.model.series import RECENT, Totals, increase, rate, totals_of
from qtop.sample import Absent

_NAMES = st.sampled_from(["a", "b", 'a{x="1"}', 'a{x="2"}', 'b{y="3"}', "c"])


@given(st.dictionaries(_NAMES, st.floats(0, 1e9)))
def test_remembered_totals_are_the_totals(series: dict[str, float]) -> None:
    plain = Totals(series)
    for _ in range(2):
        kept = totals_of(series)
        for name in ("a", "b", "c", "d"):
            assert kept.total(name) == plain.total(name) and kept.largest(name) == plain.largest(name)


def test_equal_scrapes_are_not_the_same_scrape() -> None:
    one, two = {"a": 1.0}, {"a": 1.0}
    assert totals_of(one) is totals_of(one)
    two["a"] = 2.0
    assert totals_of(two).total("a") == 2.0 and totals_of(one).total("a") == 1.0


def test_only_the_latest_few_are_kept() -> None:
    class Series(dict[str, float]):
        pass

    first = Series(a=1.0)
    gone = weakref.ref(first)
    totals_of(first)
    del first
    for n in range(RECENT):
        totals_of({"a": float(n)})
    gc.collect()
    assert gone() is None


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.floats(0.001, 1e6))
def test_no_rate_is_negative(old: float, new: float, seconds: float) -> None:
    grown, a_second = increase(old, new), rate(old, new, seconds)
    assert isinstance(grown, Absent) if new < old else grown == new - old
    assert isinstance(a_second, Absent) or a_second >= 0
