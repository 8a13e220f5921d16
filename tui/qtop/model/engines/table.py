"""How a figure is read from a server's series: the vocabulary in which each engine's table is written.

A spec names its series in order of preference (a metric, then its former names) and says how they are read: as a level
now, as a rate over the tick, as a mean of a histogram. It gives the reading and where it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol

import msgspec

from qtop.model.series import Copies, Match, Totals, increase, rate, ratio, totals_of
from qtop.sample import NOT_YET, Absent, EngineSample, Reading, Why

Told = tuple[Any, str]
"""A reading and its source ("" where it is absent)."""


class Scrapes(msgspec.Struct, frozen=True):
    """The scrapes that a view is made of: the last two, and the first of the window."""

    old: EngineSample | None
    new: EngineSample
    before: Totals
    now: Totals
    begin: Totals
    seconds: float
    """Between the last two; 0 where there is but one."""

    @classmethod
    def of(cls, old: EngineSample | None, new: EngineSample, first: EngineSample | None = None) -> Scrapes:
        """``first`` begins the window; without it the window is the tick."""
        before = totals_of(old.series) if old is not None else Totals({})
        return cls(
            old=old,
            new=new,
            before=before,
            now=totals_of(new.series),
            begin=totals_of(first.series) if first is not None else before,
            seconds=new.at - old.at if old is not None else 0.0,
        )


class Spec(Protocol):
    """One way to read one figure."""

    def read(self, scrapes: Scrapes) -> Told:
        """The reading with its source."""


class Ranked(Spec, Protocol):
    """A figure that can be read for one engine by itself."""

    def at(self, scrapes: Scrapes, label: str, value: str) -> Reading[float]:
        """The reading of the series whose ``label`` has this value."""

    def values(self, scrapes: Scrapes, label: str) -> Iterable[str]:
        """The values that ``label`` has."""


@lru_cache(maxsize=512)
def _none(names: tuple[str, ...], absent: str) -> Told:
    return Absent(Why.UNSUPPORTED, absent or f"the server has no {names[0]}"), ""


def told(reading: Any, source: str) -> Told:
    """Without a source where the reading is absent."""
    return reading, "" if isinstance(reading, Absent) else source


@lru_cache(maxsize=512)
def spelled(name: str, match: Match) -> str:
    """The name with the labels that were asked for."""
    labels = ",".join(f'{label}="{value}"' for label, value in match)
    return f"{name}{{{labels}}}" if labels else name


class Level(msgspec.Struct, frozen=True):
    """A gauge now. ``pick`` is how several engines combine; where an engine writes ``copies`` the largest counts."""

    names: tuple[str, ...]
    pick: Literal["sum", "max"] = "sum"
    match: Match = ()
    copies: Copies | None = None
    scale: float = 1.0
    absent: str = ""

    def read(self, scrapes: Scrapes) -> Told:
        """The sum or the largest."""
        now = scrapes.now
        name = now.first(self.names, self.match)
        if name is None:
            return _none(self.names, self.absent)
        keys = now.layout.named(name, self.match)
        source = spelled(name, self.match)
        if len(keys) > 1:
            source = f"{'sum' if self.pick == 'sum' else 'largest'} of {source}"
        if self.copies and self.pick == "sum":
            engines = now.layout.copies(name, self.copies, self.match).values()
            value = sum(max(now.sum(copy) for copy in each) for each in engines)
        else:
            value = self._combined(now, keys)
        return value * self.scale, source

    def _combined(self, now: Totals, keys: tuple[str, ...]) -> float:
        return now.sum(keys) if self.pick == "sum" else max(now.series[key] for key in keys)

    def at(self, scrapes: Scrapes, label: str, value: str) -> Reading[float]:
        """Of one engine."""
        now = scrapes.now
        name = now.first(self.names, self.match)
        keys = now.layout.groups(name, label, self.match).get(value, ()) if name is not None else ()
        if not keys:
            return Absent(Why.UNSUPPORTED, "not told for each engine")
        if name is not None and self.copies and self.pick == "sum":
            return max(now.sum(copy) for copy in now.layout.copies(name, self.copies, self.match)[value]) * self.scale
        return self._combined(now, keys) * self.scale

    def values(self, scrapes: Scrapes, label: str) -> Iterable[str]:
        """The engines there are."""
        name = scrapes.now.first(self.names, self.match)
        return () if name is None else scrapes.now.layout.groups(name, label, self.match)


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

    def read(self, scrapes: Scrapes) -> Told:
        """Per second."""
        now, before = scrapes.now, scrapes.before
        name = now.first(self.names, self.match)
        if name is None:
            return _none(self.names, self.absent)
        keys = now.layout.named(name, self.match)
        rates = [self._rate(scrapes, (key,)) for key in keys] if self.pick != "sum" else []
        known = [one for one in rates if not isinstance(one, Absent)]
        found: Reading[float]
        if self.copies:
            found = self._once(scrapes, now.layout.copies(name, self.copies, self.match).values())
        elif self.pick == "sum":
            found = rate(before.total(*self.names, match=self.match), now.sum(keys), scrapes.seconds)
        else:
            found = (max(known) if self.pick == "largest" else min(known)) if known else NOT_YET
        if isinstance(found, Absent):
            return found, ""
        many = "" if len(keys) == 1 or self.pick == "sum" else f"{self.pick} "
        return found * self.scale, f"{many}rate of {spelled(name, self.match)}{self.note}"

    def _once(self, scrapes: Scrapes, engines: Iterable[tuple[tuple[str, ...], ...]]) -> Reading[float]:
        """The sum over engines, of each the copy that grew most."""
        total = 0.0
        for each in engines:
            known = [one for copy in each if not isinstance(one := self._rate(scrapes, copy), Absent)]
            if not known:
                return NOT_YET
            total += max(known)
        return total

    def _rate(self, scrapes: Scrapes, keys: tuple[str, ...]) -> Reading[float]:
        if any(key not in scrapes.before.series for key in keys):
            return NOT_YET
        return rate(scrapes.before.sum(keys), scrapes.now.sum(keys), scrapes.seconds)

    def at(self, scrapes: Scrapes, label: str, value: str) -> Reading[float]:
        """Of one engine."""
        name = scrapes.now.first(self.names, self.match)
        keys = scrapes.now.layout.groups(name, label, self.match).get(value, ()) if name is not None else ()
        if name is None or not keys:
            return Absent(Why.UNSUPPORTED, "not told for each engine")
        if self.copies:
            found = self._once(scrapes, [scrapes.now.layout.copies(name, self.copies, self.match)[value]])
        else:
            found = self._rate(scrapes, keys)
        return found if isinstance(found, Absent) else found * self.scale

    def values(self, scrapes: Scrapes, label: str) -> Iterable[str]:
        """The engines there are."""
        name = scrapes.now.first(self.names, self.match)
        return () if name is None else scrapes.now.layout.groups(name, label, self.match)


class Mean(msgspec.Struct, frozen=True):
    """Δsum/Δcount of a histogram over the tick, × ``scale`` (1000: seconds to ms)."""

    names: tuple[str, ...]
    scale: float = 1000.0
    match: Match = ()
    absent: str = ""
    note: str = ""

    def read(self, scrapes: Scrapes) -> Told:
        """The mean of what was observed in the tick."""
        return mean(scrapes.before, scrapes.now, self)


def mean(old: Totals, new: Totals, spec: Mean) -> Told:
    """The mean between any two scrapes."""
    name = next((one for one in spec.names if new.layout.named(f"{one}_count", spec.match)), None)
    if name is None:
        return _none(spec.names, spec.absent)
    found = ratio(gain(old, new, (f"{name}_sum",), spec.match), gain(old, new, (f"{name}_count",), spec.match))
    return told(
        found if isinstance(found, Absent) else found * spec.scale, f"mean of {spelled(name, spec.match)}{spec.note}"
    )


def gain(old: Totals, new: Totals, names: tuple[str, ...], match: Match = ()) -> Reading[float]:
    """How much the first of these counters that is there grew between two scrapes."""
    return increase(old.total(*names, match=match), new.total(*names, match=match))


class Gain(msgspec.Struct, frozen=True):
    """How much a counter grew over the window."""

    names: tuple[str, ...]
    absent: str = ""

    def read(self, scrapes: Scrapes) -> Told:
        """The increase."""
        name = scrapes.now.first(self.names)
        if name is None:
            return _none(self.names, self.absent)
        return told(gain(scrapes.begin, scrapes.now, self.names), f"increase of {name}")


class Share(msgspec.Struct, frozen=True):
    """Δpart/Δwhole of two counters over the window, 0–1; with ``rest`` the whole is part + rest."""

    part: tuple[str, ...]
    whole: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    absent: str = ""
    nothing: str = "nothing looked up in the window"

    def read(self, scrapes: Scrapes) -> Told:
        """The share."""
        now = scrapes.now
        part, other = now.first(self.part), now.first(self.whole or self.rest)
        if part is None or other is None:
            return _none(self.part if part is None else self.whole or self.rest, self.absent)
        gained = gain(scrapes.begin, now, self.part)
        whole = gain(scrapes.begin, now, self.whole or self.rest)
        if self.rest and not isinstance(whole, Absent) and not isinstance(gained, Absent):
            whole += gained
        below = f"({part} + {other})" if self.rest else other
        return told(ratio(gained, whole, self.nothing), f"{part} / {below}")


class Split(msgspec.Struct, frozen=True):
    """A gauge by the value of a label."""

    names: tuple[str, ...]
    label: str
    absent: str = ""

    def read(self, scrapes: Scrapes) -> Told:
        """Value of the label to level."""
        now = scrapes.now
        name = now.first(self.names)
        if name is None:
            return _none(self.names, self.absent)
        return {value: now.sum(keys) for value, keys in now.layout.groups(name, self.label).items()}, name


class SplitRate(msgspec.Struct, frozen=True):
    """A counter's increase a second by the value of a label."""

    names: tuple[str, ...]
    label: str
    absent: str = ""

    def read(self, scrapes: Scrapes) -> Told:
        """Value of the label to rate; a value that is new counts from 0."""
        now, before = scrapes.now, scrapes.before
        name = now.first(self.names)
        if name is None:
            return _none(self.names, self.absent)
        if scrapes.old is None:
            return NOT_YET, ""
        rates: dict[str, float] = {}
        for value, keys in now.layout.groups(name, self.label).items():
            found = rate(sum(before.series.get(key, 0.0) for key in keys), now.sum(keys), scrapes.seconds)
            if isinstance(found, Absent):
                return found, ""
            rates[value] = found
        return rates, f"rate of {name}"


class Computed(msgspec.Struct, frozen=True):
    """A figure that takes more than one name."""

    compute: Callable[[Scrapes], Any]
    source: str

    def read(self, scrapes: Scrapes) -> Told:
        """What the function gives."""
        return told(self.compute(scrapes), self.source)


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
