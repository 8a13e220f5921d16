"""QT405: asynchronous scheduling is off where this version has it on."""

from __future__ import annotations

from qtop.diagnose.rule import CannotTell, Evidence, NotApplicable, Told
from qtop.diagnose.rules.configured import gpus_in_use, host_gap, version_in
from qtop.diagnose.rules.remedies import ASYNC_SCHEDULING
from qtop.diagnose.rules.switched import TurnedOff
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import ServerInfo, Setting
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE
from qtop.units import percent

LEAST = 0.1
SINCE = (0, 14, 0)
BEFORE = NotApplicable("before 0.14 vLLM does not schedule asynchronously by default")


class AsyncSchedulingOff(TurnedOff):
    """2: it is off and the GPU idles while requests run; 1: it is off."""

    id = "QT405"
    title = "async scheduling off"
    explains = ("QT208",)
    least = LEAST
    on = "asynchronous scheduling is not turned off"

    def find(self, view: SettingsView) -> Setting | None:
        """The flag, or what another setting made of it."""
        one = view.get("async_scheduling")
        return one if one is not None and one.value == "off" else None

    def beside(self, frame: Frame) -> CannotTell | NotApplicable | None:
        """It is for GPUs, and on by default since 0.14."""
        gpus = gpus_in_use(frame)
        if not isinstance(gpus, tuple):
            return gpus
        assert isinstance(frame.server, ServerInfo)
        version = version_in(frame.server)
        if version is None:
            return CannotTell(f"its version: {frame.server.version}")
        return BEFORE if version < SINCE else None

    def cost(self, frame: Frame) -> float:
        """What the GPU does without."""
        return host_gap(frame)

    def told(self, one: Setting, cost: float, shown: bool) -> Told:
        """Who turned it off."""
        seen = (
            f"the GPU idles {percent(cost)} of the time while requests run" if shown else "the GPU waits between steps"
        )
        chosen = one.source in (COMMAND_LINE, CONFIG_FILE)
        what = (
            "restart without --no-async-scheduling" if chosen else "another setting turned it off: its log says which"
        )
        lines = (
            Evidence("async_scheduling", "off", "", None, one.source),
            Evidence("no kernel on the GPU while requests run", cost, "of the time", LEAST, "1 − NVML utilization.gpu"),
        )
        return Told(f"ASYNC SCHEDULING IS OFF: {seen}; {what}", lines, (ASYNC_SCHEDULING,) if chosen else ())


RULE = AsyncSchedulingOff()
