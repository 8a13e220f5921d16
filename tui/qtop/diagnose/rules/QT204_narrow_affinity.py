"""QT204: the server's threads may use fewer CPUs than its cgroup allows."""

from __future__ import annotations

from functools import lru_cache

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.cpu_wait import SOURCE, sched_of, thread_name
from qtop.diagnose.rules.remedies import WIDEN
from qtop.model.frame import Frame, HostView, SchedView, ThreadView
from qtop.sample import Absent, cpulist
from qtop.units import percent

NARROW = 0.001
"""The value of a narrow mask that costs nothing: below any share that is one."""
SHORT = 0.05
REMEDIES = (WIDEN,)
"""Offered where something waits: a narrow mask that costs nothing is somebody's choice."""
SPARE = 0.80
"""Other CPUs are no help where they are busier than this."""


class NarrowAffinity(Rule):
    """The wait of a critical thread that is kept from CPUs which its cgroup allows and which have time."""

    id = "QT204"
    title = "affinity narrower than its cgroup allows"
    enter = (
        Enter(Severity.INFO, at=NARROW, seconds=5.0, of=5.0),
        Enter(Severity.WARNING, at=SHORT, seconds=8.0, of=10.0),
    )
    clear = Clear(below=NARROW, seconds=5.0, ease=SHORT / 2)

    def look(self, frame: Frame) -> Answer:
        """0 where the masks are as wide as the cgroup, or are the CPUs near the server's GPU."""
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        if isinstance(sched.cpuset, Absent):
            return CannotTell(f"which CPUs its cgroup allows: {sched.cpuset}")
        worst: ThreadView | None = None
        for thread in sched.critical:
            if not thread.allowed:
                return CannotTell("the CPUs that its threads may use were not recorded")
            if outside(thread.allowed, sched.cpuset) and (worst is None or thread.contended > worst.contended):
                worst = thread
        if worst is None:
            return Observed(0.0, lambda: _clear(sched), figure="")
        missing = outside(worst.allowed, sched.cpuset)
        if not isinstance(frame.gpus, Absent) and any(
            isinstance(gpu.local_cpus, str) and same(worst.allowed, gpu.local_cpus, sched.cpuset) for gpu in frame.gpus
        ):
            return Observed(0.0, lambda: _clear(sched, "it is bound to the CPUs near its GPU"), figure="")
        spare = _idle(frame, missing)
        value = max(NARROW, worst.contended) if spare is None or spare >= 1.0 - SPARE else NARROW
        figure = f"{_size(worst.allowed)} of {_size(worst.allowed) + len(missing)} CPUs"
        # Its waiting is QT201's to weigh: a mask by itself slows nothing.
        return Observed(value, lambda: _told(sched, worst, missing, spare), figure=figure)


RULE = NarrowAffinity()


@lru_cache(maxsize=64)
def outside(mask: str, cpuset: str) -> frozenset[int]:
    """CPUs of the cgroup that the mask leaves out. The kernel keeps every mask within the cpuset: where they have
    nothing in common the cpuset was changed since the mask was read, and the mask tells nothing."""
    allowed = cpulist.parse_or_empty(mask)
    within = cpulist.parse_or_empty(cpuset)
    return within - allowed if within & allowed else frozenset()


@lru_cache(maxsize=64)
def same(mask: str, near: str, cpuset: str) -> bool:
    """Whether a mask is all of the CPUs near a GPU that the cgroup allows."""
    near_allowed = cpulist.parse_or_empty(near) & cpulist.parse_or_empty(cpuset)
    return bool(near_allowed) and near_allowed == cpulist.parse_or_empty(mask) & cpulist.parse_or_empty(cpuset)


def _size(mask: str) -> int:
    return mask.count(",") + 1 if "-" not in mask else len(cpulist.parse_or_empty(mask))


def _idle(frame: Frame, cpus: frozenset[int]) -> float | None:
    """Share of these CPUs' time that is free, 0–1; None where it is not known."""
    if not isinstance(frame.host, HostView):
        return None
    busy = [share for cpu, share in frame.host.per_cpu.items() if cpu in cpus]
    return 1.0 - sum(busy) / len(busy) if busy else None


def _clear(sched: SchedView, reason: str = "") -> Told:
    masks = sorted({thread.allowed for thread in sched.critical})
    return Told(
        "its threads may use what its cgroup allows",
        (Evidence("CPUs it may use", ", ".join(masks), ""), Evidence("CPUs its cgroup allows", str(sched.cpuset), "")),
        reason=reason,
    )


def _told(sched: SchedView, worst: ThreadView, missing: frozenset[int], spare: float | None) -> Told:
    where = f"core {worst.allowed}" if worst.allowed.isdigit() else f"cores {worst.allowed}"
    kept = cpulist.show(missing)
    text = f"AFFINITY KEEPS THE SERVER ON {where} — its cgroup allows CPU {kept} too"
    reason = "nothing waits there now: a narrow mask alone is a fact, not a fault"
    if worst.contended >= SHORT:
        waits = percent(worst.contended)
        text = f"AFFINITY KEEPS THE SERVER ON {where}, where it waits {waits} — CPU {kept} may be used too"
        reason = "QT201 tells what waits and for whom"
        if spare is not None and spare < 1.0 - SPARE:
            reason = f"it waits {waits}, but the other CPUs are busy as well: widening helps little"
    lines = [
        Evidence(f"CPUs that {thread_name(worst)} may use", worst.allowed, ""),
        Evidence("CPUs its cgroup allows", str(sched.cpuset), ""),
        Evidence("its run-queue wait there", worst.contended, "of wall time", SHORT, SOURCE),
    ]
    if spare is not None:
        lines.append(Evidence(f"CPUs {kept} are idle", spare, "of the time", 1.0 - SPARE, "proposed"))
    return Told(text, tuple(lines), REMEDIES if worst.contended >= SHORT else (), reason)
