"""QT103: an outside signal (power supply, chassis) makes the hardware throw the clock down."""

from __future__ import annotations

from qtop.diagnose.rule import Clear, Enter, Severity
from qtop.diagnose.rules.clock_limits import ClockLimit
from qtop.diagnose.rules.gpus import HALVED, at_clock
from qtop.model.frame import GpuView
from qtop.units import percent


class PowerBrake(ClockLimit):
    """HW power brake slowdown."""

    id = "QT103"
    title = "power brake"
    enter = (Enter(Severity.CRITICAL, at=0.10, seconds=1.0, of=1.0),)
    clear = Clear(below=0.05, seconds=5.0)
    explains = ("QT110", "QT130", "QT131")
    limit_name = "power_brake"
    least_lost = HALVED
    signal = "HW power brake"
    source = "a second of ten (proposed); a host with enough power never does it"

    def headline(self, gpu: GpuView, share: float) -> str:
        """The one line."""
        where = at_clock(gpu)
        return f"POWER BRAKE ON GPU {gpu.index} {percent(share)} of the time{where} — check power supply and cables"


RULE = PowerBrake()
