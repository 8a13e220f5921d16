"""GPU samples to views: throttle bits in words, reason counters as exact duty."""

from __future__ import annotations

from qtop.model.frame import GpuView
from qtop.model.series import increase
from qtop.sample import NOT_YET, Absent, GpuSample, GpuSection, Reading, first_absent

REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "HW slowdown",
    0x10: "sync boost",
    0x20: "SW thermal",
    0x40: "HW thermal",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
"""Clock event reason bits (source: nvml.h 13.5)."""


def reason_words(bits: Reading[int]) -> Reading[tuple[str, ...]]:
    """The reasons that stand, in words; unknown bits as hexadecimal."""
    if isinstance(bits, Absent):
        return bits
    return tuple(REASONS.get(1 << shift, hex(1 << shift)) for shift in range(bits.bit_length()) if bits >> shift & 1)


def gpu_views(old: GpuSection | None, new: GpuSection) -> tuple[GpuView, ...]:
    """One view a GPU; duty needs the sample before."""
    before = {} if old is None else {gpu.index: gpu for gpu in old.gpus}
    return tuple(_view(before.get(gpu.index), gpu) for gpu in new.gpus)


def _view(old: GpuSample | None, new: GpuSample) -> GpuView:
    seconds = new.at - old.at if old is not None else 0.0
    duty: dict[str, Reading[float]] = {}
    for name, now in new.reason_ns.items():
        grown = increase(NOT_YET if old is None else old.reason_ns.get(name, NOT_YET), now)
        if not isinstance(grown, Absent):
            grown = min(1.0, grown / 1e9 / seconds) if seconds > 0 else NOT_YET
        duty[name] = grown
    missing = first_absent(new.pcie_gen, new.pcie_width)
    return GpuView(
        index=new.index,
        name=new.name,
        util=_share(new.util),
        mem_used=new.mem_used,
        mem_total=new.mem_total,
        temp_c=new.temp_c,
        power_w=_watts(new.power_mw),
        power_limit_w=_watts(new.power_limit_mw),
        sm_mhz=new.sm_mhz,
        sm_max_mhz=new.sm_max_mhz,
        mem_mhz=new.mem_mhz,
        reasons=reason_words(new.reasons),
        duty=duty,
        pcie=missing if missing is not None else f"gen{new.pcie_gen} x{new.pcie_width}",
        gpm=new.gpm,
        processes=new.processes,
        local_cpus=new.local_cpus,
    )


def _share(percent: Reading[int]) -> Reading[float]:
    return percent if isinstance(percent, Absent) else percent / 100.0


def _watts(milliwatts: Reading[int]) -> Reading[float]:
    return milliwatts if isinstance(milliwatts, Absent) else milliwatts / 1000.0
