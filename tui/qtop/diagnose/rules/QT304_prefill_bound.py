"""QT304: requests wait although both the batch and the KV cache have room: the engine is busy reading prompts."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import known, queued_share, said, stage_share, withheld
from qtop.diagnose.rules.queueing import FREE, effective, kind_of, queue_lines, queue_of
from qtop.model.frame import EngineView, Frame, Waterfall
from qtop.model.several import cap_of
from qtop.sample import Absent
from qtop.units import milliseconds, number, percent

AT = 0.5
"""Share of wall time in which a prompt was read."""
FEWEST = 5.0
"""Finished requests that the share needs."""
LEAST_S = 10.0
"""Seconds of metrics that the share needs."""


class PrefillBound(Rule):
    """Share of wall time in which a prompt was being read, while requests wait with room for them; else 0."""

    id = "QT304"
    title = "prompts take the engine's time"
    enter = (Enter(Severity.WARNING, at=AT, seconds=8.0, of=10.0),)
    clear = Clear(below=0.4, seconds=15.0)
    explains = ("QT308",)

    def look(self, frame: Frame) -> Answer:
        """The share, if something waits that neither the cap nor the KV cache holds up."""
        if kind_of(frame) == "llamacpp":
            return NotApplicable("llama.cpp reads a prompt in the slot that it gives to a request: none waits for that")
        found = queue_of(frame)
        if isinstance(found, CannotTell):
            return found
        engine, running, waiting = found
        if waiting <= 0:
            return Observed(0.0, lambda: _told(frame, engine, waiting, None), figure="")
        use, cap = engine.kv_use, cap_of(frame)
        if isinstance(cap, Absent) and not isinstance(frame.running, Absent):
            # Not told: one that shows in what runs, else above what has been seen.
            cap = frame.running.limit or int(frame.running.most) + 1
        if isinstance(use, Absent):
            return CannotTell(f"how full the KV cache is: {said(use)}")
        if isinstance(cap, Absent):
            return CannotTell(f"how many requests may run at once: {said(cap)}")
        if running >= cap or effective(use, running) >= FREE:
            return Observed(0.0, lambda: _told(frame, engine, waiting, None), figure="")
        fall = frame.waterfall
        if isinstance(fall, Absent):
            return CannotTell(f"where a request's time goes: {said(fall)}")
        share = reading_share(fall)
        if share is None:
            return CannotTell("how long prompts take: too few requests have ended so far")
        reading = (stage_share(frame, "queue", "prefill") or 0.0) * (1.0 - withheld(frame))
        impact = max(queued_share(frame, engine), reading)
        return Observed(
            share, lambda: _told(frame, engine, waiting, share), impact=impact if share >= AT else 0.0, figure=None
        )


RULE = PrefillBound()


def reading_share(fall: Waterfall) -> float | None:
    """Prefill seconds a second, at most 1: the sum of the prefill times of the requests that ended in the window, over
    its length. None where too few ended."""
    if isinstance(fall.finished, Absent) or fall.finished < FEWEST or fall.seconds < LEAST_S:
        return None
    for stage in fall.stages:
        if stage.name == "prefill" and not isinstance(stage.ms, Absent):
            return min(1.0, stage.ms * fall.finished / 1000.0 / fall.seconds)
    return None


def _told(frame: Frame, engine: EngineView, waiting: float, share: float | None) -> Told:
    lines = [Evidence("requests that wait for capacity", waiting, "requests", 1.0)]
    if share is not None:
        lines.append(Evidence("a prompt is being read", share, "of wall time", AT, "Σ prefill time / window"))
    lines += queue_lines(frame, engine)
    lines.append(Evidence("KV cache in use", known(engine.kv_use), "of its blocks", FREE))
    fall = frame.waterfall
    prefill = ttft = None
    if not isinstance(fall, Absent):
        prefill = next((known(one.ms) for one in fall.stages if one.name == "prefill"), None)
        ttft = known(fall.ttft_ms)
        lines.append(Evidence("mean prefill", prefill, "ms"))
        lines.append(Evidence("mean TTFT", ttft, "ms"))
        if prefill is not None and ttft:
            lines.append(Evidence("prefill", min(1.0, prefill / ttft), "of TTFT"))
    if not isinstance(engine.prompt_tok_s, Absent):
        lines.append(Evidence("prompt tokens read", engine.prompt_tok_s, "a second"))
    if share is None:
        return Told("", tuple(lines), reason="nothing waits that the batch and the KV cache have room for")
    return Told(
        f"READING PROMPTS {percent(share)} of the time: {number(waiting)} wait though there is room, "
        f"prefill {milliseconds(prefill)} each — {_remedy(frame)}",
        tuple(lines),
    )


def _remedy(frame: Frame) -> str:
    return "raise --max-num-batched-tokens" if kind_of(frame) == "vllm" else "shorter prompts, or a larger batch"
