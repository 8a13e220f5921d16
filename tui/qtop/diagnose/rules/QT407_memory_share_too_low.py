"""QT407: the KV cache is full while the GPU has memory that gpu-memory-utilization leaves unused."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import GIB, engine_of, queued_share
from qtop.diagnose.rules.configured import gpus_in_use, held, settings_of
from qtop.diagnose.rules.remedies import MORE_MEMORY
from qtop.model.frame import EngineView, Frame, GpuView
from qtop.model.roofline import kv_pool_bytes
from qtop.model.settings import SettingsView
from qtop.sample import Absent
from qtop.units import number, percent

FULL = 0.90
"""Of the KV cache (guide: KV-bound)."""
KEPT = 1.5 * GIB
"""Left free on each GPU for what grows."""
LEAST = 1.0 * GIB
"""A gain below this is not worth a restart."""
MOST = 0.95
"""The highest share proposed."""


class MemoryShareTooLow(Rule):
    """Share of a request's time that queueing for KV cache takes and the memory that lies idle could save: queued share
    × what could be added ÷ what there is, at most all of it."""

    id = "QT407"
    title = "gpu-memory-utilization needlessly low"
    explains = ("QT301", "QT302")
    enter = (Enter(Severity.WARNING, at=0.1, seconds=8.0, of=10.0),)
    clear = Clear(below=0.05, seconds=20.0)

    def look(self, frame: Frame) -> Answer:
        """What queues for KV cache, and what there is to give it."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        gpus = gpus_in_use(frame)
        if not isinstance(gpus, tuple):
            return gpus
        engine = engine_of(frame)
        if not isinstance(engine, EngineView):
            return engine
        if isinstance(engine.kv_use, Absent):
            return CannotTell(f"the use of its KV cache: {engine.kv_use}")
        share = held(view).number("gpu_memory_utilization")
        if share is None:
            return CannotTell("gpu_memory_utilization: neither /metrics nor its command line tells")
        use, waits = engine.kv_use, _for_capacity(engine)
        if use < FULL or waits <= 0:  # then it is well, whatever the GPU's memory
            return Observed(0.0, lambda: _told(frame, gpus, view, share, use, 0.0))
        gains = [_gain(gpu, share) for gpu in gpus]
        known = [one for one in gains if one is not None]
        if len(known) < len(gains):
            return CannotTell("the memory of its GPU: the driver does not say")
        gain = min(known)
        value = queued_share(frame, engine) * _growth(frame, gpus, share, gain) if gain >= LEAST else 0.0
        return Observed(value, lambda: _told(frame, gpus, view, share, use, gain), impact=value)


RULE = MemoryShareTooLow()


def fitting(frame: Frame) -> float | None:
    """The share that takes what is idle of the fullest GPU, rounded down to 0.01; None where that cannot be told."""
    view, gpus = settings_of(frame), gpus_in_use(frame)
    if not isinstance(view, SettingsView) or not isinstance(gpus, tuple):
        return None
    share = held(view).number("gpu_memory_utilization")
    if share is None or held(view).by_name.get("kv_cache_memory_bytes") is not None:
        return None
    gains = [_gain(gpu, share) for gpu in gpus]
    totals = [float(one.mem_total) for one in gpus if not isinstance(one.mem_total, Absent)]
    known = [one for one in gains if one is not None]
    return _higher(share, min(known), min(totals)) if known and len(known) == len(gains) and totals else None


def _higher(share: float, gain: float, total: float) -> float:
    return min(MOST, int((share + (gain / total if total else 0.0)) * 100) / 100)


def _for_capacity(engine: EngineView) -> float:
    """Requests that wait for capacity; all that wait where the server does not tell why."""
    if not isinstance(engine.waiting_by_reason, Absent) and "capacity" in engine.waiting_by_reason:
        return engine.waiting_by_reason["capacity"]
    return 0.0 if isinstance(engine.waiting, Absent) else engine.waiting


def _gain(gpu: GpuView, share: float) -> float | None:
    """Bytes that a higher share would add on this GPU."""
    if isinstance(gpu.vram, Absent) or isinstance(gpu.mem_total, Absent):
        return None
    return max(0.0, min(gpu.vram.free - KEPT, (MOST - share) * gpu.mem_total))


def _growth(frame: Frame, gpus: tuple[GpuView, ...], share: float, gain: float) -> float:
    """What could be added over the KV cache as it is, at most 1; over all that the server may take where the size of a
    token is not known, which is less."""
    pool = kv_pool_bytes(frame)
    if isinstance(pool, Absent):
        pool = share * sum(float(one.mem_total) for one in gpus if not isinstance(one.mem_total, Absent))
    return min(1.0, gain * len(gpus) / pool) if pool > 0 else 0.0


def _told(frame: Frame, gpus: tuple[GpuView, ...], view: SettingsView, share: float, use: float, gain: float) -> Told:
    total = min((float(one.mem_total) for one in gpus if not isinstance(one.mem_total, Absent)), default=0.0)
    higher = _higher(share, gain, total)
    pool = kv_pool_bytes(frame)
    more = ""
    if not isinstance(pool, Absent) and not isinstance(frame.kv_tokens, Absent) and pool > 0:
        more = f" ≈ {number(gain * len(gpus) * frame.kv_tokens / pool)} tokens"
    lines = (
        Evidence("KV cache in use", use, "of the KV cache", FULL, "guide: KV-bound"),
        Evidence("gpu_memory_utilization", share, "of the GPU's memory"),
        Evidence("could be added on each GPU", gain / GIB, "GiB", LEAST / GIB, "free − 1.5 GiB, up to 0.95"),
    )
    if gain < LEAST or use < FULL:
        return Told("no queue for KV cache that more of the GPU's memory would shorten", lines)
    exact = held(view).by_name.get("kv_cache_memory_bytes") is not None
    do = "raise --kv-cache-memory-bytes" if exact else f"set --gpu-memory-utilization {higher:.2f}"
    return Told(
        f"MEMORY SHARE TOO LOW {share:g}: KV cache {percent(use)} full, {gain / GIB:.1f} GiB{more} of GPU idle; {do}",
        lines,
        () if exact else (MORE_MEMORY,),
    )
