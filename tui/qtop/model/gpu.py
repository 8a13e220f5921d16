"""GPU samples to views: throttle bits in words, reason counters as exact duty, memory by owner. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from qtop.model.frame import GpuView, VramSplit
from qtop.model.gpu_held import held
from qtop.model.gpu_link import EFFECTIVE, capacity, judge, link_text, rates, share
from qtop.model.gpu_sharing import shared_by, split
from qtop.model.gpu_track import NO_TRACK, Track
from qtop.model.series import increase, rate
from qtop.sample import (
    NOT_YET,
    Absent,
    Gpm,
    GpuFacts,
    GpuSample,
    GpuSection,
    GpuSlow,
    Reading,
    Xid,
    first_absent,
)

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


def gpu_views(
    old: GpuSection | None,
    new: GpuSection,
    tracks: Mapping[int, Track] | None = None,
    pids: frozenset[int] | None = None,
) -> tuple[GpuView, ...]:
    """One view a GPU. Rates need the sample before, some of them ``tracks`` up to ``new``; ``pids`` are the server's
    processes, None where they are not known."""
    before = {} if old is None else {gpu.index: gpu for gpu in old.gpus}
    known = tracks or {}
    xids = new.xids
    return tuple(_view(before.get(gpu.index), gpu, known.get(gpu.index, NO_TRACK), pids, xids) for gpu in new.gpus)


def _view(
    old: GpuSample | None, new: GpuSample, track: Track, pids: frozenset[int] | None, xids: tuple[Xid, ...] | Absent
) -> GpuView:
    facts = new.facts if not isinstance(new.facts, Absent) else _no_facts(new.facts)
    slow = new.slow if not isinstance(new.slow, Absent) else _no_slow(new.slow)
    gpm = new.gpm if not isinstance(new.gpm, Absent) else Gpm(*[new.gpm] * 7)
    link = capacity(new.pcie_gen, new.pcie_width)
    effective = link if isinstance(link, Absent) else link * EFFECTIVE
    received, sent = rates(old, new)
    util = track.util
    power = new.power_samples
    others, server_sm = shared_by(new, pids, track.use)
    return GpuView(
        index=new.index,
        name=new.name,
        uuid=new.uuid,
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
        duty=_duty(old, new),
        pcie=link_text(new.pcie_gen, new.pcie_width),
        gpm=new.gpm,
        processes=new.processes,
        local_cpus=new.local_cpus,
        sm=_share(gpm.sm_util),
        occupancy=_share(gpm.occupancy),
        tensor=_share(gpm.tensor_util),
        dram=_share(gpm.dram_util),
        mem_util=_share(new.mem_util),
        util_min=util if isinstance(util, Absent) else min(util.values) / 100.0,
        util_max=util if isinstance(util, Absent) else max(util.values) / 100.0,
        power_min_w=power if isinstance(power, Absent) else power.min_mw / 1000.0,
        power_mean_w=power if isinstance(power, Absent) else power.mean_mw / 1000.0,
        power_max_w=power if isinstance(power, Absent) else power.max_mw / 1000.0,
        margin_c=margin(new.temp_c, facts, slow),
        mem_temp_c=slow.mem_temp_c,
        pstate=new.pstate,
        power_default_w=_watts(facts.power_default_mw),
        power_lowest_w=_watts(facts.power_min_mw),
        power_highest_w=_watts(facts.power_max_mw),
        mem_max_mhz=new.mem_max_mhz,
        bandwidth=bandwidth(new.mem_max_mhz, facts.bus_width_bits),
        pcie_max=link_text(facts.pcie_gen_max, facts.pcie_width_max),
        pcie_device=facts.pcie_gen_device
        if isinstance(facts.pcie_gen_device, Absent)
        else f"gen{facts.pcie_gen_device}",
        pcie_judged=judge(new, track.loaded_s),
        pcie_rx_s=received,
        pcie_tx_s=sent,
        pcie_capacity_s=effective,
        pcie_share=share(received, sent, effective),
        replays_min=_per_minute(new.slow, track, "replays"),
        ecc_corrected=slow.ecc_corrected,
        ecc_uncorrected=slow.ecc_uncorrected,
        ecc_corrected_min=_per_minute(new.slow, track, "ecc_corrected"),
        ecc_uncorrected_min=_per_minute(new.slow, track, "ecc_uncorrected"),
        xids=track.xids if track.xids or not isinstance(xids, Absent) else xids,
        mig=slow.mig,
        vram=vram_split(new, pids),
        numa_node=facts.numa_node,
        arch=facts.arch,
        compute=facts.compute,
        duty_window=_duty(track.window[0], new) if len(track.window) > 1 else {},
        duty_window_s=new.at - track.window[0].at if track.window else 0.0,
        held=held(track.window),
        others=others,
        server_sm=server_sm,
    )


def _duty(old: GpuSample | None, new: GpuSample) -> dict[str, Reading[float]]:
    """Share of the time between two samples in which each limit held the clock down."""
    seconds = new.at - old.at if old is not None else 0.0
    duty: dict[str, Reading[float]] = {}
    for name, now in new.reason_ns.items():
        grown = increase(NOT_YET if old is None else old.reason_ns.get(name, NOT_YET), now)
        if not isinstance(grown, Absent):
            grown = min(1.0, grown / 1e9 / seconds) if seconds > 0 else NOT_YET
        duty[name] = grown
    return duty


def margin(temp_c: Reading[int], facts: GpuFacts, slow: GpuSlow) -> Reading[int]:
    """°C left until the hardware slows down.

    Ada and newer tell the distance to T.Limit, and where below it the slowdown lies (a negative number); older GPUs the
    temperature of the slowdown itself.
    """
    left = slow.margin_c
    if not isinstance(left, Absent):
        return left if isinstance(facts.slowdown_tlimit, Absent) else left - facts.slowdown_tlimit
    if isinstance(facts.slowdown_c, Absent):
        return facts.slowdown_c
    return temp_c if isinstance(temp_c, Absent) else facts.slowdown_c - temp_c


def bandwidth(mem_max_mhz: Reading[int], bus_bits: Reading[int]) -> Reading[float]:
    """Peak memory bandwidth, bytes a second: two transfers a clock over the whole bus."""
    if isinstance(mem_max_mhz, Absent):
        return mem_max_mhz
    return bus_bits if isinstance(bus_bits, Absent) else 2.0 * mem_max_mhz * 1e6 * bus_bits / 8.0


def vram_split(gpu: GpuSample, pids: frozenset[int] | None) -> VramSplit | Absent:
    """The memory of one GPU by owner. NVML counts pids as the host does, as ``pids`` must be."""
    total, used = gpu.mem_total, gpu.mem_used
    if isinstance(total, Absent):
        return total
    if isinstance(used, Absent):
        return used
    reserved = 0 if isinstance(gpu.mem_reserved, Absent) else gpu.mem_reserved
    server = _server_bytes(gpu, used, pids)
    others = server if isinstance(server, Absent) else max(0, used - server)
    return VramSplit(server, others, max(0, total - used - reserved), reserved)


def _server_bytes(gpu: GpuSample, used: int, pids: frozenset[int] | None) -> Reading[int]:
    parts = split(gpu, pids)
    if isinstance(parts, Absent):
        return parts
    own = [process.bytes for process in parts[0]]
    missing = first_absent(*own)
    if missing is not None:
        return missing
    return min(used, sum(held for held in own if not isinstance(held, Absent)))


def _per_minute(slow: GpuSlow | Absent, track: Track, name: str) -> Reading[float]:
    """Increase a minute of a counter that is read every few ticks."""
    old, new = track.slow_old, track.slow_new
    if new is None:
        return slow if isinstance(slow, Absent) else NOT_YET
    now: Reading[int] = getattr(new, name)
    grown = rate(NOT_YET if old is None else getattr(old, name), now, 0.0 if old is None else new.at - old.at)
    return grown if isinstance(grown, Absent) else grown * 60.0


@lru_cache(maxsize=16)
def _no_facts(why: Absent) -> GpuFacts:
    return GpuFacts(*[why] * len(GpuFacts.__struct_fields__))


@lru_cache(maxsize=16)
def _no_slow(why: Absent) -> GpuSlow:
    return GpuSlow(0.0, *[why] * (len(GpuSlow.__struct_fields__) - 1))


def _share(percent: Reading[int] | Reading[float]) -> Reading[float]:
    return percent if isinstance(percent, Absent) else percent / 100.0


def _watts(milliwatts: Reading[int]) -> Reading[float]:
    return milliwatts if isinstance(milliwatts, Absent) else milliwatts / 1000.0
