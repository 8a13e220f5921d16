"""The host between two samples: shares of CPU time, pressure, swapping, NUMA balancing, and what its CPUs are."""

from __future__ import annotations

from collections import deque
from operator import sub

from msgspec.structs import astuple

from qtop.model.cpu import HostView
from qtop.model.memory import memory_view
from qtop.model.places import clock_view, place_of
from qtop.model.series import rate
from qtop.sample import (
    NOT_YET,
    Absent,
    CpuGroup,
    CpuTimes,
    HostSample,
    Pressure,
    Reading,
    Topology,
    VmStat,
)

MOVED_S = 20.0
_IDLE, _IOWAIT, _SOFTIRQ, _STEAL = 3, 4, 6, 7


class MovedTrack:
    """Pages that NUMA balancing moved, over ``MOVED_S``: feed it each reading once."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int]] = deque()

    def push(self, vm: VmStat | Absent) -> Reading[float]:
        """Pages a second; over less than the window while there is no more."""
        if isinstance(vm, Absent) or isinstance(vm.numa_pages_migrated, Absent):
            self._kept.clear()
            return vm if isinstance(vm, Absent) else vm.numa_pages_migrated
        kept = self._kept
        kept.append((vm.at, vm.numa_pages_migrated))
        while len(kept) > 2 and vm.at - kept[1][0] >= MOVED_S:
            kept.popleft()
        return rate(kept[0][1], vm.numa_pages_migrated, vm.at - kept[0][0]) if len(kept) > 1 else NOT_YET


def host_view(old: HostSample | None, new: HostSample, moved: Reading[float] = NOT_YET) -> HostView:
    """The host's CPUs and memory between two samples; ``moved`` is what a ``MovedTrack`` says."""
    per_cpu: dict[int, float] = {}
    worst: Reading[tuple[int, float]] = NOT_YET
    whole: tuple[float, ...] | None = None
    if old is not None:
        for name, times in new.cpus.items():
            was = old.cpus.get(name)
            if was is None or (shares := _shares(was, times)) is None:
                continue
            if name == "all":
                whole = shares
                continue
            cpu = int(name)
            per_cpu[cpu] = shares[0]
            if isinstance(worst, Absent) or shares[3] > worst[1]:
                worst = (cpu, shares[3])
    seconds = new.at - old.at if old is not None else 0.0
    pressures = (new.psi_cpu, new.psi_memory, new.psi_io)
    olds: tuple[Pressure | Absent, ...] = (NOT_YET,) * 3 if old is None else (old.psi_cpu, old.psi_memory, old.psi_io)
    both = [pressure_shares(was, now, seconds) for was, now in zip(olds, pressures, strict=True)]
    psi = [some for some, _ in both]
    vm = _VmRates(NOT_YET if old is None else old.vm, new.vm)
    place = place_of(new)
    topology = new.topology
    return HostView(
        cpus=len(new.cpus) - ("all" in new.cpus),
        busy=whole[0] if whole else NOT_YET,
        per_cpu=per_cpu,
        steal=whole[1] if whole else NOT_YET,
        iowait=whole[2] if whole else NOT_YET,
        psi_cpu=psi[0],
        psi_memory=psi[1],
        psi_io=psi[2],
        mem_total=new.mem_total,
        mem_available=new.mem_available,
        runnable=new.runnable,
        softirq=whole[3] if whole else NOT_YET,
        softirq_worst=worst,
        nodes=place.nodes,
        packages=topology if isinstance(topology, Absent) else topology.packages,
        cores=place.cores,
        smt=topology if isinstance(topology, Absent) else topology.smt_active,
        governor=_settings(topology, "governors"),
        preference=_settings(topology, "preferences"),
        boost=topology if isinstance(topology, Absent) else topology.boost,
        mhz=clock_view(new),
        max_mhz=topology if isinstance(topology, Absent) else topology.max_mhz,
        swap_used=_difference(new.swap_total, new.swap_free),
        swap_in_s=vm.pages("pswpin"),
        swap_out_s=vm.pages("pswpout"),
        major_faults_s=vm.rate("pgmajfault"),
        migrations_s=vm.rate("numa_pages_migrated"),
        migrations_mean_s=moved,
        hint_faults_s=vm.rate("numa_hint_faults"),
        numa_balancing=topology if isinstance(topology, Absent) else topology.numa_balancing,
        huge_pages=topology if isinstance(topology, Absent) else topology.huge_pages,
        memory=topology if isinstance(topology, Absent) else memory_view(topology.dimms, topology.slots),
        psi_memory_full=both[1][1],
    )


class _VmRates:
    """Rates between two readings of /proc/vmstat."""

    def __init__(self, old: VmStat | Absent, new: VmStat | Absent) -> None:
        self._old, self._new = old, new

    def rate(self, name: str) -> Reading[float]:
        """Increase of one counter a second."""
        if isinstance(self._new, Absent):
            return self._new
        if isinstance(self._old, Absent):
            return NOT_YET
        return rate(getattr(self._old, name), getattr(self._new, name), self._new.at - self._old.at)

    def pages(self, name: str) -> Reading[float]:
        """Bytes a second of a counter of pages."""
        pages = self.rate(name)
        return pages if isinstance(pages, Absent) or isinstance(self._new, Absent) else pages * self._new.page_bytes


def _difference(whole: Reading[int], part: Reading[int]) -> Reading[int]:
    if isinstance(whole, Absent):
        return whole
    return part if isinstance(part, Absent) else max(0, whole - part)


def _settings(topology: Topology | Absent, name: str) -> Reading[str]:
    """One setting if all CPUs share it, else each with its CPUs."""
    if isinstance(topology, Absent):
        return topology
    groups: tuple[CpuGroup, ...] | Absent = getattr(topology, name)
    if isinstance(groups, Absent):
        return groups
    return groups[0].setting if len(groups) == 1 else ", ".join(f"{group.setting} {group.cpus}" for group in groups)


def _shares(old: CpuTimes, new: CpuTimes) -> tuple[float, float, float, float] | None:
    """Busy, steal, iowait and softirq shares. idle and iowait may run backwards by a tick on a tickless kernel: cut
    at 0."""
    spent = list(map(sub, astuple(new), astuple(old)))
    if min(spent) < 0:
        spent = [ticks if ticks > 0 else 0 for ticks in spent]
    total = sum(spent)
    if total == 0:
        return None
    return (
        (total - spent[_IDLE] - spent[_IOWAIT]) / total,
        spent[_STEAL] / total,
        spent[_IOWAIT] / total,
        spent[_SOFTIRQ] / total,
    )


def pressure_shares(
    old: Pressure | Absent, new: Pressure | Absent, seconds: float
) -> tuple[Reading[float], Reading[float]]:
    """Shares of the time in which some task waited, and in which all did."""
    if isinstance(new, Absent):
        return new, new
    if isinstance(old, Absent):
        return NOT_YET, NOT_YET
    return _share(old.some_us, new.some_us, seconds), _share(old.full_us, new.full_us, seconds)


def _share(old: int, new: int, seconds: float) -> Reading[float]:
    share = rate(old, new, seconds)
    return share if isinstance(share, Absent) else min(1.0, share / 1e6)
