"""The knob ``cpu-affinity``: which CPUs the server's threads may use. Live, reversible, no restart.

A thread born later inherits its creator's mask, so applying and restoring look again until no thread is left over.
Threads whose mask differs from both their main thread's and the waiting thread's were pinned on purpose: they stay.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.act.knobs.cpus import CPU_LIST, cpus_asked, cpuset_of
from qtop.act.knobs.processes import comm_of, is_same, may_set, pid_namespace, start_ticks, tids_of
from qtop.act.watched import threads_of
from qtop.clock import boot_id
from qtop.collect.cgroup import CgroupReader
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, HostView, SchedView
from qtop.sample import Absent, ServerInfo, cpulist
from qtop.units import plural

ROUNDS = 8
"""Looks for threads born meanwhile before giving up."""


class CpuAffinity(Knob):
    """sched_setaffinity(2) on each thread of the server."""

    id = "cpu-affinity"
    title = "CPUs that the server's threads may use"
    needs = "the server's user, or root (CAP_SYS_NICE)"
    example = "0-7"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """Widen to the CPUs that the cgroup allows, those local to the GPU first; or to ``value``, a kernel CPU
        list."""
        sched = threads_of(frame)
        worst = sched.critical[0]
        possible = _possible(frame, sched)
        target = _propose(frame, possible, worst.allowed) if value is None else _asked(value, possible)
        processes: list[dict[str, Any]] = []
        before: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        root = False
        with closing(CgroupReader()) as cgroups:
            for pid in sorted({thread.pid for thread in sched.threads}):
                root = root or not may_set(pid)
                # A part of the server may sit in a cgroup of its own, and the kernel would cut its mask without a word.
                allowed = cpuset_of(cgroups, pid)
                goal = target if allowed is None else target & allowed
                process = _entry(pid, cpulist.show(goal), worst.allowed, before, kept) if goal else None
                if process is not None:
                    processes.append(process)
        new = cpulist.show(target)
        if not processes:
            if value is not None:
                raise Refused(f"the server's threads may use CPUs {new} already")
            raise Refused(
                f"the server's threads may already use CPUs {new}, all that its cgroup allows",
                "There is nothing to widen: move or stop what runs beside it.",
            )
        preview = [f"{plural(count, 'thread')}: CPUs {old} → {new}" for old, count in before.most_common()]
        preview += [f"{count} with CPUs {mask} of their own: stay" for mask, count in kept.most_common(3) if count]
        record = {
            "boot": boot_id(),
            "pidns": pid_namespace(),
            "new": new,
            "processes": processes,
            "server": _server_name(frame),
        }
        summary = f"let {plural(sum(before.values()), 'thread')} of the server use CPUs {new}"
        return Plan(
            knob=self.id,
            value=new,
            summary=summary,
            preview=tuple(preview),
            record=record,
            warnings=_warnings(frame, target),
            command="; ".join(f"taskset -acp {one['new']} {one['pid']}" for one in processes[:2]),
            root=root,
            right="root: the server belongs to another user" if root else "none beyond your own",
            undone="`qtop undo` puts every mask back",
        )

    def apply(self, record: Record, work: Work) -> None:
        """Set the new mask on each thread of the record; one born since with an old mask joins the record first."""
        for process in record["processes"]:
            if not is_same(record, process):
                continue
            for _ in range(ROUNDS):
                if _add_newborn(process):
                    work.save()
                if not _widen(process):
                    break

    def restore(self, record: Record, work: Work) -> None:
        """Put each old mask back; threads born since with qtop's mask get their main thread's old one.

        Where other threads of the process had qtop's mask before, one born since may be theirs, and stays.
        """
        failed: Refused | None = None
        for process in record["processes"]:
            if not is_same(record, process):
                continue
            for _ in range(ROUNDS):
                try:
                    if not _narrow(process):
                        break
                except Refused as error:
                    failed = failed or error
                    break
        if failed is not None:
            raise failed

    def read(self, record: Record) -> Reading:
        """Each thread of the record: qtop's mask, the old one, gone, or somebody else's."""
        reading = Reading()
        if record["boot"] == boot_id() and record.get("pidns", "") != pid_namespace():
            reading.elsewhere = "the change was made in another container: its processes cannot be seen from here"
        for process in record["processes"]:
            alive = not reading.elsewhere and is_same(record, process)
            new = process["new"]
            for tid, (born, old) in process["threads"].items():
                mask = _mask(int(tid)) if alive and start_ticks(process["pid"], int(tid)) == born else None
                reading.put(f"thread {tid} of {process['comm']}", old, new, mask)
        return reading

    def check(self, record: Record) -> None:
        """Masks are masks and threads are threads of the process they are listed under; whose, root does not mind."""
        for process in record["processes"]:
            masks = [process["new"], *(old for _, old in process["threads"].values())]
            if not all(isinstance(mask, str) and CPU_LIST.fullmatch(mask) for mask in masks):
                raise Refused("not a list of CPUs")
            if not isinstance(process["pid"], int) or process["pid"] < 2:
                raise Refused(f"no process of a server: {process['pid']!r}")


def _entry(pid: int, new: str, waiting: str, before: Counter[str], kept: Counter[str]) -> dict[str, Any] | None:
    """What the record says of one process: the threads to move with their birth and old mask, and those to leave alone.

    Masks are counted in ``before`` and ``kept``. None when there is nothing to move.
    """
    main, start = _mask(pid), start_ticks(pid, pid, ended=True)
    threads: dict[str, list[Any]] = {}
    others: dict[str, int] = {}
    mixed = False
    for tid in tids_of(pid):
        mask, born = _mask(tid), start_ticks(pid, tid)
        if mask is None or born is None:
            continue
        if mask != new and mask in (main, waiting):
            threads[str(tid)] = [born, mask]
            continue
        others[str(tid)] = born
        mixed |= mask == new
        kept[mask] += mask != new
    before.update(mask for _, mask in threads.values())
    if not threads or start is None:
        return None
    found = {"pid": pid, "start": start, "comm": comm_of(pid), "new": new, "mixed": mixed}
    return found | {"threads": threads, "others": others}


def _add_newborn(process: dict[str, Any]) -> bool:
    """Add threads that were born since the plan and inherited a mask that is being replaced; True if there were any."""
    threads = process["threads"]
    olds = {mask for _, mask in threads.values()}
    added = False
    for tid, born, mask in _living(process["pid"]):
        known = threads.get(str(tid), (None,))[0] == born or process["others"].get(str(tid)) == born
        if not known and mask in olds:
            threads[str(tid)] = [born, mask]
            added = True
    return added


def _widen(process: dict[str, Any]) -> bool:
    """Set the new mask on the record's threads that hold their old one; True if any did."""
    new = process["new"]
    changed = False
    for tid, born, mask in _living(process["pid"]):
        entry = process["threads"].get(str(tid))
        if entry is None or entry[0] != born or mask != entry[1]:
            continue
        _set(tid, new)
        changed = True
        now = _mask(tid)
        if now not in (new, None):
            _set(tid, mask)
            raise Refused(
                f"the kernel lets thread {tid} use CPUs {now} instead of {new}: its cgroup allows no others",
                f"Try cpu-affinity={now}.",
            )
    return changed


def _narrow(process: dict[str, Any]) -> bool:
    """Put the old mask back on each thread that holds the new one; True if any did. Refused, after all others, if one
    cannot be."""
    new, threads = process["new"], process["threads"]
    inherited = None if process["mixed"] else _inherited(process)
    changed = False
    failed: Refused | None = None
    for tid, born, mask in _living(process["pid"]):
        if mask != new or process["others"].get(str(tid)) == born:
            continue
        entry = threads.get(str(tid))
        old = entry[1] if entry is not None and entry[0] == born else inherited
        if old is None:
            continue
        try:
            _set(tid, old)
            changed = changed or _mask(tid) != new
        except Refused as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return changed


def _living(pid: int) -> Iterator[tuple[int, int, str]]:
    """The threads of a process: number, birth in clock ticks since boot, mask."""
    for tid in tids_of(pid):
        born, mask = start_ticks(pid, tid), _mask(tid)
        if born is not None and mask is not None:
            yield tid, born, mask


def _possible(frame: Frame, sched: SchedView) -> frozenset[int]:
    """The CPUs that the kernel would accept: the cgroup's, or all that the host has online."""
    if not isinstance(sched.cpuset, Absent):
        return cpulist.parse(sched.cpuset)
    if isinstance(frame.host, HostView) and frame.host.per_cpu:
        return frozenset(frame.host.per_cpu)
    raise Refused(f"the CPUs that its cgroup allows are not known: {sched.cpuset}")


def _propose(frame: Frame, possible: frozenset[int], present: str) -> frozenset[int]:
    """CPUs local to the first GPU where those are more than the present ones, else all."""
    if not isinstance(frame.gpus, Absent) and frame.gpus and not isinstance(frame.gpus[0].local_cpus, Absent):
        local = cpulist.parse(frame.gpus[0].local_cpus) & possible
        if len(local) > len(cpulist.parse(present)):
            return local
    return possible


def _asked(value: str, possible: frozenset[int]) -> frozenset[int]:
    asked = cpus_asked(value, "0-3,8")
    if not asked <= possible:
        raise QtopError(
            f"CPU {cpulist.show(asked - possible)} is not among those that its cgroup allows ({cpulist.show(possible)})"
        )
    return asked


def _warnings(frame: Frame, target: frozenset[int]) -> tuple[str, ...]:
    if isinstance(frame.host, HostView):
        busy = [frame.host.per_cpu[cpu] for cpu in target if cpu in frame.host.per_cpu]
        if busy and sum(busy) / len(busy) > 0.9:
            return (f"these CPUs are {sum(busy) / len(busy):.0%} busy already: expect little",)
    return ()


def _server_name(frame: Frame) -> str:
    server = frame.server
    if not isinstance(server, ServerInfo):
        return ""
    return server.url if isinstance(server.url, str) else server.engine


def _inherited(process: dict[str, Any]) -> str:
    """The mask that a thread not in the record would have: the main thread's old one, else the commonest."""
    threads = process["threads"]
    main = threads.get(str(process["pid"]))
    if main is not None:
        return str(main[1])
    return str(Counter(mask for _, mask in threads.values()).most_common(1)[0][0])


def _mask(tid: int) -> str | None:
    try:
        return cpulist.show(os.sched_getaffinity(tid))
    except OSError:
        return None


def _set(tid: int, mask: str) -> None:
    try:
        os.sched_setaffinity(tid, cpulist.parse(mask))
    except ProcessLookupError:
        return
    except PermissionError:
        raise Refused(
            f"no permission to change the CPUs of thread {tid}", "Run as the server's user or as root (CAP_SYS_NICE)."
        ) from None
    except OSError as error:
        raise Refused(f"the kernel refuses CPUs {mask} for thread {tid}: {error.strerror}") from None
