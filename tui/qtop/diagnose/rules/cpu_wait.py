"""What QT201 and QT202 share: the critical thread that waits longest, and what stands in the way of knowing."""

from __future__ import annotations

from qtop.diagnose.rule import CannotTell, Clear, Enter, NotApplicable, Remedy, Severity
from qtop.diagnose.rules.remedies import AWAY, NICE
from qtop.model.frame import Frame, HostView, SchedView, ThreadView
from qtop.sample import Absent, Why

SOURCE = "measured: healthy ≤ 0.06, smallest real case 0.25 of wall time (H100 with vLLM, llama.cpp on 2 cores)"
ENTER = (
    Enter(Severity.WARNING, at=0.10, seconds=8.0, of=10.0),
    Enter(Severity.CRITICAL, at=0.20, seconds=3.0, of=3.0),
)
CLEAR = Clear(below=0.05, seconds=10.0)

NAMES = {
    "engine": "EngineCore's main thread",
    "scheduler": "the scheduler's main thread",
    "api": "the API server's main thread",
}


LEAST_OTHERS = 0.10
"""CPUs' worth of time that others use, from which it is worth acting on them."""


def against_others(frame: Frame, sched: SchedView) -> tuple[Remedy, ...]:
    """What helps where other processes are in the server's way; moving them only where the host has another CPU."""
    others = sched.competitors
    if isinstance(others, Absent) or sum(one.share for one in others) < LEAST_OTHERS:
        return ()
    several = isinstance(frame.host, HostView) and frame.host.cpus > 1
    return (NICE, AWAY) if several else (NICE,)


def thread_name(thread: ThreadView) -> str:
    """How a person calls this thread."""
    return NAMES.get(thread.role, f"thread {thread.comm} ({thread.tid})")


def sched_of(frame: Frame) -> SchedView | CannotTell | NotApplicable:
    """The scheduling view, or what to say when there is none."""
    if isinstance(frame.server, Absent) and frame.server.why is not Why.NOT_RECORDED:
        return CannotTell(frame.server.detail or "no server")
    sched = frame.sched
    if isinstance(sched, SchedView):
        return sched
    if sched.why is Why.NOT_HERE:
        return CannotTell(sched.detail or "not on this host")
    if sched.why is Why.NOT_YET:
        return CannotTell(sched.detail or "needs two readings")
    return CannotTell(str(sched))
