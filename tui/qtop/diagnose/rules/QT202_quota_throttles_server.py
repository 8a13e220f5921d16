"""QT202: the CPU quota of the server's cgroup stops its critical threads."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Evidence, NotApplicable, Observed, Rule, Told
from qtop.diagnose.rules.cpu_wait import CLEAR, ENTER, SOURCE, sched_of, thread_name
from qtop.model.frame import Frame, QuotaView, SchedView, ThreadView
from qtop.sample import Absent
from qtop.units import percent

ABOVE = "no CPU quota in sight, but cgroups above may have one: run qtop outside the container"


class QuotaThrottlesServer(Rule):
    """The part of the critical threads' waiting that the quota explains, as a share of wall time."""

    id = "QT202"
    title = "CPU quota throttles the server"
    enter = ENTER
    clear = CLEAR
    explains = ("QT208",)

    def look(self, frame: Frame) -> Answer:
        """The longest throttled wait among the critical threads."""
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        quota = sched.quota
        if isinstance(quota, Absent):
            return CannotTell(f"the CPU quota of its cgroup: {quota}")
        if quota is None:
            return CannotTell(ABOVE) if sched.quota_above else NotApplicable("its cgroup has no CPU quota")
        worst = max(sched.critical, key=lambda thread: thread.throttled)
        return Observed(worst.throttled, lambda: _told(sched, quota, worst), impact=worst.throttled)


RULE = QuotaThrottlesServer()


def _told(sched: SchedView, quota: QuotaView, worst: ThreadView) -> Told:
    lines = [
        Evidence(f"throttled wait of {thread_name(worst)}", worst.throttled, "of wall time", ENTER[0].at, SOURCE),
        Evidence("quota", quota.cores, "CPUs", None, quota.path),
    ]
    if not isinstance(quota.throttled, Absent):
        lines.append(Evidence("throttled, summed over CPUs", quota.throttled, "s a second", None, "cpu.stat"))
    if not isinstance(quota.periods_throttled, Absent):
        lines.append(Evidence("enforcement periods that ended throttled", quota.periods_throttled, "of periods"))
    if not isinstance(sched.cpu, Absent):
        lines.append(Evidence("CPU the server uses", sched.cpu, "CPUs"))
    return Told(
        f"CPU QUOTA STOPS THE SERVER {percent(worst.throttled)} of the time — its cgroup may use "
        f"{quota.cores:g} CPUs; raise the quota (docker update --cpus, CPUQuota=), affinity is no cure",
        tuple(lines),
    )
