"""Where a server listens: the addresses that its socket is bound to, which say from where it can be reached."""

from __future__ import annotations

from pathlib import Path

from qtop.collect.discover.procfs import PROC, net_namespace
from qtop.collect.discover.sockets import held, listening
from qtop.collect.discover.tree import server_tree
from qtop.sample import Absent, Reading, Why

CONTAINER = Absent(
    Why.NOT_HERE, "it listens in a network of its own (a container): where its port is published decides"
)


def bound(pid: int, port: int, root: Path = PROC) -> Reading[str]:
    """The addresses bound to this port by the server with this root process, as "0.0.0.0, ::1"."""
    if net_namespace(pid, root) != net_namespace("self", root):
        return CONTAINER
    sockets = listening(pid, root)
    if sockets is None:
        return Absent(Why.DENIED, "the listening sockets cannot be read")
    there = [one for one in sockets if one.port == port]
    held_by = [inodes for one in server_tree(pid, root) if (inodes := held(one, root)) is not None]
    own = [one for one in there if any(one.inode in inodes for inodes in held_by)]
    found = dict.fromkeys(str(one.address) for one in own or there)
    return ", ".join(found) if found else Absent(Why.NOT_HERE, "its socket is not seen")
