"""What the samples mean: one immutable frame a tick, the only thing that rules and screens see. Every figure has its
unit in its docstring."""

from __future__ import annotations

from dataclasses import dataclass, field

from qtop.sample import NOT_YET, Absent, Gpm, GpuProcess, Reading, ServerInfo, Xid


@dataclass(frozen=True, slots=True)
class VramSplit:
    """Where the memory of one GPU is, bytes; the four add up to its total."""

    server: Reading[int]
    """What the driver counts for the server's processes."""
    others: Reading[int]
    """The rest of what is used."""
    free: int
    reserved: int
    """What the driver keeps for itself; 0 where it counts that as used."""


@dataclass(frozen=True, slots=True)
class GpuView:
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
    """A ``qtop.model.gpu_link.Link`` after some seconds under load; an idle link slows down by design."""
    pcie_rx_s: Reading[float] = NOT_YET
    """Bytes a second to the GPU."""
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


@dataclass(frozen=True, slots=True)
class HostView:
    """The host's CPUs over the last tick; shares are 0–1."""

    cpus: int
    busy: Reading[float]
    per_cpu: dict[int, float]
    """Busy share by CPU number."""
    steal: Reading[float]
    iowait: Reading[float]
    psi_cpu: Reading[float]
    """Share of the tick in which some task waited for a CPU."""
    psi_memory: Reading[float]
    psi_io: Reading[float]
    mem_total: Reading[int]
    mem_available: Reading[int]
    runnable: Reading[int]


@dataclass(frozen=True, slots=True)
class ThreadView:
    """One thread of the server over the last tick; shares of wall time, 0–1."""

    pid: int
    tid: int
    comm: str
    role: str
    """"engine", "api", "worker" or ""."""
    run: float
    wait: float
    """Runnable without a CPU, as the kernel counts it."""
    throttled: float
    """The part of ``wait`` that the cgroup's CPU quota explains."""
    slices: float
    """Dispatches a second."""
    allowed: str

    @property
    def contended(self) -> float:
        """Waiting that other tasks on its CPUs cause: ``wait`` less ``throttled``."""
        return max(0.0, self.wait - self.throttled)

    @property
    def wait_ms(self) -> Reading[float]:
        """Mean wait a dispatch, ms; one tick's worth where it never got the CPU cannot be told."""
        return self.wait * 1000.0 / self.slices if self.slices > 0 else NOT_YET


@dataclass(frozen=True, slots=True)
class Competitor:
    """Another process on the CPUs of the thread that waits; ``share`` is of one CPU, 0–1 (more with several
    threads)."""

    pid: int
    comm: str
    share: float
    cpus: str


@dataclass(frozen=True, slots=True)
class QuotaView:
    """The tightest CPU quota on the server's cgroup path."""

    path: str
    cores: float
    throttled: Reading[float]
    """CPU-seconds throttled a second, summed over CPUs."""
    periods_throttled: Reading[float]
    """Share of the enforcement periods that ended throttled, 0–1."""


@dataclass(frozen=True, slots=True)
class SchedView:
    """The server's processes and threads."""

    threads: tuple[ThreadView, ...]
    """All, the longest-waiting first."""
    critical: tuple[ThreadView, ...]
    """Those that hold everything up when they wait, the longest-waiting first."""
    processes: int
    cpu: Reading[float]
    """CPUs' worth of time used a second by the whole tree."""
    rss_bytes: int
    allowed: Reading[str]
    """CPUs that the longest-waiting critical thread may use."""
    cpuset: Reading[str]
    """CPUs that the cgroup of the root process allows."""
    quota: QuotaView | Absent | None
    """None: no quota."""
    involuntary: Reading[float]
    """Involuntary context switches a second of the critical processes' main threads."""
    competitors: tuple[Competitor, ...] | Absent


@dataclass(frozen=True, slots=True)
class EngineView:
    """The server's own numbers over the last tick."""

    running: Reading[float]
    waiting: Reading[float]
    kv_use: Reading[float]
    """0–1."""
    preempt_s: Reading[float]
    gen_tok_s: Reading[float]
    prompt_tok_s: Reading[float]
    steps_s: Reading[float]
    finished_s: Reading[float]
    itl_ms: Reading[float]
    """Mean gap between tokens of one request, over the tick."""
    scrape_ms: float


@dataclass(frozen=True, slots=True)
class WakeupView:
    """Overshoot of a sleeper beside the server, over the last 10 s; p95 needs 40 readings."""

    p50_ms: Reading[float]
    p95_ms: Reading[float]
    max_ms: Reading[float]
    n: int


@dataclass(frozen=True, slots=True)
class OwnView:
    """What qtop costs: share of one core, bytes, bytes a second to the terminal."""

    cpu: Reading[float]
    rss_bytes: int
    tty_bytes_s: Reading[float]
    lag_ms: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a request's time: mean ms over the window."""

    name: str
    ms: Reading[float]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Where a request's time goes, as window means over ``seconds``: queue → frontend → prefill → decode."""

    seconds: float
    finished: Reading[float]
    """Requests that finished in the window."""
    stages: tuple[Stage, ...]
    ttft_ms: Reading[float]
    itl_ms: Reading[float]
    tokens: Reading[float]
    """Mean output tokens a request."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One tick, derived. Sections that could not be had carry why."""

    t: float
    dt: float
    """Seconds since the frame before; 0 for the first."""
    server: ServerInfo | Absent = NOT_YET
    engine: EngineView | Absent = NOT_YET
    sched: SchedView | Absent = NOT_YET
    host: HostView | Absent = NOT_YET
    gpus: tuple[GpuView, ...] | Absent = NOT_YET
    gpus_lost: dict[str, Absent] = field(default_factory=dict)
    wakeup: WakeupView | Absent = NOT_YET
    own: OwnView | Absent = NOT_YET
    waterfall: Waterfall | Absent = NOT_YET
    kv_tokens: Reading[float] = NOT_YET
    """Tokens that the KV cache holds."""
    roofline_tok_s: Reading[float] = NOT_YET
    """What memory bandwidth allows a batch like the present one, tokens a second."""
