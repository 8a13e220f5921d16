"""QT201: the threads that hold everything up are runnable and get no CPU, because others run there."""

from __future__ import annotations

from collections import Counter

from qtop.diagnose.rule import Answer, CannotTell, Evidence, Observed, Remedy, Rule, Told
from qtop.diagnose.rules.cpu_wait import CLEAR, ENTER, SOURCE, against_others, sched_of, thread_name
from qtop.diagnose.rules.QT204_narrow_affinity import outside
from qtop.diagnose.rules.remedies import WIDEN
from qtop.model.frame import Frame, GpuView, HostView, QuotaView, SchedView, ThreadView
from qtop.sample import Absent, cpulist
from qtop.units import percent

NEW_QUOTA = CannotTell("its cgroup has a CPU quota since a moment ago: the next reading tells how long that stopped it")


class EngineWaitsForCpu(Rule):
    """Δrun_delay/Δwall of the critical threads, less what the cgroup's quota throttled."""

    id = "QT201"
    title = "engine waits for CPU"
    enter = ENTER
    clear = CLEAR
    explains = ("QT208",)

    def look(self, frame: Frame) -> Answer:
        """The longest contended wait among the critical threads."""
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        worst = max(sched.critical, key=lambda thread: thread.contended)
        if isinstance(sched.quota, QuotaView) and isinstance(sched.quota.throttled, Absent):
            return NEW_QUOTA  # for one reading: what it stopped is not yet told from what others took

        def tell() -> Told:
            return Told(
                headline=_headline(frame, sched, worst),
                evidence=_evidence(frame, sched, worst),
                remedies=_remedies(frame, sched, worst),
                reason=_reason(frame, sched, worst),
            )

        return Observed(worst.contended, tell, impact=worst.contended)


RULE = EngineWaitsForCpu()


def _headline(frame: Frame, sched: SchedView, worst: ThreadView) -> str:
    text = f"ENGINE WAITS FOR CPU {percent(worst.contended)} of the time"
    others = sched.competitors
    cpus = cpulist.parse_or_empty(worst.allowed)
    where = "the CPUs"
    if cpus:
        where = f"core {worst.allowed}" if len(cpus) == 1 else f"cores {worst.allowed}"
    if _crowds_itself(frame, sched, worst):
        text += f" — the server's own threads fill {where}"
    elif not isinstance(others, Absent) and others:
        text += f" — {_who(others_named(sched))} on {where} too"
    elif cpus and len(cpus) < _host_cpus(frame):
        text += f" — it may use only {where} of {_host_cpus(frame)}"
    if not isinstance(frame.gpus, Absent) and frame.gpus and not isinstance(frame.gpus[0].util, Absent):
        text += f"; GPU {percent(frame.gpus[0].util)} busy"
    return text


def _crowds_itself(frame: Frame, sched: SchedView, worst: ThreadView) -> bool:
    """Whether the server's own threads are what is in the way: nobody can wait for longer than others run, and what
    others run on the host explains less than half of this wait while the server's other threads explain it."""
    if isinstance(sched.competitors, Absent) or isinstance(sched.cpu, Absent):
        return False
    allowed = cpulist.parse_or_empty(worst.allowed)
    others = sum(one.share for one in sched.competitors)
    if isinstance(frame.host, HostView) and not isinstance(frame.host.busy, Absent):
        if len(allowed) < frame.host.cpus:
            return False  # where the rest of the host is busy is not known
        others = max(others, frame.host.busy * frame.host.cpus - sched.cpu)  # those too short-lived to be listed too
    own = sum(one.run for one in sched.threads if one is not worst)
    return others < worst.contended / 2 <= own


def others_named(sched: SchedView) -> Counter[str]:
    """Competitors by name."""
    return Counter() if isinstance(sched.competitors, Absent) else Counter(one.comm for one in sched.competitors)


def _who(names: Counter[str]) -> str:
    top = ", ".join(name if times == 1 else f"{name} ×{times}" for name, times in names.most_common(2))
    rest = sum(names.values()) - sum(times for _, times in names.most_common(2))
    return f"{top} and {rest} more" if rest else top


def _evidence(frame: Frame, sched: SchedView, worst: ThreadView) -> tuple[Evidence, ...]:
    lines = [
        Evidence(f"run-queue wait of {thread_name(worst)}", worst.contended, "of wall time", ENTER[0].at, SOURCE),
        Evidence("it runs", worst.run, "of wall time", None, f"/proc/{worst.pid}/task/{worst.tid}/schedstat"),
    ]
    for thread in sched.critical:
        if thread is not worst:
            lines.append(Evidence(f"wait of {thread_name(thread)}", thread.contended, "of wall time"))
    if not isinstance(worst.wait_ms, Absent):
        lines.append(Evidence("mean wait for each dispatch", worst.wait_ms, "ms"))
    lines.append(_throttle_line(sched, worst))
    lines.append(Evidence("CPUs it may use", worst.allowed or "not recorded", ""))
    if not isinstance(sched.cpuset, Absent):
        lines.append(Evidence("CPUs its cgroup allows", sched.cpuset, ""))
    if isinstance(sched.competitors, Absent):
        lines.append(Evidence("competitors", str(sched.competitors), ""))
    else:
        for other in sched.competitors[:4]:
            lines.append(Evidence(f"{other.comm} ({other.pid}) on CPU {other.cpus}", other.share, "of a CPU"))
    if isinstance(frame.host, HostView) and not isinstance(frame.host.psi_cpu, Absent):
        lines.append(
            Evidence("CPU pressure on the host", frame.host.psi_cpu, "of wall time", None, "/proc/pressure/cpu")
        )
    if not isinstance(frame.gpus, Absent):
        lines += [_gpu_line(gpu) for gpu in frame.gpus[:1] if not isinstance(gpu.util, Absent)]
    return tuple(lines)


def _gpu_line(gpu: GpuView) -> Evidence:
    return Evidence(
        f"GPU {gpu.index} has a kernel running", gpu.util if isinstance(gpu.util, float) else None, "of the time"
    )


def _throttle_line(sched: SchedView, worst: ThreadView) -> Evidence:
    name = "of its wait, throttled by its cgroup's quota"
    if isinstance(sched.quota, Absent):
        return Evidence(name, str(sched.quota), "")
    if sched.quota is None:
        return Evidence("CPU quota of its cgroup", "none", "")
    return Evidence(name, worst.throttled, "of wall time", None, "cpu.stat of its cgroup")


def _reason(frame: Frame, sched: SchedView, worst: ThreadView) -> str:
    if isinstance(sched.quota, QuotaView) and worst.throttled > worst.contended and worst.wait >= ENTER[0].at:
        return f"it waits {percent(worst.wait)}, but its cgroup's quota explains {percent(worst.throttled)}: see QT202"
    if worst.contended >= ENTER[0].at and not _widening(sched, worst):
        if _crowds_itself(frame, sched, worst):
            return "it may already use every CPU that its cgroup allows, and the server fills them: it needs more CPUs"
        cpuset = "" if isinstance(sched.cpuset, Absent) else sched.cpuset
        if 0 < len(cpulist.parse_or_empty(cpuset)) < _host_cpus(frame):
            return (
                f"its cgroup allows only CPU {cpuset} of {_host_cpus(frame)}: widen that (docker update "
                "--cpuset-cpus, AllowedCPUs= of the unit), or move or stop the processes beside it"
            )
        return "it may already use every CPU that its cgroup allows: move or stop the processes beside it"
    return ""


def _remedies(frame: Frame, sched: SchedView, worst: ThreadView) -> tuple[Remedy, ...]:
    """First what gives the server more; then what takes from those beside it, where it is they who are in its way."""
    if isinstance(sched.quota, QuotaView) and worst.throttled > worst.contended:
        return ()
    others = () if _crowds_itself(frame, sched, worst) else against_others(frame, sched)
    return (*_widening(sched, worst), *others)


def _widening(sched: SchedView, worst: ThreadView) -> tuple[Remedy, ...]:
    """Affinity helps only where the cgroup allows a CPU that the thread may not use; if that is unknown, the knob
    finds out."""
    if isinstance(sched.quota, QuotaView) and worst.throttled > worst.contended:
        return ()
    allowed = cpulist.parse_or_empty(worst.allowed)
    if isinstance(sched.cpuset, Absent):
        return () if not allowed else (WIDEN,)
    if allowed and not outside(worst.allowed, sched.cpuset):
        return ()
    return (WIDEN,)


def _host_cpus(frame: Frame) -> int:
    return frame.host.cpus if isinstance(frame.host, HostView) else 0
