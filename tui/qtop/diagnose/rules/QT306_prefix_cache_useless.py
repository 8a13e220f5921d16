"""QT306: the prefix cache finds next to nothing of the prompts."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, said
from qtop.diagnose.rules.queueing import title_of
from qtop.model.frame import EngineView, Frame
from qtop.model.settings import SettingsView
from qtop.sample import Absent
from qtop.units import number, percent

MISS = 0.9
"""Share of looked-up tokens that were not found."""
ENOUGH = 10_000.0
"""Looked-up tokens of the window below which a share says little."""


class PrefixCacheUseless(Rule):
    """Share of looked-up prompt tokens that the prefix cache did not have; 0 where few were looked up."""

    id = "QT306"
    title = "prefix cache finds nothing"
    enter = (Enter(Severity.INFO, at=MISS, seconds=8.0, of=10.0),)
    clear = Clear(below=0.8, seconds=20.0)

    def look(self, frame: Frame) -> Answer:
        """The share over the window."""
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        queries = engine.prefix_queries
        if isinstance(queries, Absent):
            return CannotTell(f"prompt tokens looked up in the prefix cache: {said(queries)}")
        if queries < ENOUGH:
            if queries <= 0 and _is_off(frame):
                return NotApplicable(f"{title_of(frame)} runs without a prefix cache")
            return Observed(0.0, lambda: _few(engine, queries), figure="")
        hit = engine.prefix_hit
        if isinstance(hit, Absent):
            return CannotTell(f"prompt tokens found in the prefix cache: {said(hit)}")
        return Observed(1.0 - hit, lambda: _told(engine, hit, queries), figure=f"{percent(hit)} found")


RULE = PrefixCacheUseless()


def _is_off(frame: Frame) -> bool:
    settings = frame.settings
    if not isinstance(settings, SettingsView):
        return False
    one = settings.get("enable_prefix_caching")
    return one is not None and one.value == "off"


def _few(engine: EngineView, queries: float) -> Told:
    line = Evidence(
        "prompt tokens looked up", queries, "in the window", ENOUGH, engine.sources.get("prefix_queries", "")
    )
    return Told("", (line,), reason=f"only {number(queries)} prompt tokens looked up in the window: too few to judge")


def _told(engine: EngineView, hit: float, queries: float) -> Told:
    return Told(
        f"PREFIX CACHE FINDS {percent(hit)} of {number(queries)} prompt tokens — prompts share no beginning: put what "
        "they have in common first",
        (
            Evidence(
                "found in the prefix cache", hit, "of prompt tokens", 1.0 - MISS, engine.sources.get("prefix_hit", "")
            ),
            Evidence(
                "prompt tokens looked up", queries, "in the window", ENOUGH, engine.sources.get("prefix_queries", "")
            ),
        ),
    )
