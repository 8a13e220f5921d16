"""What was read, as it was read: raw cumulative counters in frozen structs. Nothing here is derived.

Each section carries ``at``, the monotonic second of its own reading, so that rates use the true time between two
readings even when sections are read at different periods. A section that could not be had is an ``Absent``.
Small, numerous items are array-like structs: they travel as JSON lists.
"""

from __future__ import annotations

import msgspec

from qtop.sample.absent import NOT_RECORDED, Absent, Reading
from qtop.sample.gpu import GpuSection
from qtop.sample.settings import Setting
from qtop.sample.topology import Clocks, Topology, VmStat


class CpuTimes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One ``cpu`` line of /proc/stat, in clock ticks since boot (guest time is inside user, as the kernel has it)."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int


class Pressure(msgspec.Struct, frozen=True, tag="psi"):
    """Totals of one PSI file, in microseconds since boot."""

    some_us: int
    full_us: int


class TaskSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A process that is not the server's, as a possible competitor for its CPUs."""

    pid: int
    start_ticks: int
    comm: str
    cpu_ticks: int
    """utime + stime, clock ticks."""
    cpus: str
    """CPUs its running threads were last seen on, as a kernel list ("3" or "0-1,4")."""


class HostSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="host"):
    """The host: /proc/stat, /proc/pressure, /proc/meminfo, /proc/loadavg."""

    at: float
    cpus: dict[str, CpuTimes]
    """By CPU number as text; "all" is the sum line."""
    hz: int = 100
    """Clock ticks a second (sysconf SC_CLK_TCK)."""
    psi_cpu: Reading[Pressure] = NOT_RECORDED
    psi_memory: Reading[Pressure] = NOT_RECORDED
    psi_io: Reading[Pressure] = NOT_RECORDED
    mem_total: Reading[int] = NOT_RECORDED
    """Bytes."""
    mem_available: Reading[int] = NOT_RECORDED
    """Bytes."""
    load1: Reading[float] = NOT_RECORDED
    runnable: Reading[int] = NOT_RECORDED
    """Runnable tasks on the host at that moment (4th field of /proc/loadavg)."""
    tasks: tuple[TaskSample, ...] | Absent = NOT_RECORDED
    """Other processes with CPU time; read only while the server waits for a CPU, because reading all costs."""
    swap_total: Reading[int] = NOT_RECORDED
    """Bytes; 0 where there is no swap."""
    swap_free: Reading[int] = NOT_RECORDED
    """Bytes."""
    vm: VmStat | Absent = NOT_RECORDED
    topology: Topology | Absent = NOT_RECORDED
    clocks: Clocks | Absent = NOT_RECORDED


class ThreadSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thread: /proc/PID/task/TID/schedstat, nanoseconds since it started."""

    tid: int
    comm: str
    run_ns: int
    wait_ns: int
    """Time spent runnable, waiting for a CPU; includes time throttled by a cgroup quota on recent kernels."""
    slices: int
    allowed: str = ""
    """CPUs it may run on, as a kernel list; "" if not read in this sample."""
    processor: int = -1
    """CPU it was last on when it last ran; -1 if not read."""


class ProcessSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process of the server's tree."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat: with the pid, the identity of a process."""
    ppid: int
    comm: str
    cpu_ticks: int
    rss_bytes: int
    threads: tuple[ThreadSample, ...] | Absent
    allowed: Reading[str] = NOT_RECORDED
    """Cpus_allowed_list of the main thread."""
    voluntary: Reading[int] = NOT_RECORDED
    """Voluntary context switches of the main thread."""
    involuntary: Reading[int] = NOT_RECORDED
    cgroup: str = ""
    """Key into ``ServerProcs.cgroups``; "" if not known."""
    title: str = ""
    """What it calls itself: its title if it wrote one ("VLLM::EngineCore_DP1"), else program and verb ("vllm serve");
    never an argument."""
    state: str = ""
    """"T" while a signal has stopped its main thread, "t" while a debugger has; else "", as in recordings that lack
    it."""


class QuotaLevel(msgspec.Struct, frozen=True, array_like=True):
    """One cgroup on the path up that has a CPU quota."""

    path: str
    quota_us: int
    period_us: int
    nr_periods: int
    nr_throttled: int
    throttled_us: int
    """Summed over the CPUs on which it was throttled, microseconds."""


class MemoryGroup(msgspec.Struct, frozen=True, omit_defaults=True, tag="memcg"):
    """The memory of one cgroup, at the level of its path that has the tightest limit."""

    used: Reading[int]
    """Bytes, page cache included."""
    limit: int | Absent | None
    """Bytes (v1 limit_in_bytes; v2 the lower of memory.high and memory.max); None: no limit in sight."""
    hits: Reading[int] = NOT_RECORDED
    """How often the limit was hit since the cgroup was made (v1 failcnt, memsw.failcnt too; v2 "high" and "max" of
    memory.events)."""
    pressure: Reading[Pressure] = NOT_RECORDED
    """memory.pressure of its own v2 cgroup."""


class CgroupSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="cgroup"):
    """The CPU and memory side of one cgroup, v1 or v2, with every ancestor that limits it."""

    at: float
    version: int
    path: str
    usage_us: Reading[int]
    quotas: tuple[QuotaLevel, ...] | Absent
    """Empty when nothing on the path has a quota."""
    cpuset: Reading[str]
    """Effective CPUs, as a kernel list."""
    pressure: Reading[Pressure] = NOT_RECORDED
    above: bool = False
    """There are ancestors out of sight (seen from inside a container), which may have quotas too."""
    memory: MemoryGroup | Absent = NOT_RECORDED


class ServerProcs(msgspec.Struct, frozen=True, omit_defaults=True, tag="procs"):
    """The server's process tree, root first."""

    at: float
    processes: tuple[ProcessSample, ...]
    cgroups: dict[str, CgroupSample | Absent] = {}


class SlotSample(msgspec.Struct, frozen=True, array_like=True):
    """One llama.cpp slot, without any of its text."""

    id: int
    n_ctx: int
    busy: bool
    prompt_tokens: int
    decoded: int


class ModelSample(msgspec.Struct, frozen=True, array_like=True):
    """A model in memory (Ollama)."""

    name: str
    bytes: int
    vram_bytes: int
    """The part of ``bytes`` on GPUs."""
    expires: float = 0.0
    """Unix time at which it is unloaded; 0 if never, or not told."""
    context: int = 0
    """Tokens; 0 if not told."""


class EngineSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="engine"):
    """One scrape of the server's metrics: the raw series, by their exposition name with labels."""

    at: float
    scrape_ms: float
    series: dict[str, float]
    slots: tuple[SlotSample, ...] | Absent = NOT_RECORDED
    models: tuple[ModelSample, ...] | Absent = NOT_RECORDED


class ServerInfo(msgspec.Struct, frozen=True, omit_defaults=True, tag="server"):
    """Who the server is; changes rarely."""

    url: Reading[str] = NOT_RECORDED
    engine: str = "unknown"
    """"vllm", "llamacpp", "sglang", "tgi", "trtllm", "triton", "ollama", "openai" (answers /v1/models, nothing more
    known) or "unknown"."""
    version: Reading[str] = NOT_RECORDED
    model: Reading[str] = NOT_RECORDED
    max_model_len: Reading[int] = NOT_RECORDED
    """Tokens a request may have, prompt and output."""
    max_running: Reading[int] = NOT_RECORDED
    """Requests that may run at once (vLLM max_num_seqs, llama.cpp slots)."""
    pid: Reading[int] = NOT_RECORDED
    argv: tuple[str, ...] | Absent = NOT_RECORDED
    started: Reading[float] = NOT_RECORDED
    """Unix time."""
    on_host: bool = True
    """False when the server runs on another host: then nothing local says anything about it."""
    in_container: bool = False
    verified: bool = True
    """False where qtop knows this kind of server by its documentation only: never run against a real one."""
    settings: tuple[Setting, ...] | Absent = NOT_RECORDED
    """What its sources say of its configuration, one entry a source and name, the sources in order of authority."""
    settings_missing: dict[str, Absent] = {}
    """Sources of settings that could not be read, by name (as in ``Setting.source``), with why."""
    bound: Reading[str] = NOT_RECORDED
    """Addresses that its port is bound to: "0.0.0.0" for every one, or several with commas."""


class Launch(msgspec.Struct, frozen=True, omit_defaults=True, tag="launch"):
    """A server that was seen to start and has not answered yet, or ended before it did."""

    info: ServerInfo
    """What can be told without asking it: engine, version installed, command line, settings, where it would answer."""
    ended: float = 0.0
    """Unix time at which it was found gone; 0 while it lives."""


class WakeupSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="wakeup"):
    """Overshoots of a sleeping process of qtop's own, since the last sample; measures qtop's cgroup and CPUs, not
    the server's."""

    at: float
    period_ms: float
    late_us: tuple[int, ...]


class OwnSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="own"):
    """What qtop itself costs: CPU of it and its children, RSS, bytes written to the terminal, lag of the sampler."""

    at: float
    cpu_ns: int
    rss_bytes: int
    tty_bytes: int
    lag_ms: float


class PromptEnds(msgspec.Struct, frozen=True, omit_defaults=True, tag="ends"):
    """How qtop's own test prompts ended, warm-ups left out; requests, counted since it started."""

    ended: int = 0
    failed: int = 0
    timed_out: int = 0
    """Of those that failed: qtop, or a proxy on the way, gave up waiting."""
    too_long: int = 0
    """Of those that failed: the server said that the prompt, or it and its answer, are longer than the model takes."""
    unstreamed: int = 0
    """Asked to stream, and yet the answer came in one piece."""
    limit_ignored: int = 0
    """Ended for their length, after another number of tokens than the body asked for."""
    cut_at_16: int = 0
    """Ended for their length after 16 tokens; the body set no limit that the server knows."""
    sent_unstreamed: int = 0
    """Bodies of the user's in which ``stream`` was missing, false or in the wrong place."""
    sent_unknown_limit: int = 0
    """Bodies of the user's with a limit under a name that the route ignores (``max_new_tokens``)."""


class ClientSample(msgspec.Struct, frozen=True, omit_defaults=True, tag="client"):
    """qtop's own test prompts, added up since it started: those that brought text."""

    at: float
    requests: int
    queue_ms: float
    """From being due to being sent, opening the connection included."""
    ttft_ms: float
    ends: PromptEnds | Absent = NOT_RECORDED
    """Of all of them, those that brought no text too."""


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tick. ``t`` is Unix time; sections carry their own monotonic stamps."""

    t: float
    server: ServerInfo | Absent = NOT_RECORDED
    engine: EngineSample | Absent = NOT_RECORDED
    procs: ServerProcs | Absent = NOT_RECORDED
    host: HostSample | Absent = NOT_RECORDED
    gpu: GpuSection | Absent = NOT_RECORDED
    wakeup: WakeupSample | Absent = NOT_RECORDED
    own: OwnSample | Absent = NOT_RECORDED
    client: ClientSample | Absent = NOT_RECORDED
    launch: Launch | Absent = NOT_RECORDED
    """Absent where none was seen."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened once: a probe's result, a change, a note. ``data`` is JSON, without prompt or answer
    text."""

    t: float
    kind: str
    data: dict[str, object]
