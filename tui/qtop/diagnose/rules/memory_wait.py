"""What QT601 and QT602 share: how much of the time is spent waiting for memory, and by whom."""

from __future__ import annotations

from qtop.diagnose.rule import Evidence
from qtop.model.cpu import MemoryGroupView
from qtop.model.frame import Frame, HostView, SchedView
from qtop.sample import Absent

PROPOSED = "proposed, as for CPU pressure: 10 % of the time"
MIB, GIB = float(1 << 20), float(1 << 30)


def group_of(frame: Frame) -> MemoryGroupView | None:
    """The memory of the server's cgroup, None where it is not known."""
    sched = frame.sched
    if not isinstance(sched, SchedView) or isinstance(sched.memory, Absent):
        return None
    return sched.memory


def stalled(frame: Frame) -> float:
    """Share of the server's time spent waiting for memory, 0–1: of its cgroup where that tells, else the time in which
    nobody on the host who wanted to run could."""
    group = group_of(frame)
    if group is not None and not isinstance(group.some, Absent):
        return group.some
    if isinstance(frame.host, HostView) and not isinstance(frame.host.psi_memory_full, Absent):
        return frame.host.psi_memory_full
    return 0.0


def pressure_lines(frame: Frame, host: HostView, at: float) -> list[Evidence]:
    """Pressure of the host and of the server's cgroup, what is left, and what its limit is."""
    lines = []
    if not isinstance(host.psi_memory, Absent):
        lines.append(Evidence("some task of the host waits for memory", host.psi_memory, "of wall time", at, PROPOSED))
    if not isinstance(host.psi_memory_full, Absent):
        lines.append(Evidence("all of them do", host.psi_memory_full, "of wall time", None, "/proc/pressure/memory"))
    group = group_of(frame)
    if group is not None:
        if not isinstance(group.some, Absent):
            lines.append(Evidence("some task of its cgroup waits", group.some, "of wall time", at, "memory.pressure"))
        if isinstance(group.limit, int):
            lines.append(Evidence("limit of its cgroup", group.limit / GIB, "GiB"))
            if not isinstance(group.used, Absent):
                lines.append(Evidence("of which is used, page cache included", group.used / GIB, "GiB"))
            if not isinstance(group.hits_s, Absent):
                lines.append(Evidence("its limit was hit", group.hits_s, "times a second"))
    if not isinstance(host.mem_available, Absent) and not isinstance(host.mem_total, Absent):
        lines.append(Evidence("memory available", host.mem_available / GIB, "GiB"))
        lines.append(Evidence("of", host.mem_total / GIB, "GiB"))
    return lines
