"""QT307: more LoRA adapters are asked for than fit a batch, and requests wait for their turn."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, queued_share, said, waiting_of
from qtop.diagnose.rules.queueing import kind_of, queue_lines
from qtop.model.frame import EngineView, Frame
from qtop.model.serving import LoraView
from qtop.sample import Absent, Why
from qtop.units import number

WITH_LORA = frozenset({"vllm", "sglang"})
"""Engines whose metrics tell of adapters."""


class LoraThrash(Rule):
    """Adapters asked for over adapters that fit a batch while requests for some wait; 0 while none does."""

    id = "QT307"
    title = "LoRA adapters take turns"
    enter = (Enter(Severity.WARNING, at=1.0, seconds=8.0, of=10.0),)
    clear = Clear(below=1.0, seconds=15.0)

    def look(self, frame: Frame) -> Answer:
        """The ratio, where something waits for an adapter."""
        if kind_of(frame) not in WITH_LORA:
            return NotApplicable("this server tells nothing of adapters")
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        loras = engine.loras
        if isinstance(loras, Absent):
            if loras.why is Why.UNSUPPORTED:
                return NotApplicable(said(loras))
            return CannotTell(f"LoRA adapters: {said(loras)}")
        if isinstance(loras.max, Absent):
            return CannotTell(f"how many LoRA adapters fit a batch: {said(loras.max)}")
        if isinstance(loras.waiting, Absent) or isinstance(loras.running, Absent):
            return CannotTell("which LoRA adapters requests wait for: the server tells their number only")
        asked = len({*loras.waiting, *loras.running})
        # A series of an earlier moment stays when the server idles: only with requests that wait does it say anything.
        waits = waiting_of(engine) > 0 and (bool(loras.waiting) or _deferred(engine) > 0)
        over = waits and (asked > loras.max or (_deferred(engine) > 0 and asked >= loras.max))
        value = max(1.0, asked / loras.max) if over and loras.max > 0 else 0.0
        return Observed(
            value,
            lambda: _told(frame, engine, loras, asked, over),
            impact=queued_share(frame, engine) if over else 0.0,
            figure=f"{asked} of {loras.max:.0f}",
        )


RULE = LoraThrash()


def _deferred(engine: EngineView) -> float:
    """Requests put off for another reason than room: with adapters in use, mostly for theirs."""
    reasons = engine.waiting_by_reason
    return 0.0 if isinstance(reasons, Absent) else reasons.get("deferred", 0.0)


def _told(frame: Frame, engine: EngineView, loras: LoraView, asked: int, over: bool) -> Told:
    most = 0.0 if isinstance(loras.max, Absent) else loras.max
    source = engine.sources.get("loras", "")
    lines = [Evidence("adapters asked for", float(asked), "adapters", most, f"--max-loras; {source}")]
    for name, adapters in (("running", loras.running), ("waiting", loras.waiting)):
        if not isinstance(adapters, Absent):
            lines.append(Evidence(f"adapters {name}", ", ".join(adapters[:6]) or "none", ""))
    if not isinstance(engine.waiting_by_reason, Absent):
        lines.append(Evidence("requests put off", _deferred(engine), "requests", None, "reason deferred"))
    lines += queue_lines(frame, engine)
    if not over:
        return Told("", tuple(lines))
    fit = "1 fits a batch" if most == 1 else f"{most:.0f} fit a batch"
    demand = f"{asked} asked for, {fit}" if asked > most else fit
    wait = f"{number(waiting_of(engine))} requests wait for theirs"
    return Told(f"LORA ADAPTERS TAKE TURNS: {demand}, {wait} — raise --max-loras", tuple(lines))
