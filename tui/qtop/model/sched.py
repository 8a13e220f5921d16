"""Run-queue delay of the server's threads as a share of wall time, less what its cgroup's quota explains.

Δrun_delay/Δwall, never Δdelay/(Δrun+Δdelay): the latter alarms on an idle thread beside a busy loop. The kernel books a
wait when the thread at last gets its CPU, so one second can show more wait than fits in it: shares are cut at 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from qtop.model.frame import Competitor, HostView, QuotaView, SchedView, ThreadView
from qtop.model.series import increase, rate, ratio
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    CgroupSample,
    CpuTimes,
    HostSample,
    Pressure,
    ProcessSample,
    QuotaLevel,
    Reading,
    ServerProcs,
    ThreadSample,
    cpulist,
)

COMPETES = 0.02
"""Share of one CPU below which another process is not named."""


def role_of(process: ProcessSample, root: int, engine: str) -> str:
    """What a process of the server does: vLLM's retitled children by name, its API server by being the root."""
    comm = process.comm
    if "::EngineC" in comm:
        return "engine"
    if "APIServer" in comm:
        return "api"
    if "Worker" in comm or "scheduler" in comm:
        return "worker"
    return "api" if engine == "vllm" and process.pid == root else ""


def sched_view(
    old: ServerProcs | None, new: ServerProcs, engine: str, hosts: tuple[HostSample | None, HostSample | None]
) -> SchedView | Absent:
    """The server's threads between two samples; ``hosts`` are the host samples before and now, for the competitors."""
    if old is None:
        return NOT_YET
    seconds = new.at - old.at
    if seconds <= 0 or not new.processes:
        return NOT_YET
    before = {(process.pid, process.start_ticks): process for process in old.processes}
    root = new.processes[0].pid
    by_group: dict[str, list[ThreadView]] = {}
    for process in new.processes:
        was = before.get((process.pid, process.start_ticks))
        if was is None:
            continue
        if isinstance(process.threads, Absent):
            if process.pid == root:
                return process.threads
            continue
        if isinstance(was.threads, Absent):
            continue
        role = role_of(process, root, engine)
        by_group.setdefault(process.cgroup, []).extend(_threads(process, was.threads, process.threads, role, seconds))
    threads: list[ThreadView] = []
    for key, members in by_group.items():
        stopped = _stopped(old, new, key)
        threads += [
            replace(thread, throttled=min(thread.wait, stopped)) if stopped and thread.wait else thread
            for thread in members
        ]
    if not threads:
        return NOT_YET
    threads.sort(key=lambda thread: (thread.wait, thread.run), reverse=True)
    critical = _critical(threads, engine)
    group = new.cgroups.get(new.processes[0].cgroup, NOT_RECORDED)
    busiest = critical[0] if critical else threads[0]
    return SchedView(
        threads=tuple(threads),
        critical=critical,
        processes=len(new.processes),
        cpu=_cpu(before, new, seconds, hosts[1]),
        rss_bytes=sum(process.rss_bytes for process in new.processes),
        allowed=busiest.allowed or NOT_RECORDED,
        cpuset=group if isinstance(group, Absent) else group.cpuset,
        quota=_quota(old, new, group),
        involuntary=_involuntary(before, new, {thread.pid for thread in critical}, seconds),
        competitors=_competitors(hosts, busiest),
    )


def _threads(
    process: ProcessSample, old: tuple[ThreadSample, ...], new: tuple[ThreadSample, ...], role: str, seconds: float
) -> list[ThreadView]:
    before = {thread.tid: thread for thread in old}
    views = []
    for thread in new:
        was = before.get(thread.tid)
        if was is None or thread.run_ns < was.run_ns or thread.wait_ns < was.wait_ns:
            continue
        its_role = role if thread.tid == process.pid else ""
        if (thread.run_ns, thread.wait_ns, thread.slices) == (was.run_ns, was.wait_ns, was.slices):
            views.append(_idle(process.pid, thread.tid, thread.comm, its_role, thread.allowed))
            continue
        views.append(
            ThreadView(
                pid=process.pid,
                tid=thread.tid,
                comm=thread.comm,
                role=its_role,
                run=min(1.0, (thread.run_ns - was.run_ns) / 1e9 / seconds),
                wait=min(1.0, (thread.wait_ns - was.wait_ns) / 1e9 / seconds),
                throttled=0.0,
                slices=(thread.slices - was.slices) / seconds,
                allowed=thread.allowed,
            )
        )
    return views


@lru_cache(maxsize=4096)
def _idle(pid: int, tid: int, comm: str, role: str, allowed: str) -> ThreadView:
    """A thread that did nothing: the same object every tick. Most of a server's threads are idle, and frames are kept
    for a quarter of an hour: of a vLLM with 178 threads that is 14 MB less."""
    return ThreadView(pid, tid, comm, role, run=0.0, wait=0.0, throttled=0.0, slices=0.0, allowed=allowed)


def _critical(threads: list[ThreadView], engine: str) -> tuple[ThreadView, ...]:
    """vLLM: the main threads of EngineCore and API server. Else: the thread that ran and waited most."""
    busiest = max(threads, key=lambda thread: thread.run + thread.wait)
    if engine != "vllm":
        return (busiest,)
    mains = tuple(thread for thread in threads if thread.role in ("engine", "api"))
    # Where the engine's process bears no title of its own, the busiest thread stands in for it.
    named = any(thread.role == "engine" for thread in mains)
    return mains if named or busiest in mains else tuple(sorted((*mains, busiest), key=_waited, reverse=True))


def _waited(thread: ThreadView) -> float:
    return thread.wait


def _stopped(old: ServerProcs, new: ServerProcs, key: str) -> float:
    """Share of wall time for which the quota may have stopped one thread of a cgroup: an upper bound, by the worst
    level.

    throttled_us is a sum over CPUs, and which of them a thread was on is not known; but nothing is stopped for longer
    than the periods that ended throttled.
    """
    was, now = old.cgroups.get(key), new.cgroups.get(key)
    if not isinstance(was, CgroupSample) or not isinstance(now, CgroupSample):
        return 0.0
    shares = [0.0]
    for before, level in _levels(was, now):
        summed = rate(before.throttled_us, level.throttled_us, now.at - was.at)
        periods = rate(before.nr_throttled, level.nr_throttled, now.at - was.at)
        if not isinstance(summed, Absent) and not isinstance(periods, Absent):
            shares.append(min(summed, periods * level.period_us) / 1e6)
    return max(shares)


def _levels(was: CgroupSample, now: CgroupSample) -> list[tuple[QuotaLevel, QuotaLevel]]:
    if isinstance(was.quotas, Absent) or isinstance(now.quotas, Absent):
        return []
    before = {level.path: level for level in was.quotas}
    return [(before[level.path], level) for level in now.quotas if level.path in before]


def _quota(old: ServerProcs, new: ServerProcs, group: CgroupSample | Absent) -> QuotaView | Absent | None:
    if isinstance(group, Absent):
        return group
    if isinstance(group.quotas, Absent):
        return group.quotas
    if not group.quotas:
        return None
    tight = min(group.quotas, key=lambda level: level.quota_us / level.period_us)
    was = old.cgroups.get(new.processes[0].cgroup)
    pairs = _levels(was, group) if isinstance(was, CgroupSample) else []
    before = next((first for first, level in pairs if level.path == tight.path), None)
    throttled: Reading[float] = NOT_YET
    periods: Reading[float] = NOT_YET
    if before is not None and isinstance(was, CgroupSample):
        per_second = rate(before.throttled_us, tight.throttled_us, group.at - was.at)
        throttled = per_second if isinstance(per_second, Absent) else per_second / 1e6
        periods = ratio(
            increase(before.nr_throttled, tight.nr_throttled),
            increase(before.nr_periods, tight.nr_periods),
            "no period ended",
        )
    return QuotaView(tight.path, tight.quota_us / tight.period_us, throttled, periods)


def _cpu(
    before: dict[tuple[int, int], ProcessSample], new: ServerProcs, seconds: float, host: HostSample | None
) -> Reading[float]:
    hz = host.hz if host is not None else 100
    ticks = 0
    for process in new.processes:
        was = before.get((process.pid, process.start_ticks))
        ticks += process.cpu_ticks - was.cpu_ticks if was is not None else 0
    return ticks / hz / seconds


def _involuntary(
    before: dict[tuple[int, int], ProcessSample], new: ServerProcs, pids: set[int], seconds: float
) -> Reading[float]:
    total = 0.0
    for process in new.processes:
        was = before.get((process.pid, process.start_ticks))
        if process.pid not in pids or was is None:
            continue
        switches = rate(was.involuntary, process.involuntary, seconds)
        if isinstance(switches, Absent):
            return switches
        total += switches
    return total


def _competitors(
    hosts: tuple[HostSample | None, HostSample | None], waiting: ThreadView
) -> tuple[Competitor, ...] | Absent:
    was, now = hosts
    if now is None or isinstance(now.tasks, Absent):
        return NOT_YET if now is None else now.tasks  # type: ignore[return-value]
    if was is None or isinstance(was.tasks, Absent) or now.at <= was.at:
        return NOT_YET
    wanted = cpulist.parse_or_empty(waiting.allowed)
    before = {(task.pid, task.start_ticks): task.cpu_ticks for task in was.tasks}
    found = []
    for task in now.tasks:
        ticks = before.get((task.pid, task.start_ticks))
        if ticks is None:
            continue
        share = (task.cpu_ticks - ticks) / now.hz / (now.at - was.at)
        if share >= COMPETES and (not wanted or wanted & cpulist.parse_or_empty(task.cpus)):
            found.append(Competitor(task.pid, task.comm, share, task.cpus))
    return tuple(sorted(found, key=lambda other: other.share, reverse=True))


def host_view(old: HostSample | None, new: HostSample) -> HostView:
    """The host's CPUs between two samples."""
    per_cpu: dict[int, float] = {}
    whole: tuple[float, float, float] | None = None
    if old is not None:
        for name, times in new.cpus.items():
            shares = _shares(old.cpus.get(name), times)
            if shares is None:
                continue
            if name == "all":
                whole = shares
            else:
                per_cpu[int(name)] = shares[0]
    seconds = new.at - old.at if old is not None else 0.0
    pressures = (new.psi_cpu, new.psi_memory, new.psi_io)
    olds: tuple[Pressure | Absent, ...] = (NOT_YET,) * 3 if old is None else (old.psi_cpu, old.psi_memory, old.psi_io)
    psi = [_pressure(was, now, seconds) for was, now in zip(olds, pressures, strict=True)]
    return HostView(
        cpus=sum(1 for name in new.cpus if name != "all"),
        busy=whole[0] if whole else NOT_YET,
        per_cpu=per_cpu,
        steal=whole[1] if whole else NOT_YET,
        iowait=whole[2] if whole else NOT_YET,
        psi_cpu=psi[0],
        psi_memory=psi[1],
        psi_io=psi[2],
        mem_total=new.mem_total,
        mem_available=new.mem_available,
        runnable=new.runnable,
    )


def _shares(old: CpuTimes | None, new: CpuTimes) -> tuple[float, float, float] | None:
    """Busy, steal and iowait shares. idle and iowait may run backwards by a tick on a tickless kernel: cut at 0."""
    if old is None:
        return None
    spent = [max(0, b - a) for a, b in zip(_ticks(old), _ticks(new), strict=True)]
    total = sum(spent)
    if total == 0:
        return None
    return (total - spent[3] - spent[4]) / total, spent[7] / total, spent[4] / total


def _ticks(times: CpuTimes) -> tuple[int, ...]:
    return (times.user, times.nice, times.system, times.idle, times.iowait, times.irq, times.softirq, times.steal)


def _pressure(old: Pressure | Absent, new: Pressure | Absent, seconds: float) -> Reading[float]:
    if isinstance(new, Absent):
        return new
    if isinstance(old, Absent):
        return NOT_YET
    share = rate(old.some_us, new.some_us, seconds)
    return share if isinstance(share, Absent) else min(1.0, share / 1e6)
