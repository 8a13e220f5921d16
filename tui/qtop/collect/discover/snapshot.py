"""One look at the machine: processes, network namespaces, listening sockets and who holds them, joined."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from qtop.collect.discover.containers import Forward, addresses, forwards, networks
from qtop.collect.discover.procfs import PROC, Process, effective_uid, environ, net_namespace, own_pid, processes, text
from qtop.collect.discover.servers import FORWARDERS, PORT_VARIABLES, SUPERVISORS, Endpoint, Recognised, endpoint
from qtop.collect.discover.sockets import LOOPBACK4, LOOPBACK6, Address, Listener, held, listening
from qtop.collect.discover.tree import below, climb, kind_of, offspring


class Snapshot:
    """The machine as it was when this was made; parts are read when first asked for, and never raise."""

    def __init__(self, root: Path = PROC) -> None:
        self.root = root
        self.processes = processes(root)
        self.own_pid = own_pid(root)
        self.own_net = net_namespace("self", root)
        living = [found for found in self.processes.values() if found.state not in "ZX"]
        self.kinds = {found.pid: kind for found in living if (kind := kind_of(found)) is not None}
        self._children = offspring({pid: found.ppid for pid, found in self.processes.items()})
        self._nets: dict[int, str] = {}
        self._listeners: dict[str, tuple[Listener, ...] | None] = {}
        self._owners: dict[Listener, int | None] = {}

    def kind(self, found: Process) -> Recognised | None:
        """What a process of this snapshot is."""
        return self.kinds.get(found.pid)

    def server_root(self, pid: int) -> int:
        """The root of the server that a process belongs to."""
        return climb(pid, self.processes.get, self.kind)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """The root of every recognised server, ascending."""
        return tuple(sorted({self.server_root(pid) for pid in self.kinds}))

    def tree(self, pid: int) -> tuple[int, ...]:
        """A process and its descendants, root first."""
        return below(pid, lambda parent: self._children.get(parent, []))

    def engine(self, pid: int) -> Recognised | None:
        """What the server with this root is: by its own arguments, else by parts of one among its children."""
        own = self.kinds.get(pid)
        below = (self.kinds.get(child) for child in self._children.get(pid, []))
        return own or next((kind for kind in below if kind is not None and kind.part), None)

    def answering(self, pid: int) -> frozenset[int]:
        """The processes of a server that may hold its HTTP socket."""
        return frozenset(number for number in self.tree(pid) if number not in self.kinds or self.kinds[number].http)

    def endpoint(self, pid: int) -> Endpoint:
        """Where the arguments and the environment of a process put its server."""
        found, what = self.processes.get(pid), self.engine(pid)
        words = found.argv if found is not None and isinstance(found.argv, tuple) else ()
        return endpoint(words, environ(pid, PORT_VARIABLES, self.root), what.engine if what else "")

    def net(self, pid: int) -> str:
        """The key of the network namespace of a process; this one's if it cannot be told."""
        if pid not in self._nets:
            self._nets[pid] = net_namespace(pid, self.root) or self.own_net
        return self._nets[pid]

    @cached_property
    def _nets_beside(self) -> dict[str, int]:
        """One process in each other network namespace."""
        running = (pid for pid, found in self.processes.items() if found.argv != ())
        return {net: pid for pid in running if (net := self.net(pid)) != self.own_net}

    @cached_property
    def addresses(self) -> dict[str, tuple[Address, ...]]:
        """The addresses in each other network namespace."""
        return {net: addresses(pid, self.root) for net, pid in self._nets_beside.items()}

    @cached_property
    def own_addresses(self) -> frozenset[Address]:
        """The addresses of this network namespace."""
        return frozenset(addresses("self", self.root))

    @cached_property
    def _loopback6(self) -> bool:
        return any(line.startswith(f"{1:032x}") for line in text(f"{self.root}/net/if_inet6").splitlines())

    def reached(self, bound: Address) -> Address:
        """Where to connect from here to what is bound to an address: loopback for one bound to every address.

        For ``::`` that is ``::1``, because such a socket may refuse IPv4, unless this namespace has no IPv6 loopback.
        """
        if not bound.is_unspecified:
            return bound
        return LOOPBACK6 if bound.version == 6 and self._loopback6 else LOOPBACK4

    @cached_property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks routed from here."""
        return networks(self.root)

    @cached_property
    def forwards(self) -> tuple[Forward, ...]:
        """Ports that docker-proxy publishes in this namespace."""
        return tuple(item for item in forwards(self.processes.values()) if self.net(item.pid) == self.own_net)

    def listeners(self, net: str) -> tuple[Listener, ...] | None:
        """The listening sockets of a network namespace; None if they cannot be read."""
        if net not in self._listeners:
            pid = "self" if net == self.own_net else self._nets_beside.get(net, 0)
            self._listeners[net] = listening(pid, self.root)
        return self._listeners[net]

    @cached_property
    def _sockets(self) -> tuple[dict[int, list[int]], frozenset[int]]:
        holders: dict[int, list[int]] = {}
        hidden = set()
        for pid, found in sorted(self.processes.items()):
            if found.argv == ():
                continue  # a kernel thread or a zombie holds none
            inodes = held(pid, self.root)
            if inodes is None:
                hidden.add(pid)
            for inode in inodes or ():
                holders.setdefault(inode, []).append(pid)
        return holders, frozenset(hidden)

    def holders(self, listener: Listener) -> tuple[int, ...]:
        """Processes seen to hold the socket, ascending."""
        return tuple(self._sockets[0].get(listener.inode, ()))

    def owner(self, listener: Listener, net: str) -> int | None:
        """The root of the server behind a socket: whoever holds it, else the one process that says it has that port."""
        if listener not in self._owners:
            holders = self.holders(listener)
            self._owners[listener] = self._among(holders) if holders else self._by_arguments(listener, net)
        return self._owners[listener]

    def _among(self, holders: tuple[int, ...]) -> int:
        # A service manager keeps a copy of the socket that it handed on; the service is meant.
        serving = [pid for pid in holders if self.processes[pid].comm.partition(":")[0] not in SUPERVISORS]
        roots = [self.server_root(pid) for pid in serving or holders]
        known = [pid for pid in roots if self.engine(pid) is not None]
        top = [pid for pid in roots if self.processes[pid].ppid not in roots]
        return (known or top or roots)[0]

    def _by_arguments(self, listener: Listener, net: str) -> int | None:
        hidden = {pid for pid in self._sockets[1] if self.net(pid) == net}
        servers = [pid for pid in self.roots if pid in hidden and self._says(pid, listener, default=True)]
        others = [pid for pid in hidden if self._may_serve(pid) and self._says(pid, listener, default=False)]
        for group in (servers, others):
            theirs = [pid for pid in group if effective_uid(pid, self.root) == listener.uid]
            if len(theirs) == 1 or (not theirs and group is servers and len(group) == 1):
                return (theirs or group)[0]
        return None

    def _may_serve(self, pid: int) -> bool:
        """Whether a process that is no known server may be one: no launcher or forwarder, no load generator."""
        found = self.processes[pid]
        words = found.argv[:4] if isinstance(found.argv, tuple) else ()
        aside = found.comm.partition(":")[0] in SUPERVISORS | FORWARDERS
        return pid not in self.kinds and not aside and not any("bench" in word for word in words)

    def _says(self, pid: int, listener: Listener, default: bool) -> bool:
        what, where = self.engine(pid), self.endpoint(pid)
        port = where.port or (what.port if default and what is not None else None)
        if port != listener.port:
            return False
        if where.host is None:
            return True
        if where.host == "localhost":
            return listener.address.is_loopback
        try:
            bound = ip_address(where.host.strip("[]"))
        except ValueError:
            return True  # a name; it may stand for any address
        return listener.address == bound or (bound.is_unspecified and listener.address.is_unspecified)
