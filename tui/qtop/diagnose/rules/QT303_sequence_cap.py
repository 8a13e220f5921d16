"""QT303: requests wait although the KV cache has room, because as many run as the server lets run at once."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import known, queued_share, said
from qtop.diagnose.rules.queueing import COARSE, FREE, effective, kind_of, queue_lines, queue_of, title_of
from qtop.diagnose.rules.remedies import more_at_once
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of
from qtop.sample import Absent, Reading
from qtop.units import number, percent

KNOBS = {
    "vllm": "--max-num-seqs",
    "llamacpp": "--parallel",
    "sglang": "--max-running-requests",
    "trtllm": "--max_batch_size",
    "ollama": "OLLAMA_NUM_PARALLEL",
}


SEEN = "the limit is not told: their number stands there while others wait"


class SequenceCap(Rule):
    """Running over the most that may run, while something waits and the KV cache is free; else 0."""

    id = "QT303"
    title = "limit of running requests reached"
    enter = (Enter(Severity.WARNING, at=1.0, seconds=5.0, of=6.0),)
    clear = Clear(below=1.0, seconds=10.0)
    explains = ("QT308",)

    def look(self, frame: Frame) -> Answer:
        """How near the cap is, if anything waits for it."""
        found = queue_of(frame)
        if isinstance(found, CannotTell):
            return found
        engine, running, waiting = found
        told = cap_of(frame)
        if waiting <= 0 and isinstance(told, Absent):
            return Observed(0.0, lambda: Told("nothing waits", ()), figure="")
        cap = seen_cap(frame, engine) if isinstance(told, Absent) else told
        if isinstance(cap, Absent):
            return CannotTell(f"how many requests {title_of(frame)} runs at once: {said(cap)}")
        use = engine.kv_use
        slots = kind_of(frame) == "llamacpp"
        if isinstance(use, Absent) and not slots:
            return CannotTell(f"how full the KV cache is: {said(use)}")
        bound = waiting > 0 and running >= cap and (slots or effective(known(use) or 0.0, running) < FREE)
        value = running / cap if bound and cap > 0 else 0.0
        return Observed(
            value,
            lambda: _told(frame, engine, running, waiting, cap, isinstance(told, Absent)),
            impact=queued_share(frame, engine) if bound else 0.0,
            figure=f"{running:.0f} of {cap}",
        )


RULE = SequenceCap()


def seen_cap(frame: Frame, engine: EngineView) -> Reading[int]:
    """The limit where it is not told: what the number of running requests stands at while others wait, tokens come and
    the KV cache is far from full. Above what has been seen, where that number moves."""
    view, told = frame.running, cap_of(frame)
    if isinstance(view, Absent) or isinstance(engine.kv_use, Absent) or isinstance(engine.gen_tok_s, Absent):
        return told
    if engine.kv_use >= COARSE or engine.gen_tok_s <= 0:
        return told
    if view.limit is not None:
        return view.limit
    return told if view.stands else int(view.most) + 1


def _told(frame: Frame, engine: EngineView, running: float, waiting: float, cap: int, seen: bool) -> Told:
    knob = KNOBS.get(kind_of(frame), "its limit")
    lines = [
        Evidence("requests that run", running, "requests", float(cap), SEEN if seen else f"the most at once ({knob})"),
        Evidence("requests that wait", waiting, "requests", 1.0, engine.sources.get("waiting", "")),
        *queue_lines(frame, engine)[2:],
    ]
    if kind_of(frame) == "llamacpp":
        head = f"ALL {cap} SLOTS BUSY, {number(waiting)} requests wait"
        return Told(
            f"{head} — start llama-server with more slots: {knob} {cap * 2} and --ctx-size doubled too",
            tuple(lines),
            more_at_once(frame),
        )
    use, capacity = known(engine.kv_use), known(engine.kv_capacity_tokens)
    if use is not None:
        lines.append(Evidence("KV cache in use", use, "of its blocks", FREE, "below it there is room for more"))
    room = ""
    if use and running > 0:
        fit = int(FREE * running / use)
        lines.append(Evidence("as large ones would fill the KV cache to 85 % at", float(fit), "requests"))
        room = f" (room for about {number(fit)})" if fit < 8 * cap else " (there is room for far more)"
    if capacity is not None:
        lines.append(Evidence("the KV cache holds", capacity, "tokens"))
    head = f"REQUEST LIMIT REACHED: {running:.0f} of {cap} run, {number(waiting)} wait, KV cache {percent(use)} full"
    return Told(f"{head} — raise {knob}{room}", tuple(lines), more_at_once(frame))
