"""The knob ``neighbours-cpus``: keeps the processes beside the server off its CPUs. Live, reversible."""

from __future__ import annotations

import math
import os
from contextlib import closing

from qtop.act.change import Plan
from qtop.act.knobs.cpus import CPU_LIST, cpus_asked, cpuset_of
from qtop.act.knobs.neighbours import NeighbourKnob, Process, make_record, neighbours, told
from qtop.act.knobs.processes import may_set
from qtop.act.watched import threads_of
from qtop.collect.cgroup import CgroupReader
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, HostView, SchedView
from qtop.sample import Absent, cpulist

BUSY = 0.05
"""Share of its time from which a thread of the server is given a CPU."""


class NeighboursCpus(NeighbourKnob):
    """sched_setaffinity(2) on each of their threads."""

    id = "neighbours-cpus"
    title = "CPUs that the processes beside the server may use"
    needs = "their user; root for other users' processes (CAP_SYS_NICE)"
    example = "4-7 or 4-7:812,815"
    word = "CPUs"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """All who are seen on the CPUs that the server waits for, or those named: to those that it does without."""
        sched = threads_of(frame)
        cpus, colon, named = (value or "").partition(":")
        online = _online(frame)
        target = _asked(cpus, online) if cpus else _proposed(frame, sched, online)
        chosen = neighbours(self.id, sched, named if colon else None)
        goal = cpulist.show(target)
        processes: list[Process] = []
        lines: list[str] = []
        stay: list[str] = []
        root: list[str] = []
        with closing(CgroupReader()) as cgroups:
            for pid, one in chosen.items():
                allowed = cpuset_of(cgroups, pid)
                reachable = target if allowed is None else target & allowed
                process = self.of_process(pid, cpulist.show(reachable)) if reachable else None
                if process is None:
                    name = f"{one.comm} ({pid})"
                    stay.append(f"{name}: there already" if reachable else f"{name}: its cgroup allows none of them")
                    continue
                processes.append(process)
                lines.append(told(one, process))
                if not may_set(pid):
                    root.append(f"{one.comm} ({pid}) is another user's")
        if not processes:
            raise Refused(f"nobody can be moved to CPUs {goal}: {'; '.join(stay)}")
        free = online - target
        pids = ",".join(str(pid) for pid in chosen)
        names = ", ".join(dict.fromkeys(one.comm for one in chosen.values()))
        return Plan(
            knob=self.id,
            value=f"{goal}:{pids}",
            summary=f"keep {names} on CPUs {goal}",
            preview=(
                *lines,
                *stay,
                f"CPUs {cpulist.show(free)} are left to the server" if free else "all CPUs stay shared",
            ),
            record=make_record(f"{goal}:{pids}", processes),
            warnings=("what they do gets slower: they share those CPUs among themselves",),
            command="; ".join(f"taskset -acp {goal} {one['pid']}" for one in processes[:2]),
            root=bool(root),
            right=f"root: {root[0]}" if root else "none beyond your own",
            hurts="requests in flight go on; the neighbours get less of the CPUs",
            undone="`qtop undo` puts every mask back",
        )

    def now(self, tid: int) -> str | None:
        """sched_getaffinity(2)."""
        try:
            return cpulist.show(os.sched_getaffinity(tid))
        except OSError:
            return None

    def put(self, tid: int, value: str) -> None:
        """sched_setaffinity(2)."""
        try:
            os.sched_setaffinity(tid, cpulist.parse(value))
        except ProcessLookupError:
            return
        except PermissionError:
            raise Refused(f"no permission to change the CPUs of thread {tid}", "It takes their user or root.") from None
        except OSError as error:
            raise Refused(f"the kernel refuses CPUs {value} for thread {tid}: {error.strerror}") from None

    def wanted(self, goal: str, old: str) -> str | None:
        """Those of its CPUs that are among these; a thread that has none of them gets them all."""
        target = cpulist.parse(goal)
        return cpulist.show(cpulist.parse(old) & target or target)

    def valid(self, old: str, new: str) -> bool:
        """Two lists of CPUs."""
        return CPU_LIST.fullmatch(old) is not None and CPU_LIST.fullmatch(new) is not None


def _online(frame: Frame) -> frozenset[int]:
    if isinstance(frame.host, HostView) and frame.host.per_cpu:
        return frozenset(frame.host.per_cpu)
    return frozenset(range(os.cpu_count() or 1))


def _asked(text: str, online: frozenset[int]) -> frozenset[int]:
    asked = cpus_asked(text, "4-7, or 4-7:PID,PID")
    if not asked <= online:
        raise QtopError(f"this host has no CPU {cpulist.show(asked - online)}", f"It has {cpulist.show(online)}.")
    return asked


def _proposed(frame: Frame, sched: SchedView, online: frozenset[int]) -> frozenset[int]:
    """The CPUs that the server may not use; where it may use all, those that it can do without."""
    allowed = frozenset[int]().union(
        *(cpulist.parse_or_empty(thread.allowed) for thread in sched.critical or sched.threads[:1])
    )
    rest = online - allowed if allowed else frozenset[int]()
    if rest:
        return rest
    needed = max(1, math.ceil(sum(one.run + one.contended for one in sched.threads if one.run + one.contended >= BUSY)))
    if needed >= len(online):
        raise Refused(
            f"the server can use all {len(online)} CPUs itself: there is nowhere to move others to",
            "Lower their priority instead: neighbours-nice.",
        )
    local: frozenset[int] = frozenset()
    if not isinstance(frame.gpus, Absent) and frame.gpus and not isinstance(frame.gpus[0].local_cpus, Absent):
        local = cpulist.parse_or_empty(frame.gpus[0].local_cpus)
    # To the server first those near its GPU, then the lowest numbers.
    ordered = sorted(online, key=lambda cpu: (cpu not in local, cpu))
    return frozenset(ordered[needed:])
