"""Parts of what a server says of itself: its engines, its adapters, its loaded models, its latencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import msgspec

from qtop.sample import Absent, Reading


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


class LatencyView:
    """Latencies over the last ``seconds``, by the server's own histograms, each worked out when it is first asked for.

    ``queue``, ``prefill``, ``decode`` and ``e2e`` are counted when a request ends, ``ttft`` and ``itl`` as tokens come.
    """

    NAMES: ClassVar = ("queue", "prefill", "decode", "ttft", "itl", "e2e")

    queue: Latency | Absent
    prefill: Latency | Absent
    decode: Latency | Absent
    ttft: Latency | Absent
    itl: Latency | Absent
    e2e: Latency | Absent

    def __init__(self, seconds: float, find: Callable[[str], Latency | Absent]) -> None:
        self.seconds = seconds
        self._find = find

    def __getattr__(self, name: str) -> Latency | Absent:
        if name not in self.NAMES:
            raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
        found = self.__dict__[name] = self._find(name)
        return found

    def figures(self) -> dict[str, Latency | Absent]:
        """All by name."""
        return {name: getattr(self, name) for name in self.NAMES}

    def settled(self) -> LatencyView:
        """The same with all of them worked out, so that it holds on to no scrape."""
        return LatencyView(self.seconds, self.figures().__getitem__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencyView):
            return NotImplemented
        return self.seconds == other.seconds and self.figures() == other.figures()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={figure!r}" for name, figure in self.figures().items())
        return f"LatencyView(seconds={self.seconds!r}, {told})"
