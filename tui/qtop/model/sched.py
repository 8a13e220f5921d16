"""The server's processes between two samples: how long its threads wait for a CPU, how much of that its cgroup's quota
explains, and who else is on their CPUs."""

from __future__ import annotations

from msgspec.structs import replace

from qtop.model.cpu import Competitor, MemoryGroupView, QuotaView, SchedView, ThreadView
from qtop.model.host import pressure_shares
from qtop.model.places import clock_view, place_of
from qtop.model.roles import roles_of
from qtop.model.series import increase, rate, ratio
from qtop.model.threads import by_waiting, critical_threads, thread_views
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    CgroupSample,
    HostSample,
    ProcessSample,
    QuotaLevel,
    Reading,
    ServerProcs,
    cpulist,
)

_HALTED = ("T", "t")
COMPETES = 0.02
"""Share of one CPU below which another process is not named."""


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
    roles = roles_of(new.processes, engine)
    by_group: dict[str, list[ThreadView]] = {}
    asleep: list[ThreadView] = []
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
        moved, still = thread_views(process, was.threads, process.threads, roles[process.pid], seconds)
        by_group.setdefault(process.cgroup, []).extend(moved)
        asleep += still
    threads: list[ThreadView] = []
    for key, members in by_group.items():
        stopped = _stopped(old, new, key)
        if stopped:
            members = [
                replace(thread, throttled=min(thread.wait, stopped)) if thread.wait else thread for thread in members
            ]
        threads += members
    if not threads and not asleep:
        return NOT_YET
    threads = by_waiting(threads)
    candidates = [*threads, *(thread for thread in asleep if thread.role)] or asleep
    critical = critical_threads(candidates, engine)
    group = new.cgroups.get(new.processes[0].cgroup, NOT_RECORDED)
    busiest = critical[0] if critical else candidates[0]
    quota = _quota(old, new, group)
    some, full = _pressures(old.cgroups.get(new.processes[0].cgroup), group)
    places = place_of(hosts[1])
    return SchedView(
        threads=(*threads, *asleep),
        critical=critical,
        processes=len(new.processes),
        cpu=_cpu(before, new, seconds, hosts[1]),
        rss_bytes=sum(process.rss_bytes for process in new.processes),
        allowed=busiest.allowed or NOT_RECORDED,
        cpuset=group if isinstance(group, Absent) else group.cpuset,
        quota=quota,
        involuntary=_involuntary(before, new, {thread.pid for thread in critical}, seconds),
        competitors=_competitors(hosts, busiest),
        psi_some=some,
        psi_full=full,
        usable=places.usable(_masks(critical or (busiest,), new), group, quota),
        nodes=places.nodes_of(thread.processor for thread in critical),
        mhz=clock_view(hosts[1], (thread.processor for thread in critical)),
        quota_above=isinstance(group, CgroupSample) and group.above,
        memory=_memory(old.cgroups.get(new.processes[0].cgroup), group),
        stopped=tuple(f"{one.title or one.comm} (pid {one.pid})" for one in new.processes if one.state in _HALTED),
    )


def _masks(threads: tuple[ThreadView, ...], new: ServerProcs) -> list[Reading[str]]:
    """The affinity masks of these threads; where one was not read, that of its process's main thread."""
    processes = {process.pid: process.allowed for process in new.processes}
    return [thread.allowed or processes.get(thread.pid, NOT_RECORDED) for thread in threads]


def _pressures(old: CgroupSample | Absent | None, new: CgroupSample | Absent) -> tuple[Reading[float], Reading[float]]:
    """Shares of the time in which some, and all, of a cgroup's tasks waited for a CPU."""
    if isinstance(new, Absent):
        return new, new
    if not isinstance(old, CgroupSample):
        return NOT_YET, NOT_YET
    return pressure_shares(old.pressure, new.pressure, new.at - old.at)


def _memory(old: CgroupSample | Absent | None, new: CgroupSample | Absent) -> MemoryGroupView | Absent:
    """The cgroup's memory between two samples."""
    if isinstance(new, Absent):
        return new
    now = new.memory
    if isinstance(now, Absent):
        return now
    was = old.memory if isinstance(old, CgroupSample) else NOT_YET
    seconds = new.at - old.at if isinstance(old, CgroupSample) else 0.0
    before = NOT_YET if isinstance(was, Absent) else was.pressure
    some, full = pressure_shares(before, now.pressure, seconds)
    hits = rate(NOT_YET if isinstance(was, Absent) else was.hits, now.hits, seconds)
    return MemoryGroupView(now.used, now.limit, hits, some, full)


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
