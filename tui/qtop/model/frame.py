"""What the samples mean: one immutable frame a tick, the only thing that rules and screens see. Every figure has its
unit in its docstring."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from qtop.model.cpu import (
    ClockView,
    Competitor,
    HostView,
    MemoryView,
    QuotaView,
    SchedView,
    ThreadView,
    UsableView,
)
from qtop.model.gpu_view import GpuView, VramSplit
from qtop.model.requests import RequestsView
from qtop.model.running import RunningView
from qtop.model.serving import LatencyView, LoraView, ModelView, RankView
from qtop.model.settings import SettingsView
from qtop.sample import NOT_YET, Absent, Reading, ServerInfo

__all__ = [  # what is defined elsewhere and belongs to a frame
    "ClockView",
    "Competitor",
    "GpuView",
    "HostView",
    "MemoryView",
    "QuotaView",
    "SchedView",
    "ThreadView",
    "UsableView",
    "VramSplit",
]


class EngineView(msgspec.Struct, frozen=True):
    """The server's own numbers over the last tick; several engines (data-parallel ranks) of it count together."""

    running: Reading[float]
    waiting: Reading[float]
    kv_use: Reading[float]
    """0–1; of several engines the fullest."""
    preempt_s: Reading[float]
    gen_tok_s: Reading[float]
    prompt_tok_s: Reading[float]
    steps_s: Reading[float]
    finished_s: Reading[float]
    itl_ms: Reading[float]
    """Mean gap between tokens of one request, over the tick."""
    scrape_ms: float
    waiting_by_reason: Mapping[str, float] | Absent = NOT_YET
    kv_capacity_tokens: Reading[float] = NOT_YET
    """Tokens that the KV cache holds."""
    prefix_hit: Reading[float] = NOT_YET
    """Share of looked-up prompt tokens found in the prefix cache, over the window, 0–1."""
    prefix_queries: Reading[float] = NOT_YET
    """Prompt tokens looked up in that window."""
    loras: LoraView | Absent = NOT_YET
    rejections_s: Reading[float] = NOT_YET
    """Requests a second refused because a queue was full."""
    finished_by_reason: Mapping[str, float] | Absent = NOT_YET
    """Requests a second."""
    tokens_step: Reading[float] = NOT_YET
    """Tokens a step over the tick, prompt tokens included where the engine counts them."""
    spec_accept: Reading[float] = NOT_YET
    """Share of drafted tokens that were accepted, 0–1."""
    sleep: Reading[str] = NOT_YET
    """"awake", "weights_offloaded" or "discard_all"."""
    api_cpu: Reading[float] = NOT_YET
    """CPU seconds a second of the process that answers HTTP."""
    scheduler_cpu: Reading[float] = NOT_YET
    """CPU seconds a second of the busiest scheduler process."""
    scheduler_idle: Reading[float] = NOT_YET
    """Share of time that the least idle scheduler had nothing to do, 0–1."""
    models: tuple[ModelView, ...] | Absent = NOT_YET
    """Models in memory, for a server that loads and unloads them."""
    engines: tuple[RankView, ...] = ()
    """Each engine by itself, where the server labels them."""
    sources: Mapping[str, str] = {}
    """Where each field that is there came from: a metric, a route, a computation."""


class WakeupView(msgspec.Struct, frozen=True):
    """Overshoot of a sleeper beside the server, over the last 10 s; p95 needs 40 readings."""

    p50_ms: Reading[float]
    p95_ms: Reading[float]
    max_ms: Reading[float]
    n: int


class OwnView(msgspec.Struct, frozen=True):
    """What qtop costs: share of one core, bytes, bytes a second to the terminal."""

    cpu: Reading[float]
    rss_bytes: int
    tty_bytes_s: Reading[float]
    lag_ms: float


class Stage(msgspec.Struct, frozen=True):
    """One stage of a request's time: mean ms over the window."""

    name: str
    ms: Reading[float]
    source: str = ""
    """Where the figure came from."""


class Waterfall(msgspec.Struct, frozen=True):
    """Where a request's time goes, as window means over ``seconds``: client → frontend → queue → prefill → decode."""

    seconds: float
    finished: Reading[float]
    """Requests that finished in the window."""
    stages: tuple[Stage, ...]
    ttft_ms: Reading[float]
    itl_ms: Reading[float]
    tokens: Reading[float]
    """Mean output tokens a request."""
    first_tokens: Reading[float] = NOT_YET
    """Requests whose first token came in the window: what TTFT is the mean of, while the rest is of ``finished``."""
    trusted: bool = False
    """Whether both are of nearly the same requests, so that differences between them mean something."""
    why: str = ""
    """Why not."""


class UtilView(msgspec.Struct, frozen=True):
    """The server's busiest GPU over the last ten seconds, beside what the server had to do."""

    seconds: float
    gpu: int
    mean: float
    """Share of the time with a kernel running, 0–1."""
    deviation: float
    """Standard deviation of the single readings, 0–1."""
    readings: int
    running: Reading[float]
    """Least number of requests running at any scrape of the window."""
    waiting: Reading[float]
    """Least number of requests waiting."""
    wait: Reading[float]
    """Mean share of wall time that the critical thread which waits longest waited for a CPU, 0–1."""


class LaunchView(msgspec.Struct, frozen=True):
    """A server that starts, or ended before it answered."""

    info: ServerInfo
    settings: SettingsView | Absent
    ended: bool
    lived_s: Reading[float]
    """Seconds from its start to now, or to its end."""


class Frame(msgspec.Struct, frozen=True):
    """One tick, derived. Sections that could not be had carry why."""

    t: float
    dt: float
    """Seconds since the frame before; 0 for the first."""
    server: ServerInfo | Absent = NOT_YET
    engine: EngineView | Absent = NOT_YET
    sched: SchedView | Absent = NOT_YET
    host: HostView | Absent = NOT_YET
    gpus: tuple[GpuView, ...] | Absent = NOT_YET
    gpus_lost: dict[str, Absent] = {}
    wakeup: WakeupView | Absent = NOT_YET
    own: OwnView | Absent = NOT_YET
    waterfall: Waterfall | Absent = NOT_YET
    latency: LatencyView | Absent = NOT_YET
    kv_tokens: Reading[float] = NOT_YET
    """Tokens that the KV cache holds."""
    roofline_tok_s: Reading[float] = NOT_YET
    """What memory bandwidth allows a batch like the present one, tokens a second."""
    dram_inferred: Reading[float] = NOT_YET
    """Share of the GPUs' memory bandwidth that the steps taken must have used, 0–1; inferred from the roofline."""
    cpu_wait: dict[str, float] = {}
    """Share of the waterfall's window that the thread in charge waited for a CPU, by stage."""
    decode_floor_ms: Reading[float] = NOT_YET
    """What decoding would take at the memory roofline, for the mean request of the window."""
    settings: SettingsView | Absent = NOT_YET
    """The server's configuration in force, with where each value comes from."""
    util: UtilView | Absent = NOT_YET
    """How busy the GPUs were over the last ten seconds."""
    launch: LaunchView | None = None
    """A server that starts while none answers, None where none was seen."""
    server_before: ServerInfo | Absent = NOT_YET
    """The server last seen, which is ``server`` as long as it is there."""
    running: RunningView | Absent = NOT_YET
    """How many requests ran over the last six seconds."""
    requests: RequestsView | Absent = NOT_YET
    """How requests ended lately."""
