"""Servers that have been started and do not listen yet: by their arguments alone, since there is nothing to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtop.collect.discover.procfs import PROC
from qtop.collect.discover.reach import ways
from qtop.collect.discover.servers import NAMES
from qtop.collect.discover.snapshot import Snapshot
from qtop.collect.discover.sockets import LOOPBACK4, url


@dataclass(frozen=True)
class Starting:
    """The root process of a known server that has no socket to answer on."""

    pid: int
    start_ticks: int
    argv: tuple[str, ...]
    """As read: it may hold secrets."""
    engine: str
    port: int
    """Where it will listen, by its arguments or its engine's default."""
    url: str


NO_SERVER = frozenset(("--headless", "--help", "-h", "--help=all", "--version"))
"""Words with which none of them ever listens: of those with the second, qtop's own questions are the most."""


def starting(root: Path = PROC) -> tuple[Starting, ...]:
    """All of them, the latest first. One that never listens (``vllm serve --headless``) is none."""
    return found_in(Snapshot(root))


def found_in(snapshot: Snapshot) -> tuple[Starting, ...]:
    """Those of one look at the machine."""
    found = []
    for pid in snapshot.roots:
        process, what = snapshot.processes.get(pid), snapshot.engine(pid)
        if process is None or what is None or what.engine not in NAMES or not isinstance(process.argv, tuple):
            continue
        if not process.argv or not NO_SERVER.isdisjoint(process.argv) or ways(snapshot, pid):
            continue
        where = snapshot.endpoint(pid)
        port = where.port or what.port
        if _out_of_reach(snapshot, pid, port):
            continue
        address = url(LOOPBACK4, port, where.scheme)
        found.append(Starting(pid, process.start_ticks, process.argv, what.engine, port, address))
    return tuple(sorted(found, key=lambda one: -one.start_ticks))


def _out_of_reach(snapshot: Snapshot, pid: int, port: int) -> bool:
    """Whether it may well listen, but where qtop cannot see or get: in the network of a container."""
    net = snapshot.net(pid)
    listeners = snapshot.listeners(net)
    return listeners is None or (net != snapshot.own_net and any(item.port == port for item in listeners))
