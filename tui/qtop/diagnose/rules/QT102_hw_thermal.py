"""QT102: the hardware itself throws the clock down for heat."""

from __future__ import annotations

from qtop.diagnose.rule import Clear, Enter, Severity
from qtop.diagnose.rules.clock_limits import ClockLimit
from qtop.diagnose.rules.gpus import HALVED, at_clock
from qtop.model.frame import GpuView
from qtop.sample import NOT_RECORDED, Absent, Reading
from qtop.units import percent


class HardwareThermal(ClockLimit):
    """HW thermal slowdown; where no counter tells heat and brake apart, HW slowdown without a brake."""

    id = "QT102"
    title = "GPU slowed by heat (hardware)"
    enter = (Enter(Severity.CRITICAL, at=0.10, seconds=1.0, of=1.0),)
    clear = Clear(below=0.05, seconds=5.0)
    explains = ("QT101", "QT110", "QT130", "QT131")
    limit_name = "hw_thermal"
    least_lost = HALVED
    signal = "HW thermal slowdown"
    source = "a second of ten (proposed); the hardware does it only near the temperature at which it switches off"

    def seconds(self, gpu: GpuView) -> Reading[float]:
        """By the counter; without one also the general bit, as far as no power brake stood beside it."""
        heat = gpu.held.get("hw_thermal", NOT_RECORDED)
        if not isinstance(gpu.duty.get("hw_thermal", NOT_RECORDED), Absent) or isinstance(heat, Absent):
            return heat
        slowed, braked = gpu.held.get("hw_slowdown", NOT_RECORDED), gpu.held.get("power_brake", NOT_RECORDED)
        if isinstance(slowed, Absent) or isinstance(braked, Absent):
            return heat
        return max(heat, slowed - braked)

    def headline(self, gpu: GpuView, share: float) -> str:
        """The one line."""
        where = at_clock(gpu)
        return f"GPU {gpu.index} OVERHEATS: its hardware slows it {percent(share)} of the time{where} — cool it now"


RULE = HardwareThermal()
