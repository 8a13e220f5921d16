"""Parts of what a server says of itself: its engines, its adapters, its loaded models, its latencies."""

from __future__ import annotations

from typing import Literal

import msgspec

from qtop.sample import NOT_YET, Absent, Reading


class RankView(msgspec.Struct, frozen=True):
    """One of several engines behind one address (data-parallel ranks; the models of a Triton), over the last tick."""

    label: str
    running: Reading[float]
    waiting: Reading[float]
    kv_use: Reading[float]
    """0–1."""
    gen_tok_s: Reading[float]
    steps_s: Reading[float]


class LoraView(msgspec.Struct, frozen=True):
    """LoRA adapters; ``max`` is how many fit a batch, ``used`` how many slots hold one."""

    running: tuple[str, ...] | Absent
    waiting: tuple[str, ...] | Absent
    max: Reading[float]
    used: Reading[float]


class ModelView(msgspec.Struct, frozen=True):
    """A model in memory (Ollama): bytes in all, bytes of them on GPUs, tokens of context."""

    name: str
    bytes: int
    vram_bytes: int
    context: Reading[int]
    expires: Reading[float]
    """Unix time at which it is unloaded; absent where it stays."""


class Quantile(msgspec.Struct, frozen=True):
    """A percentile as far as a histogram tells it, ms. The truth lies in ``low_ms`` < x ≤ ``high_ms``."""

    value_ms: float
    relation: Literal["=", "<", ">"]
    """"=": in a bucket with both bounds known, ``value_ms`` interpolated; "<": not above the first bound; ">": above
    the last."""
    low_ms: float
    high_ms: float
    """Infinite above the last bound."""


class Latency(msgspec.Struct, frozen=True):
    """One latency over the window; a percentile p needs 1/(1−p) observations."""

    source: str
    """The histogram that it comes from."""
    n: float
    """Observations."""
    mean_ms: Reading[float]
    p50: Reading[Quantile]
    p95: Reading[Quantile]
    p99: Reading[Quantile]


class LatencyView(msgspec.Struct, frozen=True):
    """Latencies over the last ``seconds``, by the server's own histograms.

    ``queue``, ``prefill``, ``decode`` and ``e2e`` are counted when a request ends, ``ttft`` and ``itl`` as tokens come.
    """

    seconds: float
    queue: Latency | Absent = NOT_YET
    prefill: Latency | Absent = NOT_YET
    decode: Latency | Absent = NOT_YET
    ttft: Latency | Absent = NOT_YET
    itl: Latency | Absent = NOT_YET
    e2e: Latency | Absent = NOT_YET
