"""QT408: max-num-seqs lets more requests in than the KV cache can hold."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, known, running_of
from qtop.diagnose.rules.configured import held, is_chosen, settings_of
from qtop.diagnose.rules.remedies import FEWER_AT_ONCE
from qtop.model.frame import EngineView, Frame
from qtop.model.settings import SettingsView
from qtop.sample import Absent
from qtop.units import number

SET, PREEMPTS = 1.0, 2.0
RATE = 0.1
"""Preemptions a second (guide: preemption)."""
FULL = 0.8
"""Of the KV cache: below it the cap does not matter yet."""


class CapAgainstKv(Rule):
    """2: the cap times the tokens that a request holds exceeds the KV cache, and requests are preempted; 1: the same
    without preemption, with a cap that somebody set and a cache that is nearly full."""

    id = "QT408"
    title = "max-num-seqs against KV"
    explains = ("QT302",)
    enter = (
        Enter(Severity.INFO, at=SET, seconds=8.0, of=10.0),
        Enter(Severity.WARNING, at=PREEMPTS, seconds=5.0, of=10.0),
    )
    clear = Clear(below=SET / 2, seconds=30.0)

    def look(self, frame: Frame) -> Answer:
        """The cap against what fits, by what the running requests hold now."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        engine = engine_of(frame)
        if not isinstance(engine, EngineView):
            return engine
        cap = held(view).by_name.get("max_num_seqs")
        most = held(view).number("max_num_seqs")
        if cap is None or most is None:
            return CannotTell("max_num_seqs: its command line does not say, and the default depends on its GPU")
        use, pool, preempt = engine.kv_use, engine.kv_capacity_tokens, engine.preempt_s
        for reading, what in ((use, "the use of its KV cache"), (pool, "the size of its KV cache")):
            if isinstance(reading, Absent):
                return CannotTell(f"{what}: {reading}")
        assert not isinstance(use, Absent) and not isinstance(pool, Absent)
        if isinstance(preempt, Absent):
            return CannotTell(f"preemptions: {preempt}")
        running, engines = running_of(engine), max(1, len(engine.engines))
        each = use * pool / running if running >= 1 else 0.0
        fits = pool / each if each > 0 else float("inf")
        value = 0.0
        if most * engines > fits and running < most * engines and use >= FULL:
            value = PREEMPTS if preempt > RATE else SET if is_chosen(cap) else 0.0
        again = preempt * each
        done = (known(engine.gen_tok_s) or 0.0) + (known(engine.prompt_tok_s) or 0.0)
        impact = again / (again + done) if value >= PREEMPTS and again > 0 else 0.0
        return Observed(
            value,
            lambda: _told(most * engines, fits / engines, each, pool, preempt, value),
            impact=impact,
            figure=f"{most:g}" if value else "",
        )


RULE = CapAgainstKv()


def _told(most: float, fits: float, each: float, pool: float, preempt: float, value: float) -> Told:
    lines = (
        Evidence("max_num_seqs", most, "requests"),
        Evidence("tokens that a running request holds", each, "tokens", None, "use × size of the KV cache ÷ running"),
        Evidence("KV cache", pool, "tokens"),
        Evidence("preempted", preempt, "requests a second", RATE, "guide: preemption"),
    )
    if value < SET:
        return Told("the cap is not what the KV cache is short of", lines)
    cap = max(1, int(fits))
    seen = f"{preempt:.1f} a second are preempted and computed again" if value >= PREEMPTS else "preemption is ahead"
    return Told(
        f"CAP EXCEEDS KV CACHE: {most:.0f} requests × {number(each)} tokens > {number(pool)}; {seen}; "
        f"set --max-num-seqs {cap}",
        lines,
        (FEWER_AT_ONCE,) if value >= PREEMPTS else (),
    )
