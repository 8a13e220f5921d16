"""Where a running server's log is, however it was started, and its last lines."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from qtop.act.launchers.capture import OWN, TAIL, on_terminal, output_file, tail
from qtop.act.launchers.container import foreign
from qtop.act.launchers.containers import LINES, container_of
from qtop.act.launchers.systemctl import NAME, Manager
from qtop.act.launchers.unit_place import unit_of
from qtop.act.serve.control import child_alive, states
from qtop.act.within import TooLong, within
from qtop.collect.discover import in_container, started
from qtop.collect.discover.procfs import PROC, text
from qtop.collect.discover.tree import server_root, server_tree
from qtop.errors import QtopError, Refused
from qtop.record.names import local_users
from qtop.sample import Absent, ServerInfo

SAME_S = 2.0
"""Start times of one process that two looks may give: they are reckoned from the clock, which may be set."""
PATIENCE_S = 10.0
"""For one answer of Docker or of the journal."""
WHOLE_S = 25.0
"""For all of it: a file may lie on a network that hangs, where nothing else ends the wait."""
NAMES = "Write it to a file, and pass --log FILE."


@dataclass(frozen=True)
class ServerLog:
    """The last lines, oldest first, and where they come from, in words."""

    lines: tuple[str, ...]
    where: str
    container: tuple[str, ...] = ()
    """The id of the container that the server runs in, and what else it is called there; none outside."""
    hosts: tuple[str, ...] = ()
    """Host names that are that container's alone."""
    users: tuple[str, ...] = ()
    """People of its own user list."""


def log_of_server(server: ServerInfo | Absent, patience: float = WHOLE_S) -> ServerLog:
    """The log of a server as a recording tells of it, if it still runs here. Refused, with the reason, where there is
    none to be had, or not within ``patience`` seconds."""
    if isinstance(server, Absent):
        raise Refused("no server was recorded")
    pid, begun = server.pid, server.started
    if isinstance(pid, Absent) or isinstance(begun, Absent):
        raise Refused("which process the server was is not recorded")
    now = started(pid)
    if isinstance(now, Absent) or abs(now - begun) > SAME_S:
        raise Refused("the recorded server does not run here now")
    try:
        return within(patience, lambda: find(server_root(pid)), "qtop-server-log")
    except TooLong:
        raise Refused(f"it could not be read within {patience:.0f} s") from None


def find(pid: int) -> ServerLog:
    """The log of the server of this process; Refused, with the reason, where there is none to be had."""
    for state in states():
        # What it runs may be a shell or a launcher, with the server below.
        if child_alive(state) and pid in server_tree(state["child"][0]):
            return filled(ServerLog(tuple(tail(Path(state["log"]))), f"the log of `qtop serve` ({state['log']})"))
    place = output_file(pid)
    if place is not None:
        within = place.is_relative_to(PROC) and in_container(pid)
        return filled(ServerLog(tuple(tail(place)), str(place), users=_people(pid) if within else ()))
    if in_container(pid):
        return _of_container(pid)
    if on_terminal(pid):
        # Before its unit: a terminal opened from a service is in that service's cgroup, and not in its journal.
        raise Refused(
            "the server writes to a terminal",
            "Save what stands there (in tmux: tmux capture-pane -pJ -S - -t PANE > FILE), and pass --log FILE.",
        )
    unit = unit_of(text(f"/proc/{pid}/cgroup"))
    if unit is not None and NAME.fullmatch(unit.name):
        return _of_unit(unit.name, unit.uid)
    if not os.access(f"/proc/{pid}/fd", os.R_OK | os.X_OK):
        raise Refused(
            f"where the server writes to cannot be seen: {OWN}", "Run qtop as root (sudo qtop …), or pass --log FILE."
        )
    raise Refused("the server's output goes to another program", NAMES)


def _of_container(pid: int) -> ServerLog:
    cgroup = text(f"/proc/{pid}/cgroup")
    if who := foreign(cgroup):
        raise Refused(f"the server runs in {who}", NAMES)
    found = container_of(pid, PATIENCE_S)
    if found is None:
        raise Refused("the server runs in a container whose manager is not known here", NAMES)
    engine, told = found
    number, name = str(told["Id"]), str(told["Name"]).lstrip("/")
    own = told["Config"].get("Hostname") or ""
    lines = engine.read_log(number, LINES)
    names = tuple(dict.fromkeys((number, number[:12], name)))
    hosts = (own,) if own and own not in names else ()
    return filled(ServerLog(tuple(lines), f"Docker's log of {name}", names, hosts, _people(pid)))


def _of_unit(name: str, uid: int | None) -> ServerLog:
    lines = Manager(uid is not None).read_journal(name, 0.0, uid, PATIENCE_S)
    where = f"the journal of {name}"
    if not lines and os.geteuid():
        raise Refused(
            f"nothing can be read from {where}", "Run qtop as root (sudo qtop …), or join the group systemd-journal."
        )
    return filled(ServerLog(tuple(lines), where))


def _people(pid: int) -> tuple[str, ...]:
    """Who may be named in what a process in a container writes."""
    return local_users(Path(f"/proc/{pid}/root/etc/passwd"))


def named(path: Path) -> ServerLog:
    """The end of a file that somebody names; QtopError when it cannot be read."""
    if not path.is_file():
        raise QtopError(f"{path} is not a plain file" if path.exists() else f"there is no file {path}")
    return ServerLog(tuple(tail(path, strict=True)), str(path))


def filled(log: ServerLog) -> ServerLog:
    """With so many of its last lines as are read from a file too."""
    kept, left = 0, TAIL
    for line in reversed(log.lines):
        left -= len(line) + 1
        if left < 0:
            break
        kept += 1
    if not kept:
        raise Refused(f"nothing can be read from {log.where}")
    return replace(log, lines=log.lines[-kept:])
