"""QT309: requests spend their time before they reach the queue, in templating and tokenizing."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, known, said, stage_share
from qtop.diagnose.rules.queueing import kind_of
from qtop.model.frame import EngineView, Frame, SchedView, ThreadView, Waterfall
from qtop.sample import Absent
from qtop.units import milliseconds, percent

AT = 0.30
"""Share of TTFT."""
LEAST_MS = 50.0
"""Below it the gap is that of IPC and the event loop, whatever its share."""
US_A_TOKEN = 20.0
"""µs a prompt token above ``LEAST_MS`` that are more than tokenizing costs: measured 1.8–4.4 on a weak VM."""
SATURATED, STARVED = 0.85, 0.10
"""Share of wall time for which the API server's main thread runs, or waits for a CPU: then that explains the gap."""
BUSY = 0.5
"""From here on it has so much else to do (streams of tokens) that requests which come together wait for their turn:
measured 0.62–0.65 where 32 requests of 4 tokens came at once, 0.26–0.36 where others had long texts tokenized."""
WITH_GAP = frozenset({"vllm", "tgi", "trtllm"})
"""Engines that tell the time before the queue from the rest."""


class TokenizerSlow(Rule):
    """Share of TTFT that goes before the queue, where that is more than it costs; else 0."""

    id = "QT309"
    title = "requests wait in the API server"
    enter = (Enter(Severity.WARNING, at=AT, seconds=8.0, of=10.0),)
    clear = Clear(below=0.2, seconds=15.0)

    def look(self, frame: Frame) -> Answer:
        """The share over the window, if the API server's main thread does not explain it."""
        if kind_of(frame) not in WITH_GAP:
            return NotApplicable("this server does not tell the time before the queue")
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        fall = frame.waterfall
        if isinstance(fall, Absent):
            return CannotTell(f"where a request's time goes: {said(fall)}")
        gap, ttft = _gap(fall), fall.ttft_ms
        if isinstance(fall.finished, Absent) or fall.finished <= 0:
            return Observed(0.0, lambda: Told("", (), reason="no request ended in the window"), figure="")
        if gap is None or isinstance(ttft, Absent):
            return CannotTell("the time before the queue: the server does not tell")
        if not fall.trusted:
            return CannotTell(f"the time before the queue: {fall.why}")
        api = _api(frame.sched)
        slow = gap >= LEAST_MS + _prompt(engine) * US_A_TOKEN / 1000.0 and not _explained(frame, api)
        value = min(1.0, gap / ttft) if slow and ttft > 0 else 0.0
        return Observed(
            value,
            lambda: _told(frame, engine, fall, gap, api, value),
            impact=(stage_share(frame, "frontend") or 0.0) if value >= AT else 0.0,
            figure=f"{milliseconds(gap)}",
        )


RULE = TokenizerSlow()


def _gap(fall: Waterfall) -> float | None:
    return next((known(stage.ms) for stage in fall.stages if stage.name == "frontend"), None)


def _prompt(engine: EngineView) -> float:
    """Mean prompt tokens of the requests that come in now; 0 where the tick does not tell."""
    tokens, finished = known(engine.prompt_tok_s), known(engine.finished_s)
    return tokens / finished if tokens and finished else 0.0


def _api(sched: SchedView | Absent) -> ThreadView | None:
    """The API server's main thread, the busiest of several."""
    if isinstance(sched, Absent):
        return None
    mains = [one for one in sched.threads if one.role == "api"]
    return max(mains, key=lambda one: one.run, default=None)


def _explained(frame: Frame, api: ThreadView | None) -> bool:
    """Whether that thread is saturated, or was starved now or over the window that the gap is of, which is another
    finding (QT203, QT201)."""
    if frame.cpu_wait.get("frontend", 0.0) >= STARVED:
        return True
    return api is not None and (api.run >= SATURATED or api.wait >= STARVED)


def _told(frame: Frame, engine: EngineView, fall: Waterfall, gap: float, api: ThreadView | None, value: float) -> Told:
    ttft = known(fall.ttft_ms) or 0.0
    lines = [
        Evidence("before the queue", gap, "ms", LEAST_MS, "mean TTFT − queue − prefill"),
        Evidence("that is", min(1.0, gap / ttft) if ttft > 0 else 0.0, "of TTFT", AT),
        Evidence("mean TTFT", ttft, "ms"),
        Evidence("requests that ended", known(fall.finished), f"in {fall.seconds:.0f} s"),
    ]
    if prompt := _prompt(engine):
        lines.append(Evidence("mean prompt", prompt, "tokens", None, "prompt tokens / finished, of the tick"))
    if api is not None:
        lines.append(Evidence("API server's main thread runs", api.run, "of wall time", SATURATED))
        lines.append(Evidence("it waits for a CPU", api.wait, "of wall time", STARVED))
    if value <= 0:
        why = "its main thread explains it (QT203, QT201)" if gap >= LEAST_MS and _explained(frame, api) else ""
        return Told("", tuple(lines), reason=why)
    lost = f"{milliseconds(gap)} before the queue, {percent(gap / ttft if ttft else 0.0)} of TTFT"
    if api is not None and api.run >= BUSY:
        busy = f"its main thread is {percent(api.run)} busy"
        return Told(
            f"API SERVER TAKES LONG: {lost}, {busy} — add API servers",
            tuple(lines),
            reason="requests that come together wait while it sends all tokens; --stream-interval: fewer to send",
        )
    return Told(f"TOKENIZING TAKES LONG: {lost} — shorter prompts, or more API servers", tuple(lines))
