"""QT601: tasks wait for memory: the kernel takes pages back that are needed again."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import host_of, said
from qtop.diagnose.rules.memory_wait import GIB, MIB, group_of, pressure_lines, stalled
from qtop.model.cpu import MemoryGroupView
from qtop.model.frame import Frame, HostView
from qtop.sample import Absent
from qtop.units import percent

SOME, FULL_LIMIT = 0.10, 0.95
LOW_SHARE, LOW_BYTES = 0.02, 1 << 30
"""So little left, of the whole and in bytes, counts as pressure before anybody waits."""
HITS_S, HALF = 100.0, 0.05
"""A full cgroup limit that is run into so often a second is named from half the pressure on: where the cgroup's own is
not told (v1), the host's holds everybody else's time too."""


class MemoryPressure(Rule):
    """The share of the time in which some task of the server's cgroup, else of the host, waited for memory."""

    id = "QT601"
    title = "memory pressure"
    enter = (
        Enter(Severity.WARNING, at=SOME, seconds=8.0, of=10.0),
        Enter(Severity.CRITICAL, at=0.40, seconds=8.0, of=8.0),
    )
    clear = Clear(below=0.05, seconds=15.0)

    def look(self, frame: Frame) -> Answer:
        """Its own cgroup's pressure where that is known, or that of everybody; else the host's. At least the threshold
        while memory is all but gone."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        group = group_of(frame)
        inside = None if group is None or isinstance(group.some, Absent) else group.some
        if isinstance(host.psi_memory, Absent) and inside is None:
            return CannotTell(said(host.psi_memory))
        value = inside
        if value is None:
            value = 0.0 if isinstance(host.psi_memory, Absent) else host.psi_memory
        elif not isinstance(host.psi_memory_full, Absent):
            value = max(value, host.psi_memory_full)
        low = _is_low(host)
        limited = value >= HALF and _runs_into(group)
        stall = max(stalled(frame), value) if limited else stalled(frame)
        shown = max(value, SOME) if low or limited else value
        return Observed(shown, lambda: _told(frame, host, value, low, limited), impact=stall)


RULE = MemoryPressure()


def _is_low(host: HostView) -> bool:
    left, whole = host.mem_available, host.mem_total
    if isinstance(left, Absent) or isinstance(whole, Absent):
        return False
    return left < LOW_SHARE * whole and left < LOW_BYTES


def _is_full(group: MemoryGroupView | None) -> bool:
    """Whether its cgroup has a memory limit and all of it is used."""
    if group is None or not isinstance(group.limit, int) or not isinstance(group.used, int):
        return False
    return group.used >= FULL_LIMIT * group.limit


def _runs_into(group: MemoryGroupView | None) -> bool:
    """Whether the kernel takes pages back there because of the limit, again and again."""
    return _is_full(group) and group is not None and isinstance(group.hits_s, float) and group.hits_s >= HITS_S


def _size(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def _told(frame: Frame, host: HostView, value: float, low: bool, limited: bool) -> Told:
    group = group_of(frame)
    text = f"MEMORY PRESSURE: tasks wait for memory {percent(value)} of the time"
    reason = "stop what else uses memory, or add some; a model file that is mapped must stay in the page cache"
    if value < SOME and not low:
        reason = ""
    if group is not None and isinstance(group.limit, int) and (limited or (value >= SOME and _is_full(group))):
        text += f" — its cgroup's limit of {_size(group.limit)} is full: raise it"
        reason = "docker update --memory, MemoryMax= of the unit, the memory limit of the pod"
        return Told(text, tuple(pressure_lines(frame, host, SOME)), reason=reason)
    if not isinstance(host.mem_available, Absent) and not isinstance(host.mem_total, Absent):
        left, whole = host.mem_available / GIB, host.mem_total / GIB
        if low and value < SOME:
            text = f"MEMORY ALL BUT GONE: {left:.1f} of {whole:.0f} GiB left — the kernel will end a process soon"
        else:
            text += f" — {left:.1f} of {whole:.0f} GiB available"
    return Told(text, tuple(pressure_lines(frame, host, SOME)), reason=reason)
