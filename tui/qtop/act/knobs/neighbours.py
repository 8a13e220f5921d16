"""What the knobs on the server's neighbours share: who they are, and one value for each of their threads.

A record: {"boot", "pidns", "new": the value as a user writes it, "at": clock ticks since boot, "processes": [{"pid",
"start", "comm", "group", "goal", "threads": {tid: [birth, old, new]}, "others": {tid: birth}}]}.
Threads and children born later inherit the value; applying and restoring look for them until none is left over.
"""

from __future__ import annotations

import os
import pwd
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from qtop.act.change import Knob, Reading, Record, Work
from qtop.act.knobs.kin import born_since, descendants, group_of, is_kernels, now_ticks
from qtop.act.knobs.processes import comm_of, is_same, owners_of, pid_namespace, start_ticks, tids_of
from qtop.clock import boot_id
from qtop.collect.discover import procfs
from qtop.errors import QtopError, Refused
from qtop.model.frame import Competitor, SchedView
from qtop.sample import Absent
from qtop.units import plural

ROUNDS = 8
"""Looks for threads born meanwhile before giving up."""
PIDS = re.compile(r"\d{1,10}(,\d{1,10}){0,63}", re.ASCII)
Process = dict[str, Any]
"""One process of a record."""


class NeighbourKnob(Knob):
    """A value of each thread of the processes beside the server."""

    by_neighbours = True
    word: ClassVar[str]
    """What the value is."""

    def now(self, tid: int) -> str | None:
        """The thread's value, None when it is gone."""
        raise NotImplementedError

    def put(self, tid: int, value: str) -> None:
        """Give it this value; nothing happens when it is gone. Refused where the kernel does not let it be."""
        raise NotImplementedError

    def wanted(self, goal: str, old: str) -> str | None:
        """The value for a thread that has ``old`` now; None: leave it."""
        raise NotImplementedError

    def valid(self, old: str, new: str) -> bool:
        """For the helper: whether this knob could have meant to put ``new`` in place of ``old``."""
        raise NotImplementedError

    def of_process(self, pid: int, goal: str) -> Process | None:
        """What a record says of one process: its threads to change, and those to leave. None where there is nothing to
        change."""
        start = start_ticks(pid, pid, ended=True)
        threads: dict[str, list[Any]] = {}
        others: dict[str, int] = {}
        for tid, born, value in self.living(pid):
            new = self.wanted(goal, value)
            if new is None or new == value:
                others[str(tid)] = born
            else:
                threads[str(tid)] = [born, value, new]
        if start is None or not threads:
            return None
        found = {"pid": pid, "start": start, "comm": comm_of(pid), "group": group_of(pid), "goal": goal}
        return found | {"threads": threads, "others": others}

    def living(self, pid: int) -> Iterator[tuple[int, int, str]]:
        """The threads of a process: number, birth, value."""
        for tid in tids_of(pid):
            born, value = start_ticks(pid, tid), self.now(tid)
            if born is not None and value is not None:
                yield tid, born, value

    def apply(self, record: Record, work: Work) -> None:
        """Put the new value on each thread of the record; one born since with an old value joins the record first."""
        for _ in range(ROUNDS):
            if self._add_newborn(record):
                work.save()
            changed = False
            for process in record["processes"]:
                if is_same(record, process):
                    changed = self._turn(process, 1, 2) or changed
            if not changed:
                return

    def read(self, record: Record) -> Reading:
        """Each thread of the record: qtop's value, the old one, gone, or somebody else's."""
        reading = Reading()
        if record["boot"] == boot_id() and record["pidns"] != pid_namespace():
            reading.elsewhere = "the change was made in another container: its processes cannot be seen from here"
        for process in record["processes"]:
            alive = not reading.elsewhere and is_same(record, process)
            for tid, (born, old, new) in process["threads"].items():
                now = self.now(int(tid)) if alive and start_ticks(process["pid"], int(tid)) == born else None
                reading.put(f"{self.word} of thread {tid} of {process['comm']}", old, new, now)
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """Put the old value back on each thread that holds qtop's; first on those born since that have inherited it:
        while a thread of the record holds it, undo is not over."""
        if record["boot"] != boot_id():
            return
        failed: Refused | None = None
        for _ in range(ROUNDS):
            changed = False
            try:
                changed = self._give_back_inherited(record)
            except Refused as error:
                failed = failed or error
            for process in record["processes"]:
                try:
                    if is_same(record, process):
                        changed = self._turn(process, 2, 1) or changed
                except Refused as error:
                    failed = failed or error
            if not changed or failed is not None:
                break
        if failed is not None:
            raise failed

    def _turn(self, process: Process, before: int, after: int) -> bool:
        """Give each thread of the record that holds one of its two values the other; True if any had it to be given.

        Refused, after all others, if one cannot be given its value.
        """
        changed = False
        failed: Refused | None = None
        for tid, born, value in self.living(process["pid"]):
            entry = process["threads"].get(str(tid))
            if entry is None or entry[0] != born or value != entry[before]:
                continue
            try:
                self.put(tid, entry[after])
            except Refused as error:
                failed = failed or error
                continue
            changed = True
            now = self.now(tid)
            if now not in (entry[after], None):
                self.put(tid, value)
                failed = failed or Refused(
                    f"the kernel gives thread {tid} of {process['comm']} {self.word} {now} instead of {entry[after]}"
                )
        if failed is not None:
            raise failed
        return changed

    def _add_newborn(self, record: Record) -> bool:
        """Add threads and children born since the plan that inherited an old value; True if there were any."""
        added = False
        alive = [process for process in record["processes"] if is_same(record, process)]
        for process in alive:
            olds = {old for _, old, _ in process["threads"].values()}
            for tid, born, value in self.living(process["pid"]):
                if self._knows(process, tid, born) or value not in olds:
                    continue
                new = self.wanted(process["goal"], value)
                if new is not None and new != value:
                    process["threads"][str(tid)] = [born, value, new]
                    added = True
        members = {process["pid"]: process for process in alive}
        for kin in born_since(record["at"], members, {}):
            child = self.of_process(kin.pid, members[kin.ancestor]["goal"])
            if child is not None:
                record["processes"].append(child)
                added = True
        return added

    def _give_back_inherited(self, record: Record) -> bool:
        """Give threads and children that are not in the record and hold a value that qtop gave their parents the old
        one; True if any did."""
        changed = False
        members: dict[int, Process] = {process["pid"]: process for process in record["processes"]}
        for process in record["processes"]:
            if is_same(record, process):
                changed = self._inherit(process, process["pid"], record["at"], process) or changed
        alive = [pid for pid, process in members.items() if is_same(record, process)]
        groups = {process["group"]: pid for pid, process in members.items() if process["group"] > 1}
        for kin in born_since(record["at"], alive, groups):
            changed = self._inherit(members[kin.ancestor], kin.pid, record["at"], None) or changed
        return changed

    def _inherit(self, parent: Process, pid: int, since: int, own: Process | None) -> bool:
        changed = False
        news = {new: old for _, old, new in parent["threads"].values()}
        main = parent["threads"].get(str(parent["pid"]))
        if main is not None:
            news[main[2]] = main[1]
        for tid, born, value in self.living(pid):
            if value not in news or born < since or (own is not None and self._knows(own, tid, born)):
                continue
            self.put(tid, news[value])
            changed = True
        return changed

    @staticmethod
    def _knows(process: Process, tid: int, born: int) -> bool:
        birth: int | None = process["threads"].get(str(tid), [None])[0]
        return born in (birth, process["others"].get(str(tid)))

    def check(self, record: Record) -> None:
        """Threads are threads, values are values of this knob; whose they are, root does not mind, but they are nobody
        else's than a process's of the host: not the first one's, not the kernel's."""
        if not all(isinstance(record[key], kind) for key, kind in (("boot", str), ("pidns", str), ("at", int))):
            raise Refused("this is no record of a change")
        for process in record["processes"]:
            pid = process["pid"]
            if not isinstance(pid, int) or pid < 2 or is_kernels(pid):
                raise Refused(f"no neighbour of a server: {pid!r}")
            for _, old, new in process["threads"].values():
                if not (isinstance(old, str) and isinstance(new, str) and self.valid(old, new)):
                    raise Refused(f"{self.id} does not put {new!r} in place of {old!r}")


def make_record(new: str, processes: list[Process]) -> Record:
    """The record of a change of these processes."""
    return {
        "boot": boot_id(),
        "pidns": pid_namespace(),
        "new": new,
        "at": now_ticks(),
        "processes": processes,
    }


def neighbours(knob: str, sched: SchedView, named: str | None) -> dict[int, Competitor]:
    """The processes to change, by number: those seen on the CPUs that the server waits for, or those named.

    Never the server's own, qtop's own, the first process or the kernel's. Errors: Refused where there are none,
    QtopError for one that cannot be meant.
    """
    own = descendants([os.getpid()])
    servers = {thread.pid for thread in sched.threads}
    seen = {} if isinstance(sched.competitors, Absent) else {one.pid: one for one in sched.competitors}
    if named is None:
        found = {}
        for pid, one in seen.items():
            if pid > 1 and not is_kernels(pid) and pid not in own | servers:
                found[pid] = one
        if not found:
            raise Refused(
                "no other process is seen on the CPUs that the server waits for",
                f"Others are looked at only while it waits for a CPU; {knob}=…:PID names one.",
            )
        return found
    if not PIDS.fullmatch(named):
        raise QtopError(f"no process numbers: {named!r}", "Write them like 812,815.")
    chosen = {}
    for pid in dict.fromkeys(int(number) for number in named.split(",")):
        stat = procfs.stat(pid)
        if pid in servers or pid in own:
            raise QtopError(f"process {pid} is {'the server' if pid in servers else 'qtop'} itself")
        if pid < 2 or is_kernels(pid):
            raise QtopError(f"process {pid} is the system's own")
        if stat is not None:
            chosen[pid] = seen.get(pid) or Competitor(pid, stat.comm, 0.0, str(stat.processor))
    if not chosen:
        raise Refused("those processes have ended", "Look again.")
    return chosen


def whose(pid: int) -> str:
    """ " of USER" where it is not this user's, else ""."""
    owners = owners_of(pid)
    if not owners or owners[-1] == os.geteuid():
        return ""
    uid = owners[-1]
    try:
        return f" of {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f" of user {uid}"


def told(one: Competitor, process: Process) -> str:
    """One line of a preview: who, and from what to what."""
    counted = Counter((old, new) for _, old, new in process["threads"].values())
    used = f", {one.share:.0%} of a CPU" if one.share else ""
    changes = ", ".join(f"{plural(count, 'thread')} {old} → {new}" for (old, new), count in counted.most_common(3))
    return f"{one.comm} ({one.pid}){whose(one.pid)}{used}: {changes}"
