"""QT403: CUDA graphs are off, so that the CPU launches every kernel of every step."""

from __future__ import annotations

from qtop.diagnose.rule import CannotTell, Evidence, NotApplicable, Told
from qtop.diagnose.rules.configured import gpus_in_use, host_gap
from qtop.diagnose.rules.remedies import CUDA_GRAPHS
from qtop.diagnose.rules.switched import TurnedOff
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import Setting
from qtop.units import percent

LEAST = 0.1
"""Share of the time: a smaller gap on the GPU is not laid at its door."""


class EnforceEager(TurnedOff):
    """2: it is so and the GPU idles while requests run; 1: it is so."""

    id = "QT403"
    title = "enforce-eager"
    explains = ("QT208",)
    least = LEAST
    on = "CUDA graphs are used"

    def find(self, view: SettingsView) -> Setting | None:
        """Any of the three ways to turn them off."""
        for name, value in (("enforce_eager", "on"), ("cudagraph_mode", "none"), ("optimization_level", "0")):
            one = view.get(name)
            if one is not None and one.value.lower() == value:
                return one
        return None

    def beside(self, frame: Frame) -> CannotTell | NotApplicable | None:
        """Without a GPU there are no graphs."""
        gpus = gpus_in_use(frame)
        return None if isinstance(gpus, tuple) else gpus

    def cost(self, frame: Frame) -> float:
        """What the GPU does without."""
        return host_gap(frame)

    def told(self, one: Setting, cost: float, shown: bool) -> Told:
        """What turned them off."""
        seen = (
            f"the GPU idles {percent(cost)} of the time while requests run" if shown else "each step costs the CPU more"
        )
        remove = {"enforce_eager": "--enforce-eager", "optimization_level": "-O0"}.get(one.name, "cudagraph_mode NONE")
        lines = (
            Evidence(one.name, one.value, "", None, one.source),
            Evidence("no kernel on the GPU while requests run", cost, "of the time", LEAST, "1 − NVML utilization.gpu"),
        )
        remedies = (CUDA_GRAPHS,) if one.name == "enforce_eager" else ()
        return Told(f"CUDA GRAPHS ARE OFF: {seen}; restart without {remove}", lines, remedies)


RULE = EnforceEager()
