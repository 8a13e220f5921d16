"""QT405: asynchronous scheduling is off where this version has it on."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Memo, gpus_in_use, host_gap, settings_of, unreadable, version_in
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import ServerInfo, Setting
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE
from qtop.units import percent

SET, COSTS = 1.0, 2.0
LEAST = 0.1
SINCE = (0, 14, 0)
BEFORE = NotApplicable("before 0.14 vLLM does not schedule asynchronously by default")


class AsyncSchedulingOff(Rule):
    """2: it is off and the GPU idles while requests run; 1: it is off."""

    id = "QT405"
    title = "async scheduling off"
    explains = ("QT208",)
    enter = (
        Enter(Severity.INFO, at=SET, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=COSTS, seconds=8.0, of=10.0),
    )
    clear = Clear(below=SET / 2, seconds=2.0)

    def __init__(self) -> None:
        self._off: Memo[SettingsView, Setting | None] = Memo(_off)

    def look(self, frame: Frame) -> Answer:
        """Whether it is off, and what the GPU does meanwhile."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        gpus = gpus_in_use(frame)
        if not isinstance(gpus, tuple):
            return gpus
        assert isinstance(frame.server, ServerInfo)
        version = version_in(frame.server)
        if version is None:
            return CannotTell(f"its version: {frame.server.version}")
        if version < SINCE:
            return BEFORE
        one = self._off(view)
        if one is None:
            return unreadable(frame, view) or Observed(0.0, _on, figure="")
        gap = host_gap(frame)
        shown = gap >= LEAST
        return Observed(
            COSTS if shown else SET, lambda: _told(one, gap, shown), impact=gap if shown else 0.0, figure=""
        )


def _off(view: SettingsView) -> Setting | None:
    one = view.get("async_scheduling")
    return one if one is not None and one.value == "off" else None


def _told(one: Setting, gap: float, shown: bool) -> Told:
    cost = f"the GPU idles {percent(gap)} of the time while requests run" if shown else "the GPU waits between steps"
    chosen = one.source in (COMMAND_LINE, CONFIG_FILE)
    what = "restart without --no-async-scheduling" if chosen else "another setting turned it off: its log says which"
    lines = (
        Evidence("async_scheduling", "off", "", None, one.source),
        Evidence("no kernel on the GPU while requests run", gap, "of the time", LEAST, "1 − NVML utilization.gpu"),
    )
    return Told(f"ASYNC SCHEDULING IS OFF: {cost}; {what}", lines)


def _on() -> Told:
    return Told("asynchronous scheduling is not turned off", ())


RULE = AsyncSchedulingOff()
