"""Listening TCP sockets from /proc/net/tcp{,6}, and which process holds which."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from qtop.collect.discover.procfs import PROC, link, read

Address = IPv4Address | IPv6Address
LOOPBACK4 = IPv4Address("127.0.0.1")
LOOPBACK6 = IPv6Address("::1")
_LISTEN = b"0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for connections: where it is bound, who made it (uid), and its inode."""

    address: Address
    port: int
    uid: int
    inode: int

    def accepts(self, address: Address) -> bool:
        """Whether a connection to this address of its namespace gets here (a ``::`` socket usually takes IPv4 too)."""
        if self.address.is_unspecified:
            return isinstance(self.address, IPv6Address) or isinstance(address, IPv4Address)
        return self.address == address


def plain(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped one; any other as it is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_address(word: str) -> Address:
    """An address as /proc/net/tcp{,6} writes it: hexadecimal 32-bit words, each in the machine's own byte order."""
    raw = bytes.fromhex(word)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return plain(ip_address(raw))


def parse(table: bytes) -> list[Listener]:
    """The listening sockets of one /proc/net/tcp or tcp6; lines that are not of that form are passed over."""
    found = []
    for line in table.splitlines():
        words = line.split()
        if len(words) < 10 or words[3] != _LISTEN:
            continue
        address, _, port = words[1].decode(errors="replace").partition(":")
        try:
            found.append(Listener(parse_address(address), int(port, 16), int(words[7]), int(words[9])))
        except ValueError:
            continue
    return found


def listening(pid: int | str = "self", root: Path = PROC) -> tuple[Listener, ...] | None:
    """The listening sockets of the network namespace of a process, IPv4 first; None where neither table can be read."""
    folder = f"{root}/net" if pid == "self" else f"{root}/{pid}/net"
    tables = [table for name in ("tcp", "tcp6") if isinstance(table := read(f"{folder}/{name}"), bytes)]
    return tuple(found for table in tables for found in parse(table)) if tables else None


def held(pid: int, root: Path = PROC) -> frozenset[int] | None:
    """Inodes of the sockets that a process has open; None where its descriptors may not be listed or it is gone."""
    folder = f"{root}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    inodes = set()
    for name in names:
        target = link(f"{folder}/{name}")
        if target.startswith("socket:[") and target[8:-1].isdecimal():
            inodes.add(int(target[8:-1]))
    return frozenset(inodes)


def url(address: Address, port: int, scheme: str = "http") -> str:
    """The base URL of a server there, without a trailing slash."""
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return f"{scheme}://{host}:{port}"


def one_each(listeners: Iterable[Listener]) -> list[Listener]:
    """One socket per port, the easiest to reach: loopback or every address before a single one, IPv4 before IPv6."""

    def order(item: Listener) -> tuple[int, bool, bool]:
        local = item.address.is_unspecified or item.address.is_loopback
        return item.port, not local, isinstance(item.address, IPv6Address)

    best: dict[int, Listener] = {}
    for item in sorted(listeners, key=order):
        if not item.address.is_link_local:
            best.setdefault(item.port, item)
    return list(best.values())
