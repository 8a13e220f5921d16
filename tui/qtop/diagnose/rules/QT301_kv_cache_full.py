"""QT301: requests wait because the KV cache is full."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import queued_share, said
from qtop.diagnose.rules.queueing import FULL, effective, kind_of, queue_lines, queue_ms, queue_of
from qtop.diagnose.rules.remedies import smaller_cache
from qtop.model.frame import EngineView, Frame
from qtop.sample import Absent
from qtop.units import milliseconds, number, percent

SOURCE = "use counts blocks that requests hold; cached blocks that nobody uses are free"


class KvCacheFull(Rule):
    """Use of the KV cache while something waits for room in it; 0 while nothing does."""

    id = "QT301"
    title = "KV cache full"
    enter = (Enter(Severity.WARNING, at=FULL, seconds=8.0, of=10.0),)
    clear = Clear(below=0.80, seconds=20.0)
    explains = ("QT302", "QT308")

    def look(self, frame: Frame) -> Answer:
        """The use, if requests wait for capacity."""
        if kind_of(frame) == "llamacpp":
            return NotApplicable("llama.cpp gives each slot a context of its own: a full one ends its request only")
        found = queue_of(frame)
        if isinstance(found, CannotTell):
            return found
        engine, running, waiting = found
        use = engine.kv_use
        if isinstance(use, Absent):
            return CannotTell(f"how full the KV cache is: {said(use)}")
        if waiting <= 0:
            return Observed(0.0, lambda: _told(frame, engine, use, running, waiting), figure=f"{percent(use)} full")
        value = effective(use, running)
        impact = queued_share(frame, engine) if value >= FULL else 0.0
        return Observed(
            value, lambda: _told(frame, engine, use, running, waiting), impact=impact, figure=f"{percent(use)} full"
        )


RULE = KvCacheFull()


def _told(frame: Frame, engine: EngineView, use: float, running: float, waiting: float) -> Told:
    capacity = engine.kv_capacity_tokens
    lines = [Evidence("KV cache in use", use, "of its blocks", FULL, engine.sources.get("kv_use", SOURCE))]
    lines.append(Evidence("requests that wait for capacity", waiting, "requests", 1.0))
    lines += queue_lines(frame, engine)
    size = ""
    if not isinstance(capacity, Absent):
        size = f" of {number(capacity)} tokens"
        lines.append(
            Evidence("the KV cache holds", capacity, "tokens", None, engine.sources.get("kv_capacity_tokens", ""))
        )
        if running > 0:
            lines.append(Evidence("a running request holds", use * capacity / running, "tokens", None, "use / running"))
    ms = queue_ms(frame)
    queue = f", queue {milliseconds(ms)}" if ms is not None and ms >= 100.0 else ""
    held = f"KV CACHE FULL: {percent(use)}{size}, {number(waiting)} wait{queue}"
    reason = "" if waiting > 0 else "nothing waits for room"
    return Told(f"{held} — {_remedy(frame)}", tuple(lines), smaller_cache(frame), reason)


def _remedy(frame: Frame) -> str:
    if smaller_cache(frame):
        return "send less at once, or --kv-cache-dtype fp8"
    return "send less at once, or give the cache more memory"
