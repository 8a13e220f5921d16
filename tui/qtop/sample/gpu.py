"""What was read from the GPUs, as NVML gives it: raw counters and readings, nothing derived."""

from __future__ import annotations

import msgspec

from qtop.sample.absent import NOT_RECORDED, Absent, Reading


class Gpm(msgspec.Struct, frozen=True, omit_defaults=True, tag="gpm"):
    """GPU performance metrics (Hopper and newer): shares in %, PCIe in MiB/s; averages between two GPM samples."""

    sm_util: Reading[float] = NOT_RECORDED
    occupancy: Reading[float] = NOT_RECORDED
    tensor_util: Reading[float] = NOT_RECORDED
    dram_util: Reading[float] = NOT_RECORDED
    pcie_tx: Reading[float] = NOT_RECORDED
    pcie_rx: Reading[float] = NOT_RECORDED
    graphics_util: Reading[float] = NOT_RECORDED
    """% of time any compute or graphics work was there."""


class GpuProcess(msgspec.Struct, frozen=True, array_like=True):
    """A process on a GPU; ``bytes`` is absent where the driver will not say. The pid is the host's."""

    pid: int
    bytes: Reading[int]
    kind: str = "compute"
    """"compute", "graphics" or "mps" (a client of the CUDA multi-process service)."""
    comm: str = ""
    """Its name, "" where /proc does not show it."""


class ProcessUse(msgspec.Struct, frozen=True, array_like=True):
    """What one process did on the GPU's SMs of late, as the driver samples it: mean % since the reading before."""

    pid: int
    sm: float


class UtilSamples(msgspec.Struct, frozen=True, tag="util_samples"):
    """Utilization as the driver samples it (about five times a second), evenly spaced from first to last."""

    first_us: int
    """Time of the first value, µs since 1970."""
    span_us: int
    """From the first to the last."""
    values: tuple[int, ...]
    """%."""


class PowerSamples(msgspec.Struct, frozen=True, tag="power_samples"):
    """Power as the driver samples it (about fifty times a second), folded to bounds and mean, mW."""

    first_us: int
    span_us: int
    n: int
    min_mw: int
    mean_mw: int
    max_mw: int


class PcieBytes(msgspec.Struct, frozen=True, tag="pcie_bytes"):
    """The GPU's PCIe byte counters (fields 197 and 198). 32 bits: they wrap at 4 GiB."""

    at: float
    tx: Reading[int]
    """From the GPU."""
    rx: Reading[int]
    """To the GPU."""


class Xid(msgspec.Struct, frozen=True, array_like=True):
    """A critical error that the driver reported. ``t`` is Unix time, ``code`` as in NVIDIA's table of Xid errors."""

    t: float
    index: int
    code: int


class GpuFacts(msgspec.Struct, frozen=True, omit_defaults=True, tag="gpu_facts"):
    """What does not change while the driver stays loaded; read once."""

    arch: Reading[str] = NOT_RECORDED
    """"Hopper", "Ada", …"""
    compute: Reading[str] = NOT_RECORDED
    """CUDA compute capability ("9.0")."""
    bus_width_bits: Reading[int] = NOT_RECORDED
    """Width of the memory bus."""
    numa_node: Reading[int] = NOT_RECORDED
    """sysfs numa_node."""
    slowdown_c: Reading[int] = NOT_RECORDED
    shutdown_c: Reading[int] = NOT_RECORDED
    slowdown_tlimit: Reading[int] = NOT_RECORDED
    """Value of ``GpuSlow.margin_c`` at which the hardware slows down, °C (field 194, Ada and newer)."""
    shutdown_tlimit: Reading[int] = NOT_RECORDED
    """The same for switching off (field 193)."""
    power_default_mw: Reading[int] = NOT_RECORDED
    power_min_mw: Reading[int] = NOT_RECORDED
    """Lowest limit that may be set."""
    power_max_mw: Reading[int] = NOT_RECORDED
    pcie_gen_max: Reading[int] = NOT_RECORDED
    """What GPU and slot allow together."""
    pcie_width_max: Reading[int] = NOT_RECORDED
    pcie_gen_device: Reading[int] = NOT_RECORDED
    """What the GPU alone would allow."""


class GpuSlow(msgspec.Struct, frozen=True, omit_defaults=True, tag="gpu_slow"):
    """What is read every few ticks, because it costs or hardly changes; rates need its own ``at``."""

    at: float
    margin_c: Reading[int] = NOT_RECORDED
    """°C left to the highest operating temperature (T.Limit), may be negative; Ada and newer."""
    mem_temp_c: Reading[int] = NOT_RECORDED
    ecc_corrected: Reading[int] = NOT_RECORDED
    """Errors since the driver was loaded."""
    ecc_uncorrected: Reading[int] = NOT_RECORDED
    replays: Reading[int] = NOT_RECORDED
    """PCIe packets sent again since the driver was loaded (field 94)."""
    mig: Reading[bool] = NOT_RECORDED


class GpuSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One GPU through NVML. Units as NVML gives them: bytes, mW, MHz, °C, ns."""

    at: float
    index: int
    uuid: Reading[str] = NOT_RECORDED
    name: Reading[str] = NOT_RECORDED
    bus_id: Reading[str] = NOT_RECORDED
    local_cpus: Reading[str] = NOT_RECORDED
    """CPUs near the GPU, as a kernel list (sysfs local_cpulist)."""
    util: Reading[int] = NOT_RECORDED
    """% of time with at least one kernel running; says nothing about how full the GPU is."""
    mem_util: Reading[int] = NOT_RECORDED
    """% of time memory was read or written; neither bandwidth nor occupancy."""
    mem_total: Reading[int] = NOT_RECORDED
    mem_used: Reading[int] = NOT_RECORDED
    """v2: without what the driver reserves."""
    mem_reserved: Reading[int] = NOT_RECORDED
    temp_c: Reading[int] = NOT_RECORDED
    power_mw: Reading[int] = NOT_RECORDED
    power_limit_mw: Reading[int] = NOT_RECORDED
    sm_mhz: Reading[int] = NOT_RECORDED
    sm_max_mhz: Reading[int] = NOT_RECORDED
    mem_mhz: Reading[int] = NOT_RECORDED
    mem_max_mhz: Reading[int] = NOT_RECORDED
    reasons: Reading[int] = NOT_RECORDED
    """Clock event reasons, a bitmask."""
    reason_ns: dict[str, Reading[int]] = {}
    """Cumulative ns: "power_cap" (field 74), "sw_thermal" (75/269), "hw_thermal" (270), "power_brake" (271)."""
    pcie_gen: Reading[int] = NOT_RECORDED
    pcie_width: Reading[int] = NOT_RECORDED
    gpm: Gpm | Absent = NOT_RECORDED
    processes: tuple[GpuProcess, ...] | Absent = NOT_RECORDED
    pstate: Reading[int] = NOT_RECORDED
    """Performance state, 0 (fastest) to 15."""
    facts: GpuFacts | Absent = NOT_RECORDED
    slow: GpuSlow | Absent = NOT_RECORDED
    util_samples: UtilSamples | Absent = NOT_RECORDED
    """Those that are new; not in each tick."""
    power_samples: PowerSamples | Absent = NOT_RECORDED
    pcie_bytes: PcieBytes | Absent = NOT_RECORDED
    """Read only where GPM does not tell the rates."""
    process_use: tuple[ProcessUse, ...] | Absent = NOT_RECORDED
    """Those that did anything since the reading before; read every few ticks, and only where several processes are."""


class GpuSection(msgspec.Struct, frozen=True, omit_defaults=True, tag="gpus"):
    """All GPUs that NVML lists; one that fell off the bus stays in its place as an Absent."""

    at: float
    driver: Reading[str] = NOT_RECORDED
    gpus: tuple[GpuSample, ...] = ()
    lost: dict[str, Absent] = {}
    """By index as text: GPUs that were there and no longer answer."""
    xids: tuple[Xid, ...] | Absent = NOT_RECORDED
    """Critical errors since the section before."""
