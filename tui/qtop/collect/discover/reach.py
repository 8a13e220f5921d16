"""By which URL a server is reached from here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qtop.collect.discover.servers import NAMES, USERLAND_PORTS, Recognised
from qtop.collect.discover.snapshot import Snapshot
from qtop.collect.discover.sockets import LOOPBACK4, Listener, one_each, url

_MOST = 4
"""Ports of one server that are worth a try when none is the one it was told to use."""


@dataclass(frozen=True, slots=True)
class Way:
    """A URL that leads to a server, and how that is known."""

    url: str
    port: int
    why: str


def chosen(listeners: list[Listener], port: int | None, default: int | None) -> list[Listener]:
    """Those sockets that answer HTTP: the one on the port asked for, else on the default port, else the first few."""
    for wanted in (port, default):
        if wanted is not None and (found := [item for item in listeners if item.port == wanted]):
            return found
    return listeners[:_MOST]


def ways(snapshot: Snapshot, pid: int) -> list[Way]:
    """How to reach the server with this root; empty if it does not listen (yet), or only where nothing gets in."""
    net = snapshot.net(pid)
    what, where = snapshot.engine(pid), snapshot.endpoint(pid)
    default = what.port if what is not None else None
    listeners = snapshot.listeners(net)
    if listeners is None:
        port = where.port or default
        return [] if port is None else list(_on_loopback(snapshot, port, where.scheme))
    answering = snapshot.answering(pid)
    theirs = [item for item in listeners if _is_theirs(snapshot, item, net, pid, answering)]
    picked = chosen(one_each(theirs), where.port, default)
    if net == snapshot.own_net:
        why = f"{_name(what)} listens on port"
        return [
            Way(url(snapshot.reached(item.address), item.port, where.scheme), item.port, f"{why} {item.port}")
            for item in picked
        ]
    return [way for item in picked for way in _into(snapshot, net, item, where.scheme)]


def _name(what: Recognised | None) -> str:
    return NAMES[what.engine] if what is not None else "a process"


def _is_theirs(snapshot: Snapshot, item: Listener, net: str, pid: int, answering: frozenset[int]) -> bool:
    holders = snapshot.holders(item)
    return not answering.isdisjoint(holders) if holders else snapshot.owner(item, net) == pid


def _into(snapshot: Snapshot, net: str, item: Listener, scheme: str) -> Iterator[Way]:
    """The best way from here to a socket in another network namespace."""
    inside = snapshot.addresses.get(net, ())
    for forward in snapshot.forwards:
        if forward.container in inside and forward.container_port == item.port and item.accepts(forward.container):
            port, why = forward.host_port, f"container port {item.port} published here"
            yield Way(url(snapshot.reached(forward.host), port, scheme), port, why)
            return
    if item.address.is_loopback:
        return
    if not USERLAND_PORTS.isdisjoint(_holders_here(snapshot, item.port)):
        yield from _on_loopback(snapshot, item.port, scheme)
        return
    for address in inside:
        # A container that was given the host's own address (pasta) cannot be told from the host by it.
        routed = any(address in network for network in snapshot.networks if network.version == address.version)
        if routed and address not in snapshot.own_addresses and item.accepts(address):
            yield Way(url(address, item.port, scheme), item.port, "address of its container")
            return
    yield from _on_loopback(snapshot, item.port, scheme)


def _holders_here(snapshot: Snapshot, port: int) -> set[str]:
    """The comm of each process of this namespace that is known to have a port."""
    net = snapshot.own_net
    owners = [snapshot.owner(item, net) for item in snapshot.listeners(net) or () if item.port == port]
    return {snapshot.processes[pid].comm for pid in owners if pid is not None}


def _on_loopback(snapshot: Snapshot, port: int, scheme: str) -> Iterator[Way]:
    """The same port on this host's loopback, unless it belongs to a process here that is no forwarder."""
    if _holders_here(snapshot, port) <= USERLAND_PORTS:
        yield Way(url(LOOPBACK4, port, scheme), port, f"port {port} of its command line, tried on this host")
