"""QT110: the power limit holds the clock down; normal for a GPU that works hard."""

from __future__ import annotations

from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Clear,
    Enter,
    Evidence,
    NotApplicable,
    Observed,
    Remedy,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import gpus_of, known
from qtop.diagnose.rules.gpus import at_clock, clock_line, how_known, lost_clock, worst
from qtop.model.frame import Frame, GpuView
from qtop.sample import NOT_RECORDED, Absent, Reading
from qtop.units import percent

AT = 0.30


class PowerCap(Rule):
    """Share of the last half minute in which the power limit held the clock of the server's GPUs down."""

    id = "QT110"
    title = "power cap"
    enter = (Enter(Severity.INFO, at=AT, seconds=8.0, of=10.0),)
    clear = Clear(below=0.20, seconds=10.0)

    def look(self, frame: Frame) -> Answer:
        """The GPU that was held for longest."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, _share)
        if isinstance(found, CannotTell):
            return found
        share, gpu = found
        return Observed(share, lambda: _told(gpu, share), impact=share * (lost_clock(gpu) or 0.0))


RULE = PowerCap()


def _share(gpu: GpuView) -> Reading[float]:
    """Of 30 s by the counter, of 10 s by reason bits."""
    counted = gpu.duty_window.get("power_cap", NOT_RECORDED)
    if not isinstance(counted, Absent):
        return counted
    seconds = gpu.held.get("power_cap", NOT_RECORDED)
    return seconds if isinstance(seconds, Absent) else min(1.0, seconds / 10.0)


def _told(gpu: GpuView, share: float) -> Told:
    limit, default = known(gpu.power_limit_w), known(gpu.power_default_w)
    at = f" of {limit:.0f} W" if limit is not None else ""
    text = f"POWER CAP{at} holds GPU {gpu.index} {percent(share)} of the time{at_clock(gpu)}"
    remedies: tuple[Remedy, ...] = ()
    reason = "normal for a GPU that works hard; it is no fault"
    if limit is not None and default is not None and limit < default - 1:
        text += f" — somebody lowered it from {default:.0f} W"
        reason = f"nvidia-smi -i {gpu.index} -pl {default:.0f} (as root) sets the default again: faster and hotter"
        remedies = (Remedy("gpu-power-limit", "raise the limit"),)
    signal, span = f"GPU {gpu.index}: the power limit holds its clock", f"of the last {gpu.duty_window_s:.0f} s"
    lines = (Evidence(signal, share, span, AT, how_known(gpu, "power_cap")), *clock_line(gpu))
    return Told(text, lines, remedies, reason=reason if share >= AT else "")
