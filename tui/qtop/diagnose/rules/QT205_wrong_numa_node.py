"""QT205: the threads that feed a GPU run on the other socket's CPUs."""

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
    Remedy,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import gpus_of, host_of, said
from qtop.diagnose.rules.cpu_wait import sched_of, thread_name
from qtop.diagnose.rules.remedies import WIDEN
from qtop.model.frame import Frame, GpuView, HostView, SchedView, ThreadView
from qtop.sample import Absent, ServerInfo, cpulist
from qtop.units import percent

RUNS = 0.02
"""Of a core: threads that run less than this together tell nothing of where the work is done."""


class WrongNumaNode(Rule):
    """The part of the critical threads' CPU time that was spent far from the server's GPUs."""

    id = "QT205"
    title = "CPUs on the wrong NUMA node for the GPU"
    enter = (Enter(Severity.WARNING, at=0.6, seconds=9.0, of=10.0),)
    clear = Clear(below=0.4, seconds=10.0)

    def look(self, frame: Frame) -> Answer:
        """Weighted by what each thread ran: one that sleeps is nowhere."""
        gpus = gpus_of(frame)
        if not isinstance(gpus, tuple):
            return gpus
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        if isinstance(host.nodes, Absent):
            return CannotTell(f"the host's NUMA nodes: {said(host.nodes)}")
        if host.nodes < 2:
            return NotApplicable("the host has one NUMA node")
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        for gpu in gpus:
            if isinstance(gpu.numa_node, Absent) or isinstance(gpu.local_cpus, Absent):
                missing = gpu.numa_node if isinstance(gpu.numa_node, Absent) else gpu.local_cpus
                return CannotTell(f"which node GPU {gpu.index} is on: {missing}")
        near = _near(tuple(gpu.local_cpus for gpu in gpus if isinstance(gpu.local_cpus, str)))
        ran = far = 0.0
        for thread in sched.critical:
            if thread.processor < 0:
                return CannotTell("the CPUs that its threads ran on were not recorded")
            ran += thread.run
            far += thread.run if thread.processor not in near else 0.0
        share = far / ran if ran >= RUNS else 0.0
        return Observed(share, lambda: _told(frame, sched, gpus, near, share), figure=f"{share:.0%} far")


RULE = WrongNumaNode()


@lru_cache(maxsize=16)
def _near(lists: tuple[str, ...]) -> frozenset[int]:
    """All CPUs near one of the GPUs."""
    return frozenset().union(*(cpulist.parse_or_empty(one) for one in lists))


def _told(frame: Frame, sched: SchedView, gpus: tuple[GpuView, ...], near: frozenset[int], share: float) -> Told:
    nodes = sorted({gpu.numa_node for gpu in gpus if not isinstance(gpu.numa_node, Absent)})
    where = f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(map(str, nodes))}"
    here = "?" if isinstance(sched.nodes, Absent) else ", ".join(map(str, sched.nodes))
    lines = [
        Evidence("critical threads' CPU time far from the GPU", share, "of their time", RULE.enter[0].at, "proposed"),
        *(Evidence(f"{thread_name(one)} ran on CPU", float(one.processor), "") for one in sched.critical),
        Evidence(f"CPUs near GPU {gpus[0].index} ({where})", cpulist.show(near), "", None, "sysfs local_cpulist"),
        Evidence("NUMA nodes it ran on", here, ""),
    ]
    return Told(
        f"WRONG NUMA NODE: the engine runs {percent(share)} on node {here}, its GPU is on {where}; bind it there",
        tuple(lines),
        _remedies(sched, near),
        _cure(frame, sched, near) if share >= RULE.enter[0].at else "",
    )


def _remedies(sched: SchedView, near: frozenset[int]) -> tuple[Remedy, ...]:
    """The knob widens masks; it helps where a mask keeps a thread from the near CPUs."""
    kept_away: list[ThreadView] = [
        one for one in sched.critical if one.allowed and not near & cpulist.parse_or_empty(one.allowed)
    ]
    allowed = near if isinstance(sched.cpuset, Absent) else near & cpulist.parse_or_empty(sched.cpuset)
    return (WIDEN,) if kept_away and allowed else ()


def _cure(frame: Frame, sched: SchedView, near: frozenset[int]) -> str:
    cpuset = cpulist.parse_or_empty("" if isinstance(sched.cpuset, Absent) else sched.cpuset)
    if cpuset and not near & cpuset:  # taskset fails there
        return (
            f"its cgroup allows only CPU {cpulist.show(cpuset)}: give it {cpulist.show(near)} (docker update "
            "--cpuset-cpus and --cpuset-mems; AllowedCPUs=, AllowedMemoryNodes= of the unit)"
        )
    pid = frame.server.pid if isinstance(frame.server, ServerInfo) else None
    who = f"{pid}" if isinstance(pid, int) else "PID"
    return (
        f"now: taskset -acp {cpulist.show(near)} {who} (and its children); at a start: numactl --cpunodebind, "
        "vLLM from 0.20 on: --numa-bind"
    )
