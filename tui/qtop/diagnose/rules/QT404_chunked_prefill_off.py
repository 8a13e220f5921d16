"""QT404: chunked prefill is off, so that a long prompt stops every stream for as long as it takes."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import running_of, stage_share
from qtop.diagnose.rules.configured import Memo, settings_of, unreadable
from qtop.model.frame import Frame
from qtop.model.serving import Latency
from qtop.model.settings import SettingsView
from qtop.sample import Absent, Setting
from qtop.units import percent

SET, COSTS = 1.0, 2.0
LEAST = 0.3
"""Share of the mean gap between tokens that lies above the median gap: with chunks it is a few percent."""


class ChunkedPrefillOff(Rule):
    """2: it is off and the mean gap between tokens is well above the median; 1: it is off."""

    id = "QT404"
    title = "chunked prefill off"
    enter = (
        Enter(Severity.INFO, at=SET, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=COSTS, seconds=8.0, of=10.0),
    )
    clear = Clear(below=SET / 2, seconds=2.0)

    def __init__(self) -> None:
        self._off: Memo[SettingsView, Setting | None] = Memo(_off)

    def look(self, frame: Frame) -> Answer:
        """Whether it is off, and whether streams are seen to stall."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        one = self._off(view)
        if one is None:
            return unreadable(frame, view) or Observed(0.0, _on, figure="")
        stall = _stall(frame)
        shown = stall >= LEAST
        impact = stall * (stage_share(frame, "decode") or 0.0) if shown else 0.0
        return Observed(COSTS if shown else SET, lambda: _told(one, stall, shown), impact=impact, figure="")


def _off(view: SettingsView) -> Setting | None:
    one = view.get("enable_chunked_prefill")
    return one if one is not None and one.value == "off" else None


def _stall(frame: Frame) -> float:
    """Share of the mean gap between tokens above the median gap, 0–1; 0 with fewer than two streams, or while requests
    are preempted, which stalls them too."""
    engine, latency = frame.engine, frame.latency
    if isinstance(engine, Absent) or isinstance(latency, Absent) or running_of(engine) < 2:
        return 0.0
    if not isinstance(engine.preempt_s, Absent) and engine.preempt_s > 0:
        return 0.0
    itl = latency.itl
    if not isinstance(itl, Latency) or isinstance(itl.mean_ms, Absent) or isinstance(itl.p50, Absent):
        return 0.0
    if itl.p50.relation == ">" or itl.mean_ms <= 0:
        return 0.0
    return max(0.0, 1.0 - itl.p50.value_ms / itl.mean_ms)


def _told(one: Setting, stall: float, shown: bool) -> Told:
    seen = f"stalls are {percent(stall)} of the time between tokens" if shown else "a long prompt stops every stream"
    lines = (
        Evidence("enable_chunked_prefill", "off", "", None, one.source),
        Evidence("mean gap between tokens above the median gap", stall, "of the mean gap", LEAST, "proposal"),
    )
    return Told(f"CHUNKED PREFILL IS OFF: {seen}; restart without --no-enable-chunked-prefill", lines)


def _on() -> Told:
    return Told("chunked prefill is not turned off", ())


RULE = ChunkedPrefillOff()
