"""The CPU side of a frame: the host, the server's threads, what holds them. Every figure has its unit in its
docstring."""

from __future__ import annotations

import msgspec

from qtop.sample import NOT_YET, Absent, Reading


class ClockView(msgspec.Struct, frozen=True):
    """How fast CPUs run, MHz."""

    mean: float
    min: float
    max: float


class MemoryView(msgspec.Struct, frozen=True):
    """The memory modules, as the firmware describes them."""

    modules: int
    slots: Reading[int]
    kind: str
    """"DDR5"."""
    channels: Reading[int]
    """Channels with a module; absent where the board's names do not tell."""
    rated_mts: Reading[int]
    """MT/s of the slowest module's label."""
    configured_mts: Reading[int]
    """MT/s that the slowest runs at."""
    peak_bytes_s: Reading[float]
    """What the channels could carry: configured MT/s × 8 bytes × channels."""


class HostView(msgspec.Struct, frozen=True):
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
    softirq: Reading[float] = NOT_YET
    """Share of all CPU time that the kernel spent on soft interrupts (network, block)."""
    softirq_worst: Reading[tuple[int, float]] = NOT_YET
    """The CPU that spends most of its time so, and its share."""
    nodes: Reading[int] = NOT_YET
    """NUMA nodes with a CPU."""
    packages: Reading[int] = NOT_YET
    cores: Reading[int] = NOT_YET
    """Physical cores online."""
    smt: Reading[bool] = NOT_YET
    """Whether cores run more than one thread each now."""
    governor: Reading[str] = NOT_YET
    """"performance", or each with its CPUs: "performance 0-3, powersave 4-7"."""
    preference: Reading[str] = NOT_YET
    """Energy performance preference, in the same form."""
    boost: Reading[bool] = NOT_YET
    mhz: ClockView | Absent = NOT_YET
    """Over all CPUs."""
    max_mhz: Reading[float] = NOT_YET
    swap_used: Reading[int] = NOT_YET
    """Bytes."""
    swap_in_s: Reading[float] = NOT_YET
    """Bytes a second."""
    swap_out_s: Reading[float] = NOT_YET
    major_faults_s: Reading[float] = NOT_YET
    """Page faults a second that waited for a disk."""
    migrations_s: Reading[float] = NOT_YET
    """Pages a second that NUMA balancing moved."""
    migrations_mean_s: Reading[float] = NOT_YET
    """The same over the last twenty seconds: pages are moved in bursts, a scan at a time."""
    hint_faults_s: Reading[float] = NOT_YET
    """Faults a second that NUMA balancing provoked to see who uses a page."""
    numa_balancing: Reading[int] = NOT_YET
    """kernel.numa_balancing, a bit mask; 0 is off."""
    huge_pages: Reading[str] = NOT_YET
    memory: MemoryView | Absent = NOT_YET
    psi_memory_full: Reading[float] = NOT_YET
    """Share of the tick in which all tasks that were not idle waited for memory."""


class ThreadView(msgspec.Struct, frozen=True, gc=False):
    """One thread of the server over the last tick; shares of wall time, 0–1. A struct, because dozens of them are made
    every tick: in a tenth of the time that a frozen dataclass takes."""

    pid: int
    tid: int
    comm: str
    role: str
    """``process_role``, of main threads only."""
    run: float
    wait: float
    """Runnable without a CPU, as the kernel counts it."""
    throttled: float
    """The part of ``wait`` that the cgroup's CPU quota explains."""
    slices: float
    """Dispatches a second."""
    allowed: str
    processor: int = -1
    """CPU it was on when it last ran; -1 if not recorded."""
    process_role: str = ""
    """What its process does, for each of its threads: "api", "engine", "worker", "scheduler", "tokenizer",
    "detokenizer", "coordinator", "router", "launcher", "runner", "helper", "server" (all in one) or ""."""
    rank: str = ""
    """Which of several: "0" of API servers, "DP1" of engines, "TP0" or "PP0_TP1" of workers."""
    process: str = ""
    """Its process's title, else its name."""

    @property
    def contended(self) -> float:
        """Waiting that other tasks on its CPUs cause: ``wait`` less ``throttled``."""
        return max(0.0, self.wait - self.throttled)

    @property
    def wait_ms(self) -> Reading[float]:
        """Mean wait a dispatch, ms; one tick's worth where it never got the CPU cannot be told."""
        return self.wait * 1000.0 / self.slices if self.slices > 0 else NOT_YET


class Competitor(msgspec.Struct, frozen=True):
    """Another process on the CPUs of the thread that waits; ``share`` is of one CPU, 0–1 (more with several
    threads)."""

    pid: int
    comm: str
    share: float
    cpus: str


class QuotaView(msgspec.Struct, frozen=True):
    """The tightest CPU quota on the server's cgroup path."""

    path: str
    cores: float
    throttled: Reading[float]
    """CPU-seconds throttled a second, summed over CPUs."""
    periods_throttled: Reading[float]
    """Share of the enforcement periods that ended throttled, 0–1."""


class UsableView(msgspec.Struct, frozen=True):
    """CPUs that the server may use: what its masks, its cgroup's cpuset and what is online leave, and its quota."""

    cpus: str
    """As a kernel list."""
    logical: float
    """How many CPUs' worth of time: their number, or the quota if that is less."""
    cores: Reading[float]
    """How many physical cores' worth, in the same way."""
    limit: str
    """What sets it: "quota", "cpuset", "affinity" or "host"."""


class MemoryGroupView(msgspec.Struct, frozen=True):
    """The memory of the root process's cgroup, at the level of its path that has the tightest limit."""

    used: Reading[int]
    """Bytes, page cache included."""
    limit: int | Absent | None
    """Bytes; None: no limit in sight."""
    hits_s: Reading[float]
    """How often a second the limit was hit."""
    some: Reading[float]
    """Share of the tick in which some task of the cgroup waited for memory, 0–1."""
    full: Reading[float]
    """Share in which all of them did."""


class SchedView(msgspec.Struct, frozen=True):
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
    psi_some: Reading[float] = NOT_YET
    """Share of the tick in which some task of the root process's cgroup waited for a CPU."""
    psi_full: Reading[float] = NOT_YET
    """Share in which all of them did: with a quota, in which the quota stopped them."""
    usable: UsableView | Absent = NOT_YET
    nodes: Reading[tuple[int, ...]] = NOT_YET
    """NUMA nodes of the CPUs that the critical threads were last on."""
    mhz: ClockView | Absent = NOT_YET
    """Of those CPUs."""
    quota_above: bool = False
    """There are cgroups above those in sight, which may have a quota too (qtop runs inside a container)."""
    memory: MemoryGroupView | Absent = NOT_YET
    """What its cgroup may have of the memory, and how it waits for it."""
    stopped: tuple[str, ...] = ()
    """Processes that a signal or a debugger has stopped, as "VLLM::EngineCore (pid 123)"; none in recordings that do
    not hold it."""
