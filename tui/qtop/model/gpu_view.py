"""What one GPU does, derived: part of a frame. Every figure has its unit in its docstring."""

from __future__ import annotations

import msgspec

from qtop.sample import NOT_YET, Absent, Gpm, GpuProcess, Reading, Xid


class VramSplit(msgspec.Struct, frozen=True):
    """Where the memory of one GPU is, bytes; the four add up to its total."""

    server: Reading[int]
    """What the driver counts for the server's processes."""
    others: Reading[int]
    """The rest of what is used."""
    free: int
    reserved: int
    """What the driver keeps for itself; 0 where it counts that as used."""


class OtherProcess(msgspec.Struct, frozen=True):
    """A process on the GPU that is not the server's."""

    pid: int
    comm: str
    """"" where /proc does not show it."""
    kind: str
    """"compute", "graphics" or "mps"."""
    bytes: Reading[int]
    sm: Reading[float]
    """Share of the SMs' time that it took of late, 0–1."""


class GpuView(msgspec.Struct, frozen=True):
    """One GPU over the last tick; shares are 0–1."""

    index: int
    name: Reading[str]
    util: Reading[float]
    """Share of time with a kernel running."""
    mem_used: Reading[int]
    mem_total: Reading[int]
    temp_c: Reading[int]
    power_w: Reading[float]
    power_limit_w: Reading[float]
    sm_mhz: Reading[int]
    sm_max_mhz: Reading[int]
    mem_mhz: Reading[int]
    reasons: Reading[tuple[str, ...]]
    """Clock event reasons that stand now, in plain words."""
    duty: dict[str, Reading[float]]
    """Share of the tick under "power_cap", "sw_thermal", "hw_thermal", "power_brake" (Δns/Δt)."""
    pcie: Reading[str]
    """Link as "gen5 x16"."""
    gpm: Gpm | Absent
    processes: tuple[GpuProcess, ...] | Absent
    local_cpus: Reading[str]
    sm: Reading[float] = NOT_YET
    """Share of the SMs at work (GPM)."""
    occupancy: Reading[float] = NOT_YET
    """Share of the warps that the SMs could hold (GPM)."""
    tensor: Reading[float] = NOT_YET
    """Share of time in which the tensor cores worked (GPM)."""
    dram: Reading[float] = NOT_YET
    """Share of the memory's peak bandwidth in use (GPM); not ``mem_util``."""
    mem_util: Reading[float] = NOT_YET
    """Share of time memory was read or written; says nothing of bandwidth."""
    util_min: Reading[float] = NOT_YET
    """Lowest of the driver's own utilization samples (200 ms each), over the last tick; where GPM is, over 5 ticks."""
    util_max: Reading[float] = NOT_YET
    power_min_w: Reading[float] = NOT_YET
    """Lowest of the driver's own power samples (20 ms each) over the last tick."""
    power_mean_w: Reading[float] = NOT_YET
    power_max_w: Reading[float] = NOT_YET
    margin_c: Reading[int] = NOT_YET
    """°C left until the hardware slows the GPU down; negative beyond."""
    mem_temp_c: Reading[int] = NOT_YET
    pstate: Reading[int] = NOT_YET
    power_default_w: Reading[float] = NOT_YET
    power_lowest_w: Reading[float] = NOT_YET
    """Lowest and highest limit that may be set."""
    power_highest_w: Reading[float] = NOT_YET
    mem_max_mhz: Reading[int] = NOT_YET
    bandwidth: Reading[float] = NOT_YET
    """Peak memory bandwidth, bytes a second: 2 · highest memory clock · bus width / 8."""
    pcie_max: Reading[str] = NOT_YET
    """What GPU and slot allow together, as "gen5 x16"."""
    pcie_device: Reading[str] = NOT_YET
    """What the GPU alone would allow, as "gen5"."""
    pcie_judged: Reading[str] = NOT_YET
    """A ``qtop.model.gpu_link.Link`` once the GPU has been under load for seconds: idle links slow down by design."""
    pcie_rx_s: Reading[float] = NOT_YET
    """Bytes a second to the GPU."""
    uuid: Reading[str] = NOT_YET
    pcie_tx_s: Reading[float] = NOT_YET
    """Bytes a second from the GPU."""
    pcie_capacity_s: Reading[float] = NOT_YET
    """Bytes a second, each way, that the link as it is now can carry in practice (85 % of its rate)."""
    pcie_share: Reading[float] = NOT_YET
    """The busier direction over ``pcie_capacity_s``."""
    replays_min: Reading[float] = NOT_YET
    """PCIe packets sent again, a minute; more than 10 mean a bad link."""
    ecc_corrected: Reading[int] = NOT_YET
    """Memory errors since the driver was loaded."""
    ecc_uncorrected: Reading[int] = NOT_YET
    ecc_corrected_min: Reading[float] = NOT_YET
    """The same, a minute."""
    ecc_uncorrected_min: Reading[float] = NOT_YET
    xids: tuple[Xid, ...] | Absent = NOT_YET
    """Critical errors that the driver has reported since qtop looks, the latest last."""
    mig: Reading[bool] = NOT_YET
    """Whether the GPU is split into instances; then figures of the whole GPU are mostly absent."""
    vram: VramSplit | Absent = NOT_YET
    numa_node: Reading[int] = NOT_YET
    arch: Reading[str] = NOT_YET
    compute: Reading[str] = NOT_YET
    duty_window: dict[str, Reading[float]] = {}
    """``duty`` over the last 30 s, or as long as qtop looks."""
    duty_window_s: float = 0.0
    held: dict[str, Reading[float]] = {}
    """Seconds of the last ten in which each limit (as in ``duty``, and "hw_slowdown") held the clock down: by the
    driver's counters, else by the reason bits of neighbouring readings."""
    others: tuple[OtherProcess, ...] | Absent = NOT_YET
    """Processes on the GPU that are not the server's, the busiest and then the largest first."""
    server_sm: Reading[float] = NOT_YET
    """Share of the SMs' time that the server's processes took of late, 0–1; read only where others are there too."""
