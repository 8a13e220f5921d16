"""QT403: CUDA graphs are off, so that the CPU launches every kernel of every step."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Memo, gpus_in_use, host_gap, settings_of, unreadable
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import Setting
from qtop.units import percent

SET, COSTS = 1.0, 2.0
LEAST = 0.1
"""Share of the time: a smaller gap on the GPU is not laid at its door."""


class EnforceEager(Rule):
    """2: it is so and the GPU idles while requests run; 1: it is so."""

    id = "QT403"
    title = "enforce-eager"
    explains = ("QT208",)
    enter = (
        Enter(Severity.INFO, at=SET, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=COSTS, seconds=8.0, of=10.0),
    )
    clear = Clear(below=SET / 2, seconds=2.0)

    def __init__(self) -> None:
        self._eager: Memo[SettingsView, Setting | None] = Memo(_eager)

    def look(self, frame: Frame) -> Answer:
        """Whether graphs are off, and what the GPU does meanwhile."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        gpus = gpus_in_use(frame)
        if not isinstance(gpus, tuple):
            return gpus
        one = self._eager(view)
        if one is None:
            return unreadable(frame, view) or Observed(0.0, _off, figure="")
        gap = host_gap(frame)
        shown = gap >= LEAST
        return Observed(
            COSTS if shown else SET, lambda: _told(one, gap, shown), impact=gap if shown else 0.0, figure=""
        )


def _eager(view: SettingsView) -> Setting | None:
    for name, value in (("enforce_eager", "on"), ("cudagraph_mode", "none"), ("optimization_level", "0")):
        one = view.get(name)
        if one is not None and one.value.lower() == value:
            return one
    return None


def _told(one: Setting, gap: float, shown: bool) -> Told:
    cost = f"the GPU idles {percent(gap)} of the time while requests run" if shown else "each step costs the CPU more"
    remove = {"enforce_eager": "--enforce-eager", "optimization_level": "-O0"}.get(one.name, "cudagraph_mode NONE")
    lines = [
        Evidence(one.name, one.value, "", None, one.source),
        Evidence("no kernel on the GPU while requests run", gap, "of the time", LEAST, "1 − NVML utilization.gpu"),
    ]
    return Told(f"CUDA GRAPHS ARE OFF: {cost}; restart without {remove}", tuple(lines))


def _off() -> Told:
    return Told("CUDA graphs are used", ())


RULE = EnforceEager()
