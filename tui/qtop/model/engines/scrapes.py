"""Scrapes as a view is made of them, and what it takes to read a figure from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from qtop.model.series import Layout, Match, Totals, totals_of
from qtop.sample import Absent, EngineSample, Reading, Why

T = TypeVar("T")
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


Read = Callable[[Scrapes], Told]
"""Reads one figure from scrapes of one layout."""
ReadOne = Callable[[Scrapes], Reading[float]]
"""The same of one engine by itself."""


class Spec(Protocol):
    """One way to read one figure."""

    def plan(self, layout: Layout) -> Read:
        """How to read it from scrapes of this layout: which series it takes is found out once."""


class Ranked(Spec, Protocol):
    """A figure that can be read for one engine by itself."""

    def plan_one(self, layout: Layout, label: str, value: str) -> ReadOne:
        """How to read the series whose ``label`` has this value."""

    def values(self, layout: Layout, label: str) -> Iterable[str]:
        """The values that ``label`` has."""


def read(spec: Spec, scrapes: Scrapes) -> Told:
    """The figure with its source."""
    return scrapes.now.layout.once(spec, spec.plan)(scrapes)


@lru_cache(maxsize=512)
def none_of(names: tuple[str, ...], absent: str) -> Told:
    return Absent(Why.UNSUPPORTED, absent or f"the server has no {names[0]}"), ""


def told(reading: Any, source: str) -> Told:
    """Without a source where the reading is absent."""
    return reading, "" if isinstance(reading, Absent) else source


def always(found: T) -> Callable[[Scrapes], T]:
    """A reading that follows from the layout alone."""
    return lambda _: found


NOT_FOR_EACH = Absent(Why.UNSUPPORTED, "not told for each engine")


def spelled(name: str, match: Match) -> str:
    """The name with the labels that were asked for."""
    labels = ",".join(f'{label}="{value}"' for label, value in match)
    return f"{name}{{{labels}}}" if labels else name
