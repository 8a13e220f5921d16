"""How busy the GPUs were over the last ten seconds, and whether requests ran all that time: one tick is too rough, as
utilization is a mean over a sixth of a second to a second (source: nvml.h, nvmlUtilization_t)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import sqrt

import msgspec

from qtop.model.cpu import SchedView
from qtop.model.frame import EngineView, Frame, UtilView
from qtop.model.roofline import gpus_of_server
from qtop.sample import NOT_YET, Absent, GpuSection, Reading, UtilSamples, Why

SECONDS = 10.0
COVERED = 0.75
"""Share of the window that the driver's own samples must cover to stand for it."""
GAP_S = 5.0


class _Tick(msgspec.Struct, frozen=True):
    at: float
    util: dict[int, int]
    """By GPU, %."""
    finer: dict[int, UtilSamples]
    running: Reading[float]
    waiting: Reading[float]
    wait: Reading[float]
    """Of the critical thread that waits longest."""


class UtilTrack:
    """Feed it frames in order, each with the GPU section it was made of."""

    def __init__(self) -> None:
        self._ticks: deque[_Tick] = deque()

    def push(self, frame: Frame, section: GpuSection | Absent) -> UtilView | Absent:
        """The window that ends with this frame; absent until it is full, or while the GPU cannot be read."""
        ticks = self._ticks
        if isinstance(section, Absent):
            ticks.clear()
            return section
        if ticks and not 0.0 < section.at - ticks[-1].at <= GAP_S:
            if section.at == ticks[-1].at:
                return frame.util
            ticks.clear()
        ticks.append(_tick(frame, section))
        while section.at - ticks[0].at > SECONDS + 0.5:
            ticks.popleft()
        seconds = section.at - ticks[0].at + (ticks[1].at - ticks[0].at if len(ticks) > 1 else 0.0)
        if seconds < SECONDS * 0.95:
            return Absent(Why.NOT_YET, f"needs {SECONDS:.0f} s of utilization")
        own = () if isinstance(frame.gpus, Absent) else gpus_of_server(frame.gpus) or frame.gpus
        return self._view(seconds, [gpu.index for gpu in own])

    def _view(self, seconds: float, indices: Iterable[int]) -> UtilView | Absent:
        """Of several GPUs the busiest: what is said of it holds for the others all the more."""
        ticks = self._ticks
        best: tuple[float, int, list[int]] | None = None
        for gpu in indices:
            values = _values(gpu, ticks, seconds)
            if len(values) >= SECONDS / 2:
                mean = sum(values) / len(values)
                if best is None or mean > best[0]:
                    best = mean, gpu, values
        if best is None:
            return Absent(Why.UNSUPPORTED, "the driver tells no utilization (in MIG mode it does not)")
        return UtilView(
            seconds=seconds,
            gpu=best[1],
            mean=best[0] / 100.0,
            deviation=sqrt(sum((value - best[0]) ** 2 for value in best[2]) / len(best[2])) / 100.0,
            readings=len(best[2]),
            running=_least(tick.running for tick in ticks),
            waiting=_least(tick.waiting for tick in ticks),
            wait=_mean(tick.wait for tick in ticks),
        )


def _tick(frame: Frame, section: GpuSection) -> _Tick:
    engine, sched = frame.engine, frame.sched
    running: Reading[float] = engine.running if isinstance(engine, EngineView) else engine
    waiting: Reading[float] = engine.waiting if isinstance(engine, EngineView) else engine
    wait: Reading[float] = sched if isinstance(sched, Absent) else NOT_YET
    if isinstance(sched, SchedView):
        wait = max((thread.wait for thread in sched.critical), default=0.0)
    return _Tick(
        section.at,
        {gpu.index: gpu.util for gpu in section.gpus if not isinstance(gpu.util, Absent)},
        {gpu.index: gpu.util_samples for gpu in section.gpus if isinstance(gpu.util_samples, UtilSamples)},
        running,
        waiting,
        wait,
    )


def _values(gpu: int, ticks: Iterable[_Tick], seconds: float) -> list[int]:
    """The driver's own samples (five a second) where they cover the window, else one a tick."""
    fine = [tick.finer[gpu] for tick in ticks if gpu in tick.finer]
    if sum(one.span_us for one in fine) / 1e6 >= COVERED * seconds:
        return [value for one in fine for value in one.values]
    return [tick.util[gpu] for tick in ticks if gpu in tick.util]


def _least(readings: Iterable[Reading[float]]) -> Reading[float]:
    least: float | None = None
    for one in readings:
        if isinstance(one, Absent):
            return one
        least = one if least is None else min(least, one)
    return NOT_YET if least is None else least


def _mean(readings: Iterable[Reading[float]]) -> Reading[float]:
    known = [one for one in readings if not isinstance(one, Absent)]
    return sum(known) / len(known) if known else NOT_YET
