"""Sums over raw metric series, whatever labels they carry."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache

from qtop.sample import NOT_YET, Absent, Reading, Why


@lru_cache(maxsize=8192)
def base_name(key: str) -> str:
    """The metric's name without its labels."""
    return key.partition("{")[0]


class Totals:
    """The series of one scrape, added up by name; several engines of one server count together."""

    def __init__(self, series: Mapping[str, float]) -> None:
        self._sum: dict[str, float] = {}
        self._max: dict[str, float] = {}
        for key, value in series.items():
            name = base_name(key)
            self._sum[name] = self._sum.get(name, 0.0) + value
            self._max[name] = max(self._max.get(name, value), value)

    def total(self, *names: str) -> Reading[float]:
        """The sum under the first of these names that is there (a metric and its former names)."""
        return _first(self._sum, names)

    def largest(self, *names: str) -> Reading[float]:
        """The largest single series under the first of these names that is there."""
        return _first(self._max, names)


RECENT = 4
"""A tick looks at three scrapes (the window's first, the last, the new one), each of them several times."""
_recent: deque[tuple[Mapping[str, float], Totals]] = deque(maxlen=RECENT)


def totals_of(series: Mapping[str, float]) -> Totals:
    """``Totals(series)``, remembered for the latest few scrapes; ``series`` must not be changed afterwards."""
    for known, totals in tuple(_recent):  # a copy, because another thread may add to it
        if known is series:
            return totals
    totals = Totals(series)
    _recent.append((series, totals))
    return totals


def _first(table: Mapping[str, float], names: Iterable[str]) -> Reading[float]:
    for name in names:
        if name in table:
            return table[name]
    return Absent(Why.UNSUPPORTED, f"the server has no {next(iter(names))}")


def increase(old: Reading[float], new: Reading[float]) -> Reading[float]:
    """How much a counter grew; absent where it fell, because then the server was started anew between the readings."""
    if isinstance(new, Absent):
        return new
    if isinstance(old, Absent):
        return NOT_YET
    return new - old if new >= old else Absent(Why.NOT_YET, "the counter began anew")


def rate(old: Reading[float], new: Reading[float], seconds: float) -> Reading[float]:
    """Increase a second."""
    grown = increase(old, new)
    if isinstance(grown, Absent):
        return grown
    return grown / seconds if seconds > 0 else NOT_YET


def ratio(
    part: Reading[float], whole: Reading[float], nothing: str = "nothing finished in the window"
) -> Reading[float]:
    """part / whole of two increases; absent where the whole is 0."""
    if isinstance(part, Absent):
        return part
    if isinstance(whole, Absent):
        return whole
    return part / whole if whole > 0 else Absent(Why.NOT_YET, nothing)
