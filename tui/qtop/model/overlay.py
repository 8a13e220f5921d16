"""What is laid over the waterfall: how long the thread in charge of a stage waited for a CPU, and what decoding would
take if memory bandwidth were the only limit."""

from __future__ import annotations

from collections import deque

from qtop.model.frame import EngineView, SchedView, ThreadView, Waterfall
from qtop.sample import NOT_YET, Absent, Reading

_LOOP = ("queue", "prefill", "decode")
_ALL = ("frontend", *_LOOP)
STAGES = {"api": ("frontend",), "engine": _LOOP, "scheduler": _LOOP}
"""By the role of the thread that does the work of the stage; what a request feels while that thread waits."""


class Waits:
    """Means of the waiting shares over a window, fed with one view a tick."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, tuple[float | None, ...]]] = deque()
        """Time, and the share of each stage of ``_ALL``."""

    def push(self, t: float, sched: SchedView | Absent) -> dict[str, float]:
        """The mean share by stage over the window that ends at ``t``; {} where threads cannot be seen."""
        if isinstance(sched, Absent):
            self._kept.clear()
            return {}
        if self._kept and self._kept[-1][0] >= t:
            self._kept.clear()  # a replay went back
        shares = _by_stage(sched.critical)
        self._kept.append((t, tuple([shares.get(stage) for stage in _ALL])))
        while t - self._kept[0][0] >= self._seconds:
            self._kept.popleft()
        columns = zip(*[row for _, row in self._kept], strict=True)
        means = {stage: _mean(column) for stage, column in zip(_ALL, columns, strict=True)}
        return {stage: mean for stage in (*shares, *_ALL) if (mean := means[stage]) is not None}


def _mean(shares: tuple[float | None, ...]) -> float | None:
    """Of those that are there; None where none is."""
    held = shares if None not in shares else [one for one in shares if one is not None]
    return sum(held) / len(held) if held else None  # type: ignore[arg-type]


def _by_stage(critical: tuple[ThreadView, ...]) -> dict[str, float]:
    """The longest wait of each role; where no thread has a role (llama.cpp) the busiest does all stages."""
    waits: dict[tuple[str, ...], float] = {}
    for thread in critical:
        stages = STAGES.get(thread.role, _ALL)
        if thread.wait > waits.get(stages, -1.0):
            waits[stages] = thread.wait
    shares: dict[str, float] = {}
    for stages, wait in waits.items():
        for stage in stages:
            shares[stage] = max(shares.get(stage, 0.0), wait)
    return shares


def decode_floor_ms(
    fall: Waterfall | Absent, engine: EngineView | Absent, roofline_tok_s: Reading[float]
) -> Reading[float]:
    """Mean tokens a request × the time of one step at the memory roofline, ms.

    A step there takes running / (tokens a second) seconds: each running request gets one token of it.
    """
    if isinstance(roofline_tok_s, Absent):
        return roofline_tok_s
    if isinstance(fall, Absent):
        return fall
    if isinstance(engine, Absent):
        return engine
    if isinstance(fall.tokens, Absent):
        return fall.tokens
    if isinstance(engine.running, Absent):
        return engine.running
    if roofline_tok_s <= 0 or engine.running <= 0:
        return NOT_YET
    return fall.tokens * engine.running / roofline_tok_s * 1000.0
