"""QT602: memory that is in use comes back from the swap device, page by page."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import host_of, said
from qtop.diagnose.rules.memory_wait import GIB, MIB, pressure_lines, stalled
from qtop.diagnose.rules.remedies import SWAPPINESS
from qtop.model.frame import Frame, HostView
from qtop.sample import Absent

IN_MIB_S = 1.0
FAULTS_S = 10.0
"""Pages that come back ahead of need (readahead) make no faults."""


class Swapping(Rule):
    """MiB a second read from swap, while tasks fault for them. Writing alone is no fault: cold pages go once."""

    id = "QT602"
    title = "swapping"
    enter = (Enter(Severity.WARNING, at=IN_MIB_S, seconds=8.0, of=10.0),)
    clear = Clear(below=0.1, seconds=20.0)
    explains = ("QT601",)

    def look(self, frame: Frame) -> Answer:
        """0 while nobody waits for the pages that come."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        if isinstance(host.swap_in_s, Absent):
            return CannotTell(said(host.swap_in_s))
        came = host.swap_in_s / MIB
        faults = 0.0 if isinstance(host.major_faults_s, Absent) else host.major_faults_s
        felt = isinstance(host.major_faults_s, Absent) or faults >= FAULTS_S
        value = came if felt else 0.0
        return Observed(
            value,
            lambda: _told(frame, host, came, faults),
            impact=stalled(frame) if value >= IN_MIB_S else 0.0,
            figure=f"{came:.1f} MiB/s in",
        )


RULE = Swapping()


def _told(frame: Frame, host: HostView, came: float, faults: float) -> Told:
    lines = [
        Evidence("read from swap", came, "MiB/s", IN_MIB_S, "proposed; /proc/vmstat pswpin"),
        Evidence("page faults that waited for a disk", faults, "a second", FAULTS_S, "/proc/vmstat pgmajfault"),
    ]
    if not isinstance(host.swap_out_s, Absent):
        lines.append(Evidence("written to swap", host.swap_out_s / MIB, "MiB/s"))
    used = ""
    if not isinstance(host.swap_used, Absent):
        lines.append(Evidence("swap in use", host.swap_used / GIB, "GiB"))
        used = f", {host.swap_used / GIB:.1f} GiB in swap"
    return Told(
        f"SWAPPING: {came:.1f} MiB/s come back from swap{used} — what is in use does not fit into memory",
        (*lines, *pressure_lines(frame, host, 0.10)),
        (SWAPPINESS,),
        reason=""
        if came < IN_MIB_S
        else "sysctl vm.swappiness=1 keeps anonymous memory longer; swapoff -a only where all of it fits",
    )
