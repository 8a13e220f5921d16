"""Servers in another network namespace: the addresses there, the ports published here, the routes between."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from qtop.collect.discover.procfs import PROC, Process, status, text
from qtop.collect.discover.servers import basename, option
from qtop.collect.discover.sockets import Address, plain

_CGROUP_SIGN = re.compile(r"/kubepods|/lxc[./]|/lxc\.payload|libpod-|cri-containerd-|crio-|[0-9a-f]{64}")
_MARKS = (".dockerenv", "run/.containerenv")
_ROUTE_UP = 0x1


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this host that docker-proxy carries into a container; ``pid`` is the proxy's."""

    pid: int
    host: Address
    host_port: int
    container: Address
    container_port: int


def in_container(pid: int, root: Path = PROC) -> bool:
    """Whether a process runs in a container that the reader is not in.

    Signs: a PID namespace below this one, a container's cgroup, a container engine's mark on a file system other than
    the reader's. A reader inside the same container sees the process as its neighbour, which for it is what counts.
    """
    if len(status(pid, "NSpid", root)) > 1:
        return True
    cgroup = text(f"{root}/{pid}/cgroup")
    if _CGROUP_SIGN.search(cgroup) and cgroup != text(f"{root}/self/cgroup"):
        return True
    there, here = Path(f"{root}/{pid}/root"), Path(f"{root}/self/root")
    try:
        return any((there / mark).exists() for mark in _MARKS) and not (here.exists() and there.samefile(here))
    except OSError:
        return False


def _address(word: str | None) -> Address | None:
    try:
        return plain(ip_address((word or "").strip("[]")))
    except ValueError:
        return None


def forward(found: Process) -> Forward | None:
    """What a docker-proxy process forwards, from its arguments; None for any other process and for UDP."""
    if not isinstance(found.argv, tuple) or not found.argv:
        return None
    if basename(found.argv[0]) not in ("docker-proxy", "rootlesskit-docker-proxy"):
        return None
    container = _address(option(found.argv, "-container-ip", "--container-ip"))
    ports = [option(found.argv, f"-{end}-port", f"--{end}-port") or "" for end in ("host", "container")]
    protocol = option(found.argv, "-proto", "--proto") or "tcp"
    if container is None or protocol != "tcp" or not all(port.isdecimal() for port in ports):
        return None
    host = _address(option(found.argv, "-host-ip", "--host-ip")) or IPv4Address(0)
    return Forward(found.pid, host, int(ports[0]), container, int(ports[1]))


def forwards(processes: Iterable[Process]) -> tuple[Forward, ...]:
    """Every docker-proxy's forward, IPv4 before IPv6."""
    found = [item for process in processes if (item := forward(process)) is not None]
    return tuple(sorted(found, key=lambda item: (item.host_port, isinstance(item.host, IPv6Address))))


def addresses(pid: int | str, root: Path = PROC) -> tuple[Address, ...]:
    """The addresses of a process's network namespace, without loopback and link-local ones; IPv4 first.

    IPv4 comes from fib_trie (each own address is a /32 LOCAL leaf there), IPv6 from if_inet6.
    """
    found: dict[Address, None] = {}
    last = ""
    for line in text(f"{root}/{pid}/net/fib_trie").splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[-1]
        elif words == ["/32", "host", "LOCAL"] and (own := _address(last)) is not None:
            found[own] = None
    for line in text(f"{root}/{pid}/net/if_inet6").splitlines():
        try:
            found[IPv6Address(bytes.fromhex(line.split()[0]))] = None
        except (ValueError, IndexError):
            continue
    return tuple(item for item in found if not item.is_loopback and not item.is_link_local)


def networks(root: Path = PROC) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks to which this namespace has a route of its own, default routes left out."""
    found: list[IPv4Network | IPv6Network] = []
    for line in text(f"{root}/net/route").splitlines()[1:]:
        words = line.split()
        try:
            if int(words[3], 16) & _ROUTE_UP and int(words[7], 16):
                base, mask = (IPv4Address(struct.pack("=I", int(words[at], 16))) for at in (1, 7))
                found.append(IPv4Network(f"{base}/{mask}", strict=False))
        except (ValueError, IndexError):
            continue
    for line in text(f"{root}/net/ipv6_route").splitlines():
        words = line.split()
        try:
            network = IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False)
        except (ValueError, IndexError):
            continue
        # The default, link-local, multicast and the namespace's own addresses are no way into a container.
        if network.prefixlen and words[-1] != "lo" and not network.is_link_local and not network.is_multicast:
            found.append(network)
    return tuple(found)
