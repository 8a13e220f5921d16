"""How a figure is read from a server's series: the vocabulary in which each engine's table is written.

A spec names its series in order of preference (a metric, then its former names) and says how they are read: as a level
now, as a rate over the tick, as a mean of a histogram. It gives the reading and where it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from qtop.model.engines.scrapes import (
    NOT_FOR_EACH,
    Ranked,
    Read,
    ReadOne,
    Scrapes,
    Spec,
    Told,
    always,
    none_of,
    spelled,
    told,
)
from qtop.model.series import (
    Copies,
    Layout,
    Match,
    Totals,
    adding,
    growing,
    increase,
    per_second,
    rate,
    ratio,
)
from qtop.sample import NOT_YET, Absent, Reading, Why


class Level(msgspec.Struct, frozen=True):
    """A gauge now. ``pick`` is how several engines combine; where an engine writes ``copies`` the largest counts."""

    names: tuple[str, ...]
    pick: Literal["sum", "max"] = "sum"
    match: Match = ()
    copies: Copies | None = None
    scale: float = 1.0
    absent: str = ""

    def plan(self, layout: Layout) -> Read:
        """The sum or the largest."""
        found = layout.first(self.names, self.match)
        if found is None:
            return always(none_of(self.names, self.absent))
        name, keys = found
        source = spelled(name, self.match)
        if len(keys) > 1:
            source = f"{'sum' if self.pick == 'sum' else 'largest'} of {source}"
        if self.copies and self.pick == "sum":
            value = self._once(layout.copies(name, self.copies, self.match).values())
        else:
            value = self._combined(keys)
        return lambda scrapes: (value(scrapes.now.series), source)

    def _combined(self, keys: tuple[str, ...]) -> Value:
        scale = self.scale
        if self.pick == "sum" or len(keys) == 1:
            add = adding(keys)
            return add if scale == 1.0 else lambda series: add(series) * scale
        return lambda series: max(series[key] for key in keys) * scale

    def _once(self, engines: Iterable[tuple[tuple[str, ...], ...]]) -> Value:
        """The sum over engines, of each the largest copy."""
        each = [[adding(copy) for copy in copies] for copies in engines]
        return lambda series: sum(max(add(series) for add in copies) for copies in each) * self.scale

    def plan_one(self, layout: Layout, label: str, value: str) -> ReadOne:
        """Of one engine."""
        found = layout.first(self.names, self.match)
        keys = layout.groups(found[0], label, self.match).get(value, ()) if found is not None else ()
        if found is None or not keys:
            return always(NOT_FOR_EACH)
        if self.copies and self.pick == "sum":
            get = self._once([layout.copies(found[0], self.copies, self.match)[value]])
        else:
            get = self._combined(keys)
        return lambda scrapes: get(scrapes.now.series)

    def values(self, layout: Layout, label: str) -> Iterable[str]:
        """The engines there are."""
        return _label_values(layout, self.names, self.match, label)


Value = Callable[[Mapping[str, float]], float]


def _label_values(layout: Layout, names: tuple[str, ...], match: Match, label: str) -> Iterable[str]:
    found = layout.first(names, match)
    return () if found is None else layout.groups(found[0], label, match)


class Rate(msgspec.Struct, frozen=True):
    """A counter's increase a second over the tick, all its series together; ``largest`` takes the series that grew
    most, ``least`` the one that grew least."""

    names: tuple[str, ...]
    match: Match = ()
    pick: Literal["sum", "largest", "least"] = "sum"
    copies: Copies | None = None
    scale: float = 1.0
    absent: str = ""
    note: str = ""

    def plan(self, layout: Layout) -> Read:
        """Per second."""
        found = layout.first(self.names, self.match)
        if found is None:
            return always(none_of(self.names, self.absent))
        name, keys = found
        many = "" if len(keys) == 1 or self.pick == "sum" else f"{self.pick} "
        source = f"{many}rate of {spelled(name, self.match)}{self.note}"
        get: ReadOne
        if self.copies:
            get = _rate_once(layout, layout.copies(name, self.copies, self.match).values())
        elif self.pick == "sum":
            grown = growing(layout, self.names, self.match)
            get = lambda scrapes: per_second(grown(scrapes.before, scrapes.now), scrapes.seconds)  # noqa: E731
        else:
            get = _rate_of(max if self.pick == "largest" else min, [_rate(layout, (key,)) for key in keys])
        scale = self.scale

        def read(scrapes: Scrapes) -> Told:
            found = get(scrapes)
            return (found, "") if isinstance(found, Absent) else (found * scale, source)

        return read

    def plan_one(self, layout: Layout, label: str, value: str) -> ReadOne:
        """Of one engine."""
        found = layout.first(self.names, self.match)
        keys = layout.groups(found[0], label, self.match).get(value, ()) if found is not None else ()
        if found is None or not keys:
            return always(NOT_FOR_EACH)
        if self.copies:
            get = _rate_once(layout, [layout.copies(found[0], self.copies, self.match)[value]])
        else:
            get = _rate(layout, keys)
        scale = self.scale

        def read(scrapes: Scrapes) -> Reading[float]:
            found = get(scrapes)
            return found if isinstance(found, Absent) else found * scale

        return read

    def values(self, layout: Layout, label: str) -> Iterable[str]:
        """The engines there are."""
        return _label_values(layout, self.names, self.match, label)


def _rate(layout: Layout, keys: tuple[str, ...]) -> ReadOne:
    """Of exactly these series: not yet where one of them was not there before."""
    add = adding(keys)

    def read(scrapes: Scrapes) -> Reading[float]:
        before = scrapes.before
        if before.layout is not layout and any(key not in before.series for key in keys):
            return NOT_YET
        return rate(add(before.series), add(scrapes.now.series), scrapes.seconds)

    return read


def _rate_of(pick: Callable[[list[float]], float], rates: Sequence[ReadOne]) -> ReadOne:
    """The largest or least of the rates that are there."""

    def read(scrapes: Scrapes) -> Reading[float]:
        known = [one for get in rates if not isinstance(one := get(scrapes), Absent)]
        return pick(known) if known else NOT_YET

    return read


def _rate_once(layout: Layout, engines: Iterable[tuple[tuple[str, ...], ...]]) -> ReadOne:
    """The sum over engines, of each the copy that grew most."""
    each = [_rate_of(max, [_rate(layout, copy) for copy in copies]) for copies in engines]

    def read(scrapes: Scrapes) -> Reading[float]:
        total = 0.0
        for get in each:
            most = get(scrapes)
            if isinstance(most, Absent):
                return most
            total += most
        return total

    return read


class Mean(msgspec.Struct, frozen=True):
    """Δsum/Δcount of a histogram over the tick, × ``scale`` (1000: seconds to ms)."""

    names: tuple[str, ...]
    scale: float = 1000.0
    match: Match = ()
    absent: str = ""
    note: str = ""

    def plan(self, layout: Layout) -> Read:
        """The mean of what was observed in the tick."""
        mean = self.between(layout)
        return lambda scrapes: mean(scrapes.before, scrapes.now)

    def between(self, layout: Layout) -> Callable[[Totals, Totals], Told]:
        """The mean from any scrape up to one of this layout."""
        name = next((one for one in self.names if layout.named(f"{one}_count", self.match)), None)
        if name is None:
            absent = none_of(self.names, self.absent)
            return lambda old, new: absent
        total, number = (growing(layout, (f"{name}_{part}",), self.match) for part in ("sum", "count"))
        source, scale = f"mean of {spelled(name, self.match)}{self.note}", self.scale

        def mean(old: Totals, new: Totals) -> Told:
            found = ratio(total(old, new), number(old, new))
            return (found, "") if isinstance(found, Absent) else (found * scale, source)

        return mean


def gain(old: Totals, new: Totals, names: tuple[str, ...], match: Match = ()) -> Reading[float]:
    """How much the first of these counters that is there grew between two scrapes."""
    return increase(old.total(*names, match=match), new.total(*names, match=match))


class Gain(msgspec.Struct, frozen=True):
    """How much a counter grew over the window."""

    names: tuple[str, ...]
    absent: str = ""

    def plan(self, layout: Layout) -> Read:
        """The increase."""
        found = layout.first(self.names)
        if found is None:
            return always(none_of(self.names, self.absent))
        grown, source = growing(layout, self.names), f"increase of {found[0]}"
        return lambda scrapes: told(grown(scrapes.begin, scrapes.now), source)


class Share(msgspec.Struct, frozen=True):
    """Δpart/Δwhole of two counters over the window, 0–1; with ``rest`` the whole is part + rest."""

    part: tuple[str, ...]
    whole: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    absent: str = ""
    nothing: str = "nothing looked up in the window"

    def plan(self, layout: Layout) -> Read:
        """The share."""
        part, other = layout.first(self.part), layout.first(self.whole or self.rest)
        if part is None or other is None:
            return always(none_of(self.part if part is None else self.whole or self.rest, self.absent))
        grown, more = growing(layout, self.part), growing(layout, self.whole or self.rest)
        source = f"{part[0]} / {f'({part[0]} + {other[0]})' if self.rest else other[0]}"

        def read(scrapes: Scrapes) -> Told:
            gained, whole = grown(scrapes.begin, scrapes.now), more(scrapes.begin, scrapes.now)
            if self.rest and not isinstance(whole, Absent) and not isinstance(gained, Absent):
                whole += gained
            return told(ratio(gained, whole, self.nothing), source)

        return read


class Split(msgspec.Struct, frozen=True):
    """A gauge by the value of a label."""

    names: tuple[str, ...]
    label: str
    absent: str = ""

    def plan(self, layout: Layout) -> Read:
        """Value of the label to level."""
        found = layout.first(self.names)
        if found is None:
            return always(none_of(self.names, self.absent))
        name = found[0]
        each = {value: adding(keys) for value, keys in layout.groups(name, self.label).items()}
        return lambda scrapes: ({value: add(scrapes.now.series) for value, add in each.items()}, name)


class SplitRate(msgspec.Struct, frozen=True):
    """A counter's increase a second by the value of a label."""

    names: tuple[str, ...]
    label: str
    absent: str = ""

    def plan(self, layout: Layout) -> Read:
        """Value of the label to rate; a value that is new counts from 0."""
        first = layout.first(self.names)
        if first is None:
            return always(none_of(self.names, self.absent))
        source = f"rate of {first[0]}"
        each = [(value, keys, adding(keys)) for value, keys in layout.groups(first[0], self.label).items()]

        def read(scrapes: Scrapes) -> Told:
            if scrapes.old is None:
                return NOT_YET, ""
            before, now = scrapes.before.series, scrapes.now.series
            known = scrapes.before.layout is layout
            rates: dict[str, float] = {}
            for value, keys, add in each:
                was = add(before) if known else sum(before.get(key, 0.0) for key in keys)
                found = rate(was, add(now), scrapes.seconds)
                if isinstance(found, Absent):
                    return found, ""
                rates[value] = found
            return rates, source

        return read


class Computed(msgspec.Struct, frozen=True):
    """A figure that takes more than one name."""

    compute: Callable[[Scrapes], Any]
    source: str

    def plan(self, layout: Layout) -> Read:
        """What the function gives."""
        return lambda scrapes: told(self.compute(scrapes), self.source)


class Histogram(msgspec.Struct, frozen=True):
    """A latency: names in order of preference, and what turns its unit into ms."""

    names: tuple[str, ...]
    scale: float = 1000.0
    match: Match = ()
    copies: Copies | None = None


class Stages(msgspec.Struct, frozen=True):
    """Where a request's time goes, for ``waterfall``: how each stage's mean is had.

    A stage named in ``parts`` is the mean of its histogram; one in ``differences`` is the first mean less the others
    ("ttft" and "e2e" stand for those of the table), never below 0; one in ``missing`` says why it cannot be had.
    """

    order: tuple[str, ...] = ("frontend", "queue", "prefill", "decode")
    parts: Mapping[str, Mean] = {}
    differences: Mapping[str, tuple[str, ...]] = {}
    sums: Mapping[str, tuple[str, ...]] = {}
    missing: Mapping[str, str] = {}
    finished: tuple[str, ...] = ()
    first_tokens: tuple[str, ...] = ()
    tokens: Mean | None = None


class EngineTable(msgspec.Struct, frozen=True):
    """All that qtop knows of one engine's series. ``fields`` are those of EngineView by name."""

    engine: str
    title: str
    fields: Mapping[str, Spec]
    missing: Mapping[str, str] = {}
    """Why a field that is not in ``fields`` cannot be had; else "‹title› does not tell"."""
    rank_label: str = ""
    """The label that tells engines of one server apart."""
    ranks: Mapping[str, Ranked] = {}
    """Fields of RankView."""
    latencies: Mapping[str, Histogram] = {}
    stages: Stages | None = None
    token_counters: tuple[str, ...] = ()
    """Counters that fall only when the server is started anew."""

    def not_told(self, name: str) -> Absent:
        """Why the engine has no such field."""
        return Absent(Why.UNSUPPORTED, self.missing.get(name, f"{self.title} does not tell"))
