"""The knobs, by id."""

from __future__ import annotations

from qtop.act.change import Knob
from qtop.act.knobs.cpu_affinity import CpuAffinity
from qtop.act.knobs.cpu_weight import CpuWeight
from qtop.act.knobs.cpufreq import ENERGY, CpuGovernor
from qtop.act.knobs.cpuset import Cpuset
from qtop.act.knobs.flag_knobs import FLAG_KNOBS
from qtop.act.knobs.gpu_clocks import GpuClocks
from qtop.act.knobs.gpu_settings import GpuPersistence, GpuPowerLimit
from qtop.act.knobs.kernel_vm import NumaBalancing, Swappiness, TransparentHugePages
from qtop.act.knobs.lasting import LASTING
from qtop.act.knobs.lora import Lora
from qtop.act.knobs.neighbours_cpus import NeighboursCpus
from qtop.act.knobs.neighbours_nice import NeighboursNice
from qtop.act.knobs.prefix_cache import ResetPrefixCache
from qtop.act.knobs.server_flags import ServerFlags
from qtop.errors import QtopError

OFFERED: tuple[Knob, ...] = (
    CpuAffinity(),
    NeighboursNice(),
    NeighboursCpus(),
    Cpuset(),
    CpuWeight(),
    CpuGovernor(),
    ENERGY,
    NumaBalancing(),
    TransparentHugePages(),
    Swappiness(),
    GpuPowerLimit(),
    GpuClocks(),
    GpuPersistence(),
    Lora(),
    ResetPrefixCache(),
    ServerFlags(),
    *FLAG_KNOBS,
)
"""Those that a user may turn."""
KNOBS: dict[str, Knob] = {knob.id: knob for knob in (*OFFERED, LASTING)}


def knob(name: str) -> Knob:
    """The knob of this id; QtopError naming those there are."""
    if name not in KNOBS:
        raise QtopError(f"no knob is called {name!r}", f"There is: {', '.join(one.id for one in OFFERED)}.")
    return KNOBS[name]
