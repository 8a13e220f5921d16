"""Where a running server's log is, however it was started, and its last lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtop.act.launchers.capture import output_file, tail
from qtop.act.launchers.containers import container_of, log_of
from qtop.act.launchers.systemctl import NAME, Manager
from qtop.act.launchers.unit_place import unit_of
from qtop.act.serve.control import is_alive, states
from qtop.collect.discover import in_container, started
from qtop.collect.discover.procfs import text
from qtop.collect.discover.tree import server_root
from qtop.errors import QtopError, Refused
from qtop.sample import Absent, ServerInfo

SAME_S = 2.0
"""Start times of one process that two looks may give: they are reckoned from the clock, which may be set."""


@dataclass(frozen=True)
class ServerLog:
    """The last lines, oldest first, and where they come from, in words."""

    lines: tuple[str, ...]
    where: str


def log_of_server(server: ServerInfo | Absent) -> ServerLog:
    """The log of a server as a recording tells of it, if it still runs here. Refused, with the reason, where there is
    none to be had."""
    if isinstance(server, Absent):
        raise Refused("no server was recorded")
    pid, begun = server.pid, server.started
    if isinstance(pid, Absent) or isinstance(begun, Absent):
        raise Refused("which process the server was is not recorded")
    now = started(pid)
    if isinstance(now, Absent) or abs(now - begun) > SAME_S:
        raise Refused("the recorded server does not run here now")
    return find(server_root(pid))


def find(pid: int) -> ServerLog:
    """The log of the server of this process; Refused, with the reason, where there is none to be had."""
    for state in states():
        if is_alive(state) and (state.get("child") or [0])[0] == pid:
            return _filled(tail(Path(state["log"])), f"the log of `qtop serve` ({state['log']})")
    place = output_file(pid)
    if place is not None:
        return _filled(tail(place), str(place))
    if in_container(pid):
        found = container_of(pid)
        if found is None:
            raise Refused("the server runs in a container whose manager is not known here")
        engine, told = found
        return _filled(log_of(engine, str(told["Id"])), f"Docker's log of {str(told['Name']).lstrip('/')}")
    unit = unit_of(text(f"/proc/{pid}/cgroup"))
    if unit is not None and NAME.fullmatch(unit.name):
        return _filled(Manager(unit.uid is not None).journal(unit.name, 0.0), f"the journal of {unit.name}")
    raise Refused("the server's output goes to a terminal or another program")


def named(path: Path) -> ServerLog:
    """The end of a file that somebody names; QtopError when it cannot be read."""
    if not path.is_file():
        raise QtopError(f"{path} is not a plain file" if path.exists() else f"there is no file {path}")
    return ServerLog(tuple(tail(path, strict=True)), str(path))


def _filled(lines: list[str], where: str) -> ServerLog:
    if not lines:
        raise Refused(f"nothing can be read from {where}")
    return ServerLog(tuple(lines), where)
