"""What others ask of the server while a change is measured: figures from under two different loads compare nothing.

A restart ends other clients' streams, and few of them come back within seconds: the test prompts are then alone and
fast, whatever the change does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from qtop.model.frame import EngineView, Frame
from qtop.probe.timing import ProbeResult

LEAST = 2.0
"""Requests of others in flight from which they slow the test prompts."""
TIMES = 2.0
"""So many times the load is another load; between measurements of a few seconds it wanders by less than that."""


@dataclass(frozen=True)
class Load:
    """Others' share of what the server did in one block of test prompts."""

    in_flight: float
    """Their requests, running and waiting, mean."""
    tok_s: float | None
    """Tokens a second that they got, None where the server does not count them."""


class LoadWatch:
    """Of one block. ``look`` is called from whichever thread hears of the test prompts."""

    def __init__(self, frame: Callable[[], Frame]) -> None:
        self._frame = frame
        self._begun = frame().t
        self._seen: dict[float, EngineView] = {}

    def look(self) -> None:
        """Note what the server says now; once a frame."""
        frame = self._frame()
        if frame.t > self._begun and isinstance(frame.engine, EngineView):
            self._seen[frame.t] = frame.engine

    def load(self, results: Sequence[ProbeResult], seconds: float) -> Load | None:
        """Without the test prompts themselves, which are sent one by one; None where the server does not tell how many
        requests it has. Where no reading fell into a short block, the one before it has to do."""
        latest = self._frame().engine
        seen = list(self._seen.values()) or ([latest] if isinstance(latest, EngineView) else [])
        flying = [max(0.0, count - 1.0) for one in seen if (count := in_flight(one)) is not None]
        if not flying:
            return None
        rates = [float(one.gen_tok_s) for one in seen if isinstance(one.gen_tok_s, (int, float))]
        own = sum(one.completion_tokens or 0 for one in results) / max(seconds, 0.1)
        return Load(fmean(flying), max(0.0, fmean(rates) - own) if rates else None)


def in_flight(engine: EngineView) -> float | None:
    """Requests that run or wait; None where the server does not tell how many run."""
    running, waiting = engine.running, engine.waiting
    if not isinstance(running, (int, float)):
        return None
    return float(running) + (float(waiting) if isinstance(waiting, (int, float)) else 0.0)


def mean_of(loads: Sequence[Load | None]) -> Load | None:
    """One side's load; None where a block of it has none."""
    known = [one for one in loads if one is not None]
    if not known or len(known) < len(loads):
        return None
    rates = [one.tok_s for one in known if one.tok_s is not None]
    return Load(fmean(one.in_flight for one in known), fmean(rates) if len(rates) == len(known) else None)


def less(one: Load, other: Load, times: float = TIMES) -> bool:
    """Whether the first load is another, lighter one: the other is so many times it.

    Fewer in flight alone is none: a faster server has fewer of the same arrivals. Nor are fewer tokens alone: a slower
    one gives fewer to the same clients. Less of both is.
    """
    if other.in_flight < LEAST or other.in_flight < times * one.in_flight + 1:
        return False
    return one.tok_s is None or other.tok_s is None or times * one.tok_s <= other.tok_s


def spoils(verdict: str, before: Load | None, after: Load | None, *, times: float = TIMES) -> str:
    """Why the loads, not the change, may be what the verdict shows; "" where they are not.

    A server that is slower under less load, or faster under more, is all the more so under the same.
    """
    if before is None or after is None:
        return ""
    lighter, heavier = less(after, before, times), less(before, after, times)
    if (lighter and verdict != "worse") or (heavier and verdict != "improved"):
        return f"others had {before.in_flight:.0f} requests in flight before and {after.in_flight:.0f} after"
    return ""
