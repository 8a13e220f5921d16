"""QT302: the engine throws running requests out of the KV cache and computes them anew."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, known, queued_share, said
from qtop.diagnose.rules.queueing import kind_of, queue_lines
from qtop.diagnose.rules.remedies import fewer_at_once
from qtop.model.frame import EngineView, Frame
from qtop.sample import Absent
from qtop.units import number, percent

AT = 0.1
"""Preemptions a second."""
WITHOUT = {
    "llamacpp": "llama.cpp does not preempt: each slot has a context of its own",
    "tgi": "TGI admits only what it has room for: it does not preempt",
    "ollama": "Ollama does not preempt",
}


class Preemption(Rule):
    """Preemptions a second."""

    id = "QT302"
    title = "requests are preempted"
    enter = (Enter(Severity.WARNING, at=AT, seconds=3.0, of=10.0),)
    clear = Clear(below=1e-6, seconds=30.0)

    def look(self, frame: Frame) -> Answer:
        """The rate over the tick."""
        if (why := WITHOUT.get(kind_of(frame))) is not None:
            return NotApplicable(why)
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        rate = engine.preempt_s
        if isinstance(rate, Absent):
            return CannotTell(f"how often requests are preempted: {said(rate)}")
        impact = max(queued_share(frame, engine), _wasted(engine, rate)) if rate > 0 else 0.0
        return Observed(rate, lambda: _told(frame, engine, rate), impact=impact, figure=f"{number(rate)}/s")


RULE = Preemption()


def _wasted(engine: EngineView, rate: float) -> float:
    """Of all turns that requests had on the GPU, the share that came to nothing."""
    finished = known(engine.finished_s)
    return 0.0 if finished is None else rate / (rate + finished)


def _told(frame: Frame, engine: EngineView, rate: float) -> Told:
    lines = [
        Evidence("requests preempted", rate, "a second", AT, engine.sources.get("preempt_s", "")),
        Evidence("KV cache in use", known(engine.kv_use), "of its blocks"),
        *queue_lines(frame, engine),
    ]
    if not isinstance(engine.finished_s, Absent):
        lines.append(Evidence("requests finished", engine.finished_s, "a second"))
    full = "" if isinstance(engine.kv_use, Absent) else f", KV cache {percent(engine.kv_use)} full"
    return Told(
        f"REQUESTS ARE PREEMPTED {number(rate)} times a second{full} — {_remedy(frame)}",
        tuple(lines),
        fewer_at_once(frame),
    )


def _remedy(frame: Frame) -> str:
    return "lower --max-num-seqs, or send less at once" if fewer_at_once(frame) else "send less at once"
