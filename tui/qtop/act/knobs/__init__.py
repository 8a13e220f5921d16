"""The knobs, by id."""

from __future__ import annotations

from qtop.act.change import Knob
from qtop.act.knobs.cpu_affinity import CpuAffinity
from qtop.act.knobs.gpu_clocks import GpuClocks
from qtop.act.knobs.gpu_settings import GpuPersistence, GpuPowerLimit
from qtop.act.knobs.kernel_vm import NumaBalancing, Swappiness
from qtop.act.knobs.lasting import LASTING
from qtop.act.knobs.neighbours_cpus import NeighboursCpus
from qtop.act.knobs.neighbours_nice import NeighboursNice
from qtop.act.knobs.server_flags import ServerFlags
from qtop.errors import QtopError

OFFERED: tuple[Knob, ...] = (
    CpuAffinity(),
    NeighboursNice(),
    NeighboursCpus(),
    Swappiness(),
    NumaBalancing(),
    GpuPowerLimit(),
    GpuClocks(),
    GpuPersistence(),
    ServerFlags(),
)
"""Those that a user may turn."""
KNOBS: dict[str, Knob] = {knob.id: knob for knob in (*OFFERED, LASTING)}


def knob(name: str) -> Knob:
    """The knob of this id; QtopError naming those there are."""
    if name not in KNOBS:
        raise QtopError(f"no knob is called {name!r}", f"There is: {', '.join(one.id for one in OFFERED)}.")
    return KNOBS[name]
