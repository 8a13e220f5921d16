"""Sums over raw metric series, whatever labels they carry.

A server writes the same series at every scrape: which keys stand under a name, and how their labels group them, is
worked out once for a layout and kept, so that a tick reads only the series that somebody asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import inf
from operator import itemgetter, sub
from typing import Any, TypeVar

import msgspec

from qtop.sample import NOT_YET, Absent, Reading, Why
from qtop.sample.series import split_series

T = TypeVar("T")
Match = tuple[tuple[str, str], ...]
"""Labels and the values they must have; () for all series of a name."""


@lru_cache(maxsize=8192)
def base_name(key: str) -> str:
    """The metric's name without its labels."""
    return key.partition("{")[0]


class Copies(msgspec.Struct, frozen=True):
    """Labels by which an engine writes the same figure once for each of its processes (tensor-parallel ranks)."""

    engine: str
    """Tells engines apart."""
    process: tuple[str, ...]
    """Tell the processes of one engine apart."""


class Layout:
    """Which series a scrape holds, by name and by label; the values are in the scrape."""

    def __init__(self, keys: Iterable[str]) -> None:
        named: dict[str, list[str]] = {}
        self.order = list(keys)
        for key in self.order:
            named.setdefault(base_name(key), []).append(key)
        self.keys = frozenset(self.order)
        self.by_name = {name: tuple(group) for name, group in named.items()}
        self._matched: dict[tuple[str, Match], tuple[str, ...]] = {}
        self._grouped: dict[tuple[str, str, Match], dict[str, tuple[str, ...]]] = {}
        self._copied: dict[tuple[str, Copies, Match], dict[str, tuple[tuple[str, ...], ...]]] = {}
        self._buckets: dict[tuple[str, Match, Copies | None], Buckets] = {}
        self._first: dict[tuple[tuple[str, ...], Match], tuple[str, tuple[str, ...]] | None] = {}
        self._made: dict[int, tuple[object, Any]] = {}

    def once(self, owner: object, make: Callable[[Layout], T]) -> T:
        """What ``make`` gives for this layout, made the first time that ``owner`` asks: how to read a figure of it."""
        held = self._made.get(id(owner))
        if held is None:
            held = self._made[id(owner)] = (owner, make(self))  # the owner is kept, so that its id stays its own
        return held[1]

    def first(self, names: tuple[str, ...], match: Match = ()) -> tuple[str, tuple[str, ...]] | None:
        """The first of these names that is there (a metric and its former names), with its keys."""
        try:
            return self._first[names, match]
        except KeyError:
            found = next(((name, keys) for name in names if (keys := self.named(name, match))), None)
            self._first[names, match] = found
            return found

    def named(self, name: str, match: Match = ()) -> tuple[str, ...]:
        """The keys under a name whose labels have these values."""
        if not match:
            return self.by_name.get(name, ())
        found = self._matched.get((name, match))
        if found is None:
            found = tuple(key for key in self.by_name.get(name, ()) if _has(key, match))
            self._matched[name, match] = found
        return found

    def groups(self, name: str, label: str, match: Match = ()) -> dict[str, tuple[str, ...]]:
        """The same by the value of a label; series without it are under ""."""
        found = self._grouped.get((name, label, match))
        if found is None:
            lists: dict[str, list[str]] = {}
            for key in self.named(name, match):
                lists.setdefault(split_series(key)[1].get(label, ""), []).append(key)
            found = {value: tuple(keys) for value, keys in lists.items()}
            self._grouped[name, label, match] = found
        return found

    def copies(self, name: str, kept: Copies, match: Match = ()) -> dict[str, tuple[tuple[str, ...], ...]]:
        """For each engine the keys under a name as each of its processes writes them."""
        found = self._copied.get((name, kept, match))
        if found is None:
            found = {}
            for engine, keys in self.groups(name, kept.engine, match).items():
                each: dict[tuple[str, ...], list[str]] = {}
                for key in keys:
                    labels = split_series(key)[1]
                    each.setdefault(tuple(labels.get(label, "") for label in kept.process), []).append(key)
                found[engine] = tuple(tuple(group) for _, group in sorted(each.items()))
            self._copied[name, kept, match] = found
        return found

    def buckets(self, name: str, match: Match = (), copies: Copies | None = None) -> Buckets:
        """The buckets of a histogram; with ``copies`` those of one process of each engine."""
        found = self._buckets.get((name, match, copies))
        if found is None:
            lists: dict[str, list[tuple[float, str]]] = {}
            keys = self.named(f"{name}_bucket", match)
            if copies is not None:
                keys = tuple(key for each in self.copies(f"{name}_bucket", copies, match).values() for key in each[0])
            for key in keys:
                labels = dict(split_series(key)[1])
                bound = _bound(labels.pop("le", ""))
                if bound is not None:
                    lists.setdefault(repr(sorted(labels.items())), []).append((bound, key))
            found = Buckets(sorted(pairs) for pairs in lists.values())
            self._buckets[name, match, copies] = found
        return found


def adding(keys: tuple[str, ...]) -> Callable[[Mapping[str, float]], float]:
    """What adds up these series of a scrape."""
    if len(keys) == 1:
        return itemgetter(keys[0])

    def add(series: Mapping[str, float]) -> float:
        total = 0.0
        for key in keys:
            total += series[key]
        return total

    return add


def growing(layout: Layout, names: tuple[str, ...], match: Match = ()) -> Growth:
    """What tells how much the first of these counters that is there grew, up to a scrape of this layout."""
    found = layout.first(names, match)
    if found is None:
        return lambda old, new: increase(old.total(*names, match=match), new.total(*names, match=match))
    add = adding(found[1])

    def grown(old: Totals, new: Totals) -> Reading[float]:
        before = add(old.series) if old.layout is layout else old.total(*names, match=match)
        return increase(before, add(new.series))

    return grown


class Buckets:
    """The buckets of one histogram: for each set of labels besides ``le`` its bounds and keys, ascending. Sets of
    labels are the engines or ranks that count together."""

    def __init__(self, groups: Iterable[list[tuple[float, str]]]) -> None:
        given = [tuple(pairs) for pairs in groups]
        shared = set.intersection(*({bound for bound, _ in pairs} for pairs in given)) if given else set()
        self.complete = inf in shared
        """Each has its last bucket, which holds the count."""
        self.bounds = tuple(sorted(shared))
        """Those that every set of labels has."""
        rows = [[key for bound, key in pairs if bound in shared] for pairs in given]
        self._keys = [key for row in rows for key in row]
        self._width = len(self.bounds)
        # A tick reads these buckets of two scrapes: itemgetter does it in C.
        self._get = itemgetter(*self._keys) if len(self._keys) > 1 else None

    def gained(self, old: Mapping[str, float], new: Mapping[str, float]) -> list[float] | None:
        """How many observations not above each bound came between two scrapes; None where a bucket fell.

        A series that ``old`` does not have counts from 0: servers create them with their first observation.
        """
        if self._get is None:
            grown = [new[key] - old.get(key, 0.0) for key in self._keys]
        else:
            try:
                grown = list(map(sub, self._get(new), self._get(old)))
            except KeyError:
                grown = [new[key] - old.get(key, 0.0) for key in self._keys]
        if grown and min(grown) < 0:
            return None
        if len(grown) == self._width:
            return grown
        return [sum(grown[at :: self._width]) for at in range(self._width)]


def _has(key: str, match: Match) -> bool:
    labels = split_series(key)[1]
    return all(labels.get(name) == value for name, value in match)


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if bound == bound else None  # noqa: PLR0124 - NaN is no bound


LAYOUTS = 4
"""Kept: a server writes one layout, a second when a series is new."""
_layouts: deque[Layout] = deque(maxlen=LAYOUTS)


def layout_of(series: Mapping[str, float]) -> Layout:
    """The layout of these series, remembered for the latest few."""
    order = list(series)
    for known in tuple(_layouts):  # a copy, because another thread may add to it
        if known.order == order or known.keys == series.keys():  # nearly always in the same order: told much sooner
            return known
    layout = Layout(series)
    _layouts.append(layout)
    return layout


Growth = Callable[["Totals", "Totals"], Reading[float]]
"""Increase between two scrapes."""


class Totals:
    """The series of one scrape, read by name; several engines of one server count together."""

    def __init__(self, series: Mapping[str, float]) -> None:
        self.series = series
        self.layout = layout_of(series)
        self._sums: dict[tuple[tuple[str, ...], Match], float] = {}

    def first(self, names: tuple[str, ...], match: Match = ()) -> str | None:
        """The first of these names that is there (a metric and its former names)."""
        found = self.layout.first(names, match)
        return None if found is None else found[0]

    def total(self, *names: str, match: Match = ()) -> Reading[float]:
        """The sum under the first of these names that is there."""
        # A scrape is asked three times for most of its sums: as the new one, as the one before, as the window's first.
        try:
            return self._sums[names, match]
        except KeyError:
            found = self.layout.first(names, match)
            if found is None:
                return _missing(names)
            total = self._sums[names, match] = self.sum(found[1])
            return total

    def largest(self, *names: str, match: Match = ()) -> Reading[float]:
        """The largest single series under the first of these names that is there."""
        name = self.first(names, match)
        return _missing(names) if name is None else max(self.series[key] for key in self.layout.named(name, match))

    def sum(self, keys: Iterable[str]) -> float:
        """The sum of these series."""
        series, total = self.series, 0.0
        for key in keys:
            total += series[key]
        return total


RECENT = 64
"""A tick looks at three scrapes (the window's first, the last, the new one), each of them several times, and at each
scrape again when it is the window's first, thirty seconds on. The half that is left holds those: more would only keep
metrics in memory."""
_recent: dict[int, tuple[Mapping[str, float], Totals]] = {}
"""By the identity of the series, which are kept with it, so that the identity stays their own."""


def totals_of(series: Mapping[str, float]) -> Totals:
    """``Totals(series)``, remembered for the latest few scrapes; ``series`` must not be changed afterwards."""
    held = _recent.get(id(series))
    if held is not None and held[0] is series:
        return held[1]
    totals = Totals(series)
    if len(_recent) >= RECENT:
        for old in list(_recent)[: RECENT // 2]:  # the oldest; another thread may have taken one
            _recent.pop(old, None)
    _recent[id(series)] = (series, totals)
    return totals


def _missing(names: tuple[str, ...]) -> Absent:
    return Absent(Why.UNSUPPORTED, f"the server has no {names[0]}")


def increase(old: Reading[float], new: Reading[float]) -> Reading[float]:
    """How much a counter grew; absent where it fell, because then the server was started anew between the readings."""
    try:  # both are there, nearly always, and this is asked a hundred times a tick
        grown = new - old  # type: ignore[operator]
    except TypeError:
        return new if isinstance(new, Absent) else NOT_YET
    return grown if grown >= 0 else ANEW


ANEW = Absent(Why.NOT_YET, "the counter began anew")


def rate(old: Reading[float], new: Reading[float], seconds: float) -> Reading[float]:
    """Increase a second."""
    return per_second(increase(old, new), seconds)


def per_second(grown: Reading[float], seconds: float) -> Reading[float]:
    """An increase over so many seconds, a second."""
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
