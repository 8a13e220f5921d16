"""The knob ``neighbours-nice``: the nice value of the processes beside the server. Live, reversible.

Where the kernel groups by session (autogroups) it is the session's own nice value that counts; between CPU cgroups none
does. A user may raise a nice value, and take it back only within RLIMIT_NICE or as root (setpriority(2)): what cannot
be taken back without root is done by root.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtop.act.change import Plan, Reading, Record, Work
from qtop.act.knobs import cpu_groups
from qtop.act.knobs.cpu_groups import autogroup, cpu_group
from qtop.act.knobs.files import write
from qtop.act.knobs.kin import all_stats
from qtop.act.knobs.neighbours import NeighbourKnob, Process, make_record, neighbours, told, whose
from qtop.act.knobs.processes import CAP_SYS_NICE, capable, owners_of, pid_namespace
from qtop.act.watched import threads_of
from qtop.clock import boot_id
from qtop.errors import QtopError, Refused
from qtop.model.frame import Competitor, Frame, SchedView

VALUE = re.compile(r"(\d{1,2})?(?::(.*))?", re.ASCII)
LOWEST = 19
SOFT = (os.SCHED_OTHER, os.SCHED_BATCH)
"""Policies for which a nice value counts (sched(7))."""
AGAIN_S = 0.15
"""The kernel takes one change of an autogroup in 0.1 s from an ordinary user (kernel/sched/autogroup.c)."""
SESSION = re.compile(r"/autogroup-\d{1,20}", re.ASCII)


@dataclass
class _Found:
    """What a plan collects."""

    processes: list[Process] = field(default_factory=list)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Neighbours in another CPU cgroup."""
    already: list[str] = field(default_factory=list)
    root: list[str] = field(default_factory=list)
    """Why it takes root."""


class NeighboursNice(NeighbourKnob):
    """setpriority(2) on each of their threads, or /proc/PID/autogroup of their session."""

    id = "neighbours-nice"
    title = "nice value of the processes beside the server"
    needs = "their user, and root to take it back; root for other users' processes"
    example = "19 or 19:812,815"
    word = "nice"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """All who are seen on the CPUs that the server waits for, or those named: to 19, or to another value."""
        sched = threads_of(frame)
        level, named = _asked(value)
        chosen = neighbours(self.id, sched, named)
        found = _Found()
        for one in chosen.values():
            self._look(one, _server(sched), level, found)
        if not found.processes and not found.sessions:
            _refuse(found, level)
        pids = ",".join(str(pid) for pid in chosen)
        sessions = list(found.sessions.values())
        names = ", ".join(dict.fromkeys(one.comm for one in chosen.values()))
        record = make_record(f"{level}:{pids}", found.processes) | {"sessions": sessions}
        notes = [
            f"{', '.join(found.elsewhere)}: in another CPU cgroup, where a nice value does not count against the server"
        ]
        return Plan(
            knob=self.id,
            value=f"{level}:{pids}",
            summary=f"let {names} have the server's CPUs only as far as nice {level} goes",
            preview=(*found.lines, *(notes if found.elsewhere else ())),
            record=record,
            warnings=("what they do gets slower while the server wants those CPUs",),
            command="; ".join(_commands(found.processes, sessions, level)),
            root=bool(found.root),
            right=f"root: {found.root[0]}" if found.root else "none beyond your own",
            hurts="requests in flight go on; the neighbours get less of the CPUs",
            undone="`qtop undo` puts every nice value back" + (", as root" if found.root else ""),
        )

    def _look(self, one: Competitor, server: int, level: int, found: _Found) -> None:
        """Sort one neighbour."""
        mine, theirs = cpu_group(server), cpu_group(one.pid)
        name = f"{one.comm} ({one.pid})"
        if mine is None or theirs is None or mine.name != theirs.name:
            found.elsewhere.append(name)
            return
        session, own = autogroup(one.pid), autogroup(server)
        if mine.root and cpu_groups.autogroups_on() and session and own and session[0] != own[0]:
            self._look_at_session(one, session, level, found)
            return
        process = self.of_process(one.pid, str(level))
        if process is None:
            found.already.append(name)
            return
        found.processes.append(process)
        found.lines.append(told(one, process))
        if why := _takes_root(one.pid, process):
            found.root.append(why)

    def _look_at_session(self, one: Competitor, session: tuple[str, int], level: int, found: _Found) -> None:
        name, nice = session
        if nice >= level:
            found.already.append(f"{one.comm} ({one.pid})")
            return
        if name in found.sessions:
            return
        members = [pid for pid in all_stats() if (theirs := autogroup(pid)) is not None and theirs[0] == name]
        found.sessions[name] = {"name": name, "comm": one.comm, "old": str(nice), "new": str(level), "pids": members}
        many = f", {len(members)} processes" if len(members) > 1 else ""
        found.lines.append(f"the session of {one.comm} ({one.pid}){whose(one.pid)}{many}: nice {nice} → {level}")
        if os.geteuid() not in (0, *owners_of(one.pid)[1:]):
            found.root.append(f"{one.comm} ({one.pid}) is another user's")
        elif nice < 0 and not capable(CAP_SYS_NICE):
            found.root.append("only root gives back a negative nice value")

    def now(self, tid: int) -> str | None:
        """getpriority(2)."""
        try:
            return str(os.getpriority(os.PRIO_PROCESS, tid))
        except OSError:
            return None

    def put(self, tid: int, value: str) -> None:
        """setpriority(2), which on Linux is for one thread."""
        try:
            os.setpriority(os.PRIO_PROCESS, tid, int(value))
        except ProcessLookupError:
            return
        except OSError:
            raise Refused(
                f"no permission to set thread {tid} to nice {value}",
                "Only root, or who has RLIMIT_NICE for it, may lower a nice value.",
            ) from None

    def wanted(self, goal: str, old: str) -> str | None:
        """Only ever up."""
        return goal if int(old) < int(goal) else None

    def of_process(self, pid: int, goal: str) -> Process | None:
        """Without threads that are scheduled by another policy: real-time, deadline, idle."""
        process = super().of_process(pid, goal)
        if process is None:
            return None
        for tid in [tid for tid in process["threads"] if not _soft(int(tid))]:
            process["others"][tid] = process["threads"].pop(tid)[0]
        return process if process["threads"] else None

    def valid(self, old: str, new: str) -> bool:
        """Root gives back no negative value on somebody's behalf: that would be a gift."""
        return all(re.fullmatch("[0-9]{1,2}", one) for one in (old, new)) and 0 <= int(old) < int(new) <= LOWEST

    def apply(self, record: Record, work: Work) -> None:
        """Sessions first, then threads."""
        for session in record["sessions"]:
            _set_session(record, session, "old", "new")
        super().apply(record, work)

    def read(self, record: Record) -> Reading:
        """Threads, and sessions."""
        reading = super().read(record)
        for session in record["sessions"]:
            now = None if reading.elsewhere else _member(record, session)
            what = f"nice of the session of {session['comm']}"
            reading.put(what, session["old"], session["new"], None if now is None else str(now[1]))
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """Threads, then sessions."""
        failed: Refused | None = None
        try:
            super().restore(record, work)
        except Refused as error:
            failed = error
        for session in record["sessions"]:
            _set_session(record, session, "new", "old")
        if failed is not None:
            raise failed

    def check(self, record: Record) -> None:
        """Also sessions are sessions."""
        super().check(record)
        for session in record["sessions"]:
            if not SESSION.fullmatch(session["name"]) or not all(isinstance(pid, int) for pid in session["pids"]):
                raise Refused("no session")
            if not self.valid(session["old"], session["new"]):
                raise Refused(f"{self.id} does not put {session['new']!r} in place of {session['old']!r}")


def _asked(value: str | None) -> tuple[int, str | None]:
    """The nice value, and the processes named."""
    found = VALUE.fullmatch(value) if value is not None else None
    if value is not None and (found is None or not value):
        raise QtopError(f"neighbours-nice cannot be {value!r}", "It takes a nice value from 1 to 19, or 19:PID,PID.")
    level, named = (found[1], found[2]) if found is not None else (None, None)
    if level is not None and not 1 <= int(level) <= LOWEST:
        raise QtopError(
            f"neighbours-nice cannot be {level}", "It takes a nice value from 1 to 19: it only ever lowers."
        )
    return int(level) if level is not None else LOWEST, named


def _server(sched: SchedView) -> int:
    return (sched.critical or sched.threads)[0].pid


def _refuse(found: _Found, level: int) -> None:
    if found.elsewhere:
        raise Refused(
            f"{', '.join(found.elsewhere)}: in another CPU cgroup than the server, where no nice value counts for it",
            "The cgroups' weights do: `qtop apply cpu-weight`.",
        )
    raise Refused(f"{', '.join(found.already)}: nice {level} or higher already, or not scheduled by it")


def _commands(processes: list[Process], sessions: list[dict[str, Any]], level: int) -> list[str]:
    """At most two."""
    by_thread = [f"renice -n {level} -p $(ls /proc/{one['pid']}/task)" for one in processes]
    by_session = [f"echo {level} > /proc/{one['pids'][0]}/autogroup" for one in sessions if one["pids"]]
    return [*by_session, *by_thread][:2]


def _takes_root(pid: int, process: Process) -> str:
    """Why a change of these threads, and its undoing, take root; "" where they do not."""
    if capable(CAP_SYS_NICE):
        return ""
    if os.geteuid() not in owners_of(pid):
        return f"{process['comm']} ({pid}) is another user's"
    lowest = min(int(old) for _, old, _ in process["threads"].values())
    try:
        limit = resource.prlimit(pid, resource.RLIMIT_NICE)[0]
    except (OSError, ValueError):
        limit = 0
    if limit == resource.RLIM_INFINITY or lowest >= 20 - limit:
        return ""
    return "an ordinary user may raise a nice value but not take it back (RLIMIT_NICE), so root does both"


def _soft(tid: int) -> bool:
    try:
        return os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK in SOFT
    except OSError:
        return False


def _member(record: Record, session: dict[str, Any]) -> tuple[int, int] | None:
    """A process of the session, and the session's nice value now; None when the session has ended.

    Its number is never given again in this boot.
    """
    if record["boot"] != boot_id() or record["pidns"] != pid_namespace():
        return None
    for pid in (*session["pids"], *all_stats()):
        now = autogroup(pid)
        if now is not None and now[0] == session["name"]:
            return pid, now[1]
    return None


def _set_session(record: Record, session: dict[str, Any], before: str, after: str) -> None:
    """Write the session's nice value where it holds that of ``before``."""
    found = _member(record, session)
    if found is None or str(found[1]) != session[before]:
        return
    for attempt in range(5):
        try:
            write(Path(f"/proc/{found[0]}/autogroup"), session[after])
            return
        except OSError as error:
            if error.errno == errno.EAGAIN and attempt < 4:
                time.sleep(AGAIN_S)
                continue
            if error.errno in (errno.ENOENT, errno.ESRCH):
                return
            raise Refused(
                f"the session of {session['comm']} cannot be set to nice {session[after]}: {error.strerror}"
            ) from None
