"""Between a URL and a process: which is behind it, and where it answers."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped, unused-ignore]

from qtop.collect.discover.candidates import behind, gather
from qtop.collect.discover.procfs import PROC
from qtop.collect.discover.reach import ways
from qtop.collect.discover.servers import FORWARDERS
from qtop.collect.discover.snapshot import Snapshot
from qtop.collect.discover.sockets import Address, plain


def resolve(host: str) -> tuple[Address, ...]:
    """The addresses that a name or literal stands for; empty if none. It asks the resolver, so it may block."""
    host = host.strip("[]")
    try:
        return (plain(ip_address(host.partition("%")[0])),)
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(plain(ip_address(str(entry[4][0]).partition("%")[0])) for entry in answers))
    except (OSError, ValueError):
        return ()  # UnicodeError, for a label that is no host name, is a ValueError


def _own_addresses() -> frozenset[Address]:
    found = set()
    try:
        interfaces = psutil.net_if_addrs()
    except OSError:
        return frozenset()
    for entry in (entry for entries in interfaces.values() for entry in entries):
        if entry.family in (socket.AF_INET, socket.AF_INET6):
            found.add(plain(ip_address(entry.address.partition("%")[0])))
    return frozenset(found)


def _is_own(address: Address, own: frozenset[Address]) -> bool:
    return address.is_loopback or address.is_unspecified or address in own


def is_local(host: str) -> bool:
    """Whether a name or address means this host: loopback or an address of one of its interfaces.

    A name counts when everything it resolves to is this host; one that does not resolve does not.
    """
    found = resolve(host)
    own = _own_addresses()
    return bool(found) and all(_is_own(address, own) for address in found)


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def pid_for_url(url: str, root: Path = PROC) -> int | None:
    """The root process of the server behind a URL; None for another host, a forwarded port or a process out of sight.

    A container's own address counts as this host when its network namespace can be seen from here.
    """
    target = _host_and_port(url)
    found = resolve(target[0]) if target is not None else ()
    if target is None or not found:
        return None
    port, own = target[1], _own_addresses()
    snapshot = Snapshot(root)
    if all(_is_own(address, own) for address in found):
        return _here(snapshot, found, port)
    for net, inside in snapshot.addresses.items():
        if all(address in inside for address in found):
            for item in snapshot.listeners(net) or ():
                if item.port == port and any(item.accepts(address) for address in found):
                    return snapshot.owner(item, net)
    return None


def _here(snapshot: Snapshot, found: tuple[Address, ...], port: int) -> int | None:
    for forward in snapshot.forwards:
        if forward.host_port == port and (forward.host.is_unspecified or forward.host in found):
            return behind(snapshot, forward)
    for item in snapshot.listeners(snapshot.own_net) or ():
        if item.port == port and any(item.accepts(snapshot.reached(address)) for address in found):
            owner = snapshot.owner(item, snapshot.own_net)
            if owner is not None and snapshot.processes[owner].comm not in FORWARDERS:
                return owner
    # A port that a firewall rule or a user-space network carries into a container has no server's socket here.
    beside = [item for item in gather(snapshot) if _host_and_port(item.url) == ("127.0.0.1", port)]
    return next((item.pid for item in beside if item.pid is not None), None)


def urls_for_pid(pid: int, root: Path = PROC) -> tuple[str, ...]:
    """Where the server that a process belongs to answers, best first; empty if it does not listen or is gone."""
    snapshot = Snapshot(root)
    if pid not in snapshot.processes:
        return ()
    return tuple(way.url for way in ways(snapshot, snapshot.server_root(pid)))
