"""QT207: the hypervisor gives this machine's CPU time to others."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import host_of, said
from qtop.model.frame import Frame, HostView, SchedView
from qtop.sample import Absent
from qtop.units import percent

WARN, BAD = 0.05, 0.20
SOURCE = "proposed; measured 0–0.035 on a healthy H100 VM"


class Steal(Rule):
    """The share of all CPU time in which virtual CPUs wanted to run and could not."""

    id = "QT207"
    title = "steal: the hypervisor withholds CPU time"
    enter = (
        Enter(Severity.WARNING, at=WARN, seconds=8.0, of=10.0),
        Enter(Severity.CRITICAL, at=BAD, seconds=5.0, of=5.0),
    )
    clear = Clear(below=0.03, seconds=15.0)
    explains = ("QT208",)

    def look(self, frame: Frame) -> Answer:
        """Of all CPUs together: which of them were stolen from is the hypervisor's choice of the moment."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        if isinstance(host.steal, Absent):
            return CannotTell(said(host.steal))
        steal, lost = host.steal, _lost(frame, host, host.steal)
        return Observed(steal, lambda: _told(host, steal, lost), impact=lost)


RULE = Steal()


def _lost(frame: Frame, host: HostView, steal: float) -> float:
    """Share of wall time that the busiest critical thread lost: of the time that the guest believes a thread ran, the
    stolen part (busy counts it) was none."""
    if isinstance(host.busy, Absent) or host.busy <= 0:
        return steal
    stolen = min(1.0, steal / host.busy)
    if not isinstance(frame.sched, SchedView):
        return steal
    return stolen * max((min(1.0, thread.run) for thread in frame.sched.critical), default=0.0)


def _told(host: HostView, steal: float, lost: float) -> Told:
    lines = [
        Evidence("stolen CPU time", steal, "of all CPU time", WARN, SOURCE),
        Evidence("the critical thread loses by it", lost, "of wall time", None, "steal / busy × its run time"),
    ]
    if not isinstance(host.busy, Absent):
        lines.append(Evidence("CPUs busy, stolen time included", host.busy, "of the time", None, "/proc/stat"))
    return Told(
        f"CPU TIME STOLEN {percent(steal)} — the hypervisor gives it to other machines; nothing in here cures it",
        tuple(lines),
        reason="ask for dedicated CPUs or another instance type; burstable ones do this once their credit is used"
        if steal >= WARN
        else "",
    )
