"""QT305: requests are there and nothing moves: no token, no step, no prompt read."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, gpus_of, known, running_of, said, waiting_of
from qtop.diagnose.rules.queueing import kind_of, queue_lines, title_of
from qtop.model.frame import EngineView, Frame, SchedView
from qtop.sample import Absent, Why
from qtop.units import number

DEAD, STILL = 1.0, 0.5
"""Nothing moves and nothing computes; nothing moves, but something may compute."""
IDLE_GPU = 0.05
"""Share of time with a kernel running below which a GPU computes nothing for the server."""
IDLE_CPU = 0.05
"""CPUs' worth of time below which the processes that compute do nothing."""
LIVE_TOKENS = frozenset({"vllm", "llamacpp"})
"""Engines that count tokens as they come; others count them when a request ends."""
FRONT = frozenset({"api", "launcher", "router", "helper", "tokenizer", "detokenizer", "coordinator"})
"""Processes that do not compute."""
BLIND = frozenset({"ollama", "openai", "unknown", "triton"})


class Stuck(Rule):
    """1 while requests are there, nothing progresses and nothing computes; 0.5 where something may compute."""

    id = "QT305"
    title = "requests are stuck"
    enter = (
        Enter(Severity.CRITICAL, at=DEAD, seconds=10.0, of=10.0),
        Enter(Severity.CRITICAL, at=STILL, seconds=180.0, of=180.0),
    )
    clear = Clear(below=STILL, seconds=3.0)

    def look(self, frame: Frame) -> Answer:
        """Whether anything moves."""
        if kind_of(frame) in BLIND:
            return NotApplicable(f"{title_of(frame)} does not tell what its requests do")
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        if isinstance(engine.running, Absent) and isinstance(engine.waiting, Absent):
            return CannotTell(f"whether there are requests: {said(engine.running)}")
        if not isinstance(frame.sched, Absent) and frame.sched.stopped:
            # Gauges freeze with the engine: requests that came since then are in none of them.
            return Observed(DEAD, lambda: _told(frame, engine, DEAD), impact=1.0, figure="")
        if running_of(engine) + waiting_of(engine) <= 0:
            return Observed(0.0, lambda: _told(frame, engine, 0.0), figure="")
        moves = _moves(frame, engine)
        if isinstance(moves, CannotTell):
            return moves
        value = 0.0 if moves else (STILL if _may_compute(frame) else DEAD)
        return Observed(value, lambda: _told(frame, engine, value), impact=1.0 if value else 0.0, figure="")


RULE = Stuck()


def _moves(frame: Frame, engine: EngineView) -> bool | CannotTell:
    """Whether a token, a step or a prompt was counted in the tick."""
    live = kind_of(frame) in LIVE_TOKENS
    seen = False
    for reading, counted_live in (
        (engine.steps_s, True),
        (engine.gen_tok_s, live),
        (engine.prompt_tok_s, False),
        (engine.finished_s, False),
        (engine.itl_ms, False),
    ):
        if isinstance(reading, Absent):
            continue
        if reading > 0:
            return True
        seen = seen or counted_live
    if seen:
        return False
    if any(isinstance(one, Absent) and one.why is Why.NOT_YET for one in (engine.steps_s, engine.gen_tok_s)):
        return CannotTell("whether anything moves: needs two readings")
    return CannotTell(f"{title_of(frame)} counts tokens only when a request ends, and no steps")


def _may_compute(frame: Frame) -> bool:
    """Whether the server's GPUs, or else the threads of its engine, do something, or may unseen: a long prompt is read
    without a sign of it in the metrics."""
    gpus = gpus_of(frame)
    if isinstance(gpus, tuple):
        utils = [gpu.util for gpu in gpus if not isinstance(gpu.util, Absent)]
        if utils:
            return max(utils) > IDLE_GPU
    cpu = _computing(frame.sched)
    return cpu is None or cpu > IDLE_CPU


def _computing(sched: SchedView | Absent) -> float | None:
    """CPUs' worth of time of the processes that compute; None where they cannot be seen."""
    if isinstance(sched, Absent):
        return None
    threads = [one for one in sched.threads if one.process_role not in FRONT]
    return sum(one.run for one in threads) if threads else None


def _told(frame: Frame, engine: EngineView, value: float) -> Told:
    lines = queue_lines(frame, engine)
    for name, reading, source in (
        ("tokens generated", engine.gen_tok_s, "gen_tok_s"),
        ("prompt tokens read", engine.prompt_tok_s, "prompt_tok_s"),
        ("steps", engine.steps_s, "steps_s"),
    ):
        if not isinstance(reading, Absent):
            lines.append(Evidence(name, reading, "a second", 0.0, engine.sources.get(source, "")))
    if not isinstance(engine.kv_use, Absent):
        lines.append(Evidence("KV cache in use", engine.kv_use, "of its blocks"))
    gpus = gpus_of(frame)
    if isinstance(gpus, tuple):
        for gpu in gpus:
            lines.append(Evidence(f"GPU {gpu.index} has a kernel running", known(gpu.util), "of the time", IDLE_GPU))
    if (cpu := _computing(frame.sched)) is not None:
        lines.append(Evidence("the engine's processes run", cpu, "CPUs", IDLE_CPU, "/proc/PID/task/TID/schedstat"))
    if not isinstance(engine.sleep, Absent):
        lines.append(Evidence("sleep state", engine.sleep, "", None, engine.sources.get("sleep", "")))
    stopped = () if isinstance(frame.sched, Absent) else frame.sched.stopped
    lines += [Evidence("stopped by a signal or a debugger", one, "") for one in stopped]
    if value <= 0:
        return Told("", tuple(lines))
    return Told(_headline(frame, engine, value, stopped), tuple(lines))


def _headline(frame: Frame, engine: EngineView, value: float, stopped: tuple[str, ...]) -> str:
    there = f"{number(running_of(engine))} run, {number(waiting_of(engine))} wait"
    if stopped:
        return f"ENGINE STOPPED by a signal or a debugger: {stopped[0]}; {there} — kill -CONT it"
    if not isinstance(engine.sleep, Absent) and engine.sleep != "awake":
        return f"ENGINE SLEEPS ({engine.sleep}) while {there} — wake it: POST /wake_up"
    if value < DEAD:
        return f"NOTHING COMES OUT: {there}, no token for minutes, though it computes — see its log (a lost worker?)"
    paused = ", or is paused (/resume)" if kind_of(frame) == "vllm" else ""
    return f"ENGINE STUCK: {there}, no token, and nothing computes — it hangs{paused}: see its log, restart"
