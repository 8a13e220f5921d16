"""QT603: the CPUs' clocks are left to a governor that starts low."""

from __future__ import annotations

from functools import lru_cache

from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Clear,
    Enter,
    Evidence,
    NotApplicable,
    Observed,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import host_of, said
from qtop.diagnose.rules.remedies import GOVERNOR, PREFERENCE
from qtop.model.frame import Frame, HostView, SchedView
from qtop.sample import Absent, Why


class Governor(Rule):
    """A plain fact: some CPU's governor is not "performance". What it costs shows in the clocks."""

    id = "QT603"
    title = "CPU governor not performance"
    enter = (Enter(Severity.INFO, at=1.0, seconds=3.0, of=3.0),)
    clear = Clear(below=1.0, seconds=3.0)

    def look(self, frame: Frame) -> Answer:
        """1 where a governor may keep the clocks low; an energy preference of "performance" counts as one."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        governor = host.governor
        if isinstance(governor, Absent):
            if governor.why is Why.UNSUPPORTED:
                return NotApplicable(governor.detail or "no cpufreq")
            return CannotTell(f"the CPU governor: {said(governor)}")
        if not governor.strip():
            return CannotTell("the CPU governor: its file is empty")
        preference = "" if isinstance(host.preference, Absent) else host.preference
        value = 1.0 if _slow(governor, preference) else 0.0
        return Observed(value, lambda: _told(frame, host, governor, preference), figure="")


RULE = Governor()


@lru_cache(maxsize=16)
def _slow(governor: str, preference: str) -> bool:
    """Whether not every CPU has the governor "performance"; with a driver that knows preferences (intel_pstate,
    amd-pstate-epp) "powersave" only means that the hardware chooses, and its preference decides."""
    governors = {part.split()[0] for part in governor.split(", ") if part.strip()}
    preferences = {part.split()[0] for part in preference.split(", ") if part.strip()}
    return governors != {"performance"} and preferences != {"performance"}


def _told(frame: Frame, host: HostView, governor: str, preference: str) -> Told:
    lines = [Evidence("governor", governor, "", None, "sysfs cpufreq/scaling_governor")]
    if preference:
        lines.append(Evidence("energy performance preference", preference, ""))
    if not isinstance(host.max_mhz, Absent):
        lines.append(Evidence("highest clock", host.max_mhz, "MHz"))
    sched = frame.sched
    clock = ""
    if isinstance(sched, SchedView) and not isinstance(sched.mhz, Absent):
        lines.append(Evidence("the critical threads' CPUs run at", sched.mhz.mean, "MHz"))
        if not isinstance(host.max_mhz, Absent):
            clock = f"; the engine's CPU runs at {sched.mhz.mean:.0f} of {host.max_mhz:.0f} MHz"
    if not _slow(governor, preference):
        return Told(f"the CPUs' governor is {governor}", tuple(lines))
    return Told(
        f"CPU GOVERNOR {governor.split(maxsplit=1)[0]}, not performance{clock}",
        tuple(lines),
        (PREFERENCE, GOVERNOR) if preference else (GOVERNOR,),
        reason="cpupower frequency-set -g performance (root, until the next boot); it costs power",
    )
