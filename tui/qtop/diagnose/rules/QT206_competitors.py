"""QT206: other processes use the CPUs that the server waits for. QT201 says that it waits; this one says for whom."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.cpu_wait import LEAST_OTHERS, SOURCE, against_others, sched_of, thread_name
from qtop.model.frame import Competitor, Frame, SchedView, ThreadView
from qtop.sample import Absent
from qtop.units import percent

LEAST = 0.05
"""The server is not slowed by others while its critical threads wait for less of the time than this; from here on qtop
looks at other processes (``source.live.WAITING``)."""


class Competitors(Rule):
    """How long the server waits that others can explain: nobody waits for longer than others run."""

    id = "QT206"
    title = "competitors on the server's CPUs"
    enter = (Enter(Severity.INFO, at=0.10, seconds=8.0, of=10.0),)
    clear = Clear(below=LEAST, seconds=10.0)

    def look(self, frame: Frame) -> Answer:
        """The lesser of the longest wait and what others ran on its CPUs."""
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        worst = max(sched.critical, key=lambda thread: thread.contended)
        if worst.contended < LEAST:
            return Observed(0.0, lambda: _none(worst))
        others = sched.competitors
        if isinstance(others, Absent):
            return CannotTell(f"who uses its CPUs: {others.detail or others}")
        used = sum(one.share for one in others)
        value = min(worst.contended, used)
        return Observed(value, lambda: _told(frame, sched, others, worst), impact=value)


RULE = Competitors()


def _none(worst: ThreadView) -> Told:
    lines = (Evidence(f"run-queue wait of {thread_name(worst)}", worst.contended, "of wall time", LEAST, SOURCE),)
    return Told("nobody is in its way", lines, reason="others are looked at only while the server waits for a CPU")


def _told(frame: Frame, sched: SchedView, others: tuple[Competitor, ...], worst: ThreadView) -> Told:
    used = sum(one.share for one in others)
    names: dict[str, float] = {}
    for one in others:
        names[one.comm] = names.get(one.comm, 0.0) + one.share
    first = sorted(names.items(), key=lambda item: -item[1])[:2]
    who = ", ".join(f"{name} {share:.1f}" for name, share in first) or "nobody that lasts"
    lines = [
        Evidence(f"run-queue wait of {thread_name(worst)}", worst.contended, "of wall time", 0.10, SOURCE),
        Evidence("other processes there use", used, "CPUs", None, "/proc/PID/stat"),
        *(Evidence(f"{one.comm} ({one.pid}) on CPU {one.cpus}", one.share, "of a CPU") for one in others[:8]),
    ]
    acting = used >= LEAST_OTHERS
    victim = others[0].pid if others else "PID"
    return Told(
        f"OTHERS USE THE SERVER'S CPUs: {used:.1f} CPUs ({who}) while it waits {percent(worst.contended)} of the time",
        tuple(lines),
        against_others(frame, sched) if worst.throttled <= worst.contended else (),
        reason=f"move them (taskset -acp), lower them (renice 19 {victim}), or stop them" if acting else "",
    )
