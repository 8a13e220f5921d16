"""Where CPUs are: their physical cores and NUMA nodes, and which of them a server may use."""

from __future__ import annotations

from collections.abc import Iterable

from qtop.model.cpu import ClockView, QuotaView, UsableView
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    CgroupSample,
    Clocks,
    HostSample,
    Reading,
    Topology,
    Why,
    cpulist,
)


class Place:
    """The topology as sets; made once for each topology that differs."""

    def __init__(self, topology: Topology | Absent) -> None:
        self._node: dict[int, int] = {}
        self._core: dict[int, int] = {}
        self._online: frozenset[int] = frozenset()
        self.nodes: Reading[int]
        self.cores: Reading[int]
        if isinstance(topology, Absent):
            self.nodes = self.cores = topology
            return
        if isinstance(topology.online, str):
            self._online = cpulist.parse_or_empty(topology.online)
        if isinstance(topology.nodes, Absent):
            self.nodes = topology.nodes
        else:
            for node in topology.nodes:
                self._node.update(dict.fromkeys(cpulist.parse_or_empty(node.cpus), node.id))
            self.nodes = len(set(self._node.values()))
        if isinstance(topology.cores, Absent):
            self.cores = topology.cores
        else:
            for number, siblings in enumerate(topology.cores):
                self._core.update(dict.fromkeys(cpulist.parse_or_empty(siblings), number))
            self.cores = len(topology.cores)

    def nodes_of(self, cpus: Iterable[int]) -> Reading[tuple[int, ...]]:
        """The NUMA nodes of these CPUs; a CPU of -1 was not recorded and is passed over."""
        if isinstance(self.nodes, Absent):
            return self.nodes
        found = {self._node[cpu] for cpu in cpus if cpu in self._node}
        return tuple(sorted(found)) if found else NOT_RECORDED

    def cores_of(self, cpus: Iterable[int]) -> Reading[int]:
        """How many physical cores these CPUs are on."""
        if isinstance(self.cores, Absent):
            return self.cores
        return len({self._core.get(cpu, -1 - cpu) for cpu in cpus})

    def usable(
        self,
        masks: Iterable[Reading[str]],
        group: CgroupSample | Absent,
        quota: QuotaView | Absent | None,
    ) -> UsableView | Absent:
        """What these affinity masks, together, the cgroup's cpuset and its quota leave."""
        allowed: frozenset[int] = frozenset()
        for mask in masks:
            if isinstance(mask, Absent):
                return mask
            allowed |= cpulist.parse_or_empty(mask)
        inside = self._online
        if isinstance(group, CgroupSample) and isinstance(group.cpuset, str):
            set_ = cpulist.parse_or_empty(group.cpuset)
            inside = set_ & self._online if self._online else set_
        cpus = allowed & inside if inside else allowed
        if not cpus:
            return Absent(Why.NOT_RECORDED, "the CPUs it may use were not recorded")
        # The kernel cuts masks to the cpuset: where the two agree, the cpuset sets it.
        limit = "host" if cpus == self._online else "cpuset" if cpus == inside else "affinity"
        cores = self.cores_of(cpus)
        logical = float(len(cpus))
        physical: Reading[float] = cores if isinstance(cores, Absent) else float(cores)
        if isinstance(quota, QuotaView):
            if quota.cores < logical:
                logical, limit = quota.cores, "quota"
            if not isinstance(physical, Absent):
                physical = min(physical, quota.cores)
        return UsableView(cpulist.show(cpus), logical, physical, limit)


_last: tuple[Topology | Absent, Place] | None = None


def place_of(host: HostSample | None) -> Place:
    """The places of a host's topology, remembered for the latest one: it hardly ever changes."""
    global _last
    topology = host.topology if host is not None else NOT_YET
    last = _last
    if last is None or (last[0] is not topology and not _same(last[0], topology)):
        last = _last = (topology, Place(topology))
    return last[1]


def _same(old: Topology | Absent, new: Topology | Absent) -> bool:
    """Whether two readings show the same places; they differ in when they were read."""
    if isinstance(old, Absent) or isinstance(new, Absent):
        return old == new
    return (old.online, old.nodes, old.cores) == (new.online, new.nodes, new.cores)


def clock_view(host: HostSample | None, cpus: Iterable[int] | None = None) -> ClockView | Absent:
    """The clocks of these CPUs, or of all."""
    clocks: Clocks | Absent = host.clocks if host is not None else NOT_YET
    if isinstance(clocks, Absent):
        return clocks
    mhz: Iterable[int] = clocks.mhz
    if cpus is not None:
        by_cpu = dict(zip(sorted(cpulist.parse_or_empty(clocks.cpus)), clocks.mhz, strict=False))
        mhz = [by_cpu[cpu] for cpu in set(cpus) if cpu in by_cpu]
    values = tuple(mhz)
    if not values:
        return NOT_RECORDED
    return ClockView(sum(values) / len(values), float(min(values)), float(max(values)))
