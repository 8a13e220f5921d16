"""The knob ``cpuset``: which CPUs the server's cgroup may use, up to what the one above it allows. Live, root.

The kernel moves the threads by itself: those without a mask of their own may use all of the new set at once.
Sources: kernel documentation of cpusets (v1) and of the cpuset controller of cgroup v2.
"""

from __future__ import annotations

import os
from pathlib import Path

from qtop.act.change import Plan
from qtop.act.knobs.cgroups import CgroupKnob, Owner, members, owner_of, place_of, present
from qtop.act.knobs.cpus import CPU_LIST, cpus_asked
from qtop.act.watched import threads_of
from qtop.collect.cgroup_tree import Place
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, SchedView
from qtop.sample import Absent, cpulist

EFFECTIVE = {1: ("cpuset.effective_cpus", "cpuset.cpus"), 2: ("cpuset.cpus.effective",)}
FILE = "cpuset.cpus"


class Cpuset(CgroupKnob):
    """cpuset.cpus of the cgroups that the server's processes are in."""

    id = "cpuset"
    title = "CPUs of the server's cgroup"
    example = "0-7"
    controller = "cpuset"
    names = {1: FILE, 2: FILE}  # noqa: RUF012 - ClassVar by its base

    def told(self, text: str) -> str:
        """In the kernel's shortest form; "" where the one above decides (v2)."""
        return cpulist.show(cpulist.parse(text))

    def valid(self, value: str, path: Path) -> bool:
        """A list of CPUs; in v2 also none."""
        return value == "" or (CPU_LIST.fullmatch(value) is not None and bool(cpulist.parse_or_empty(value)))

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """Widen to what the cgroup above allows, the CPUs near the GPU first; or set to ``value``, a CPU list."""
        sched = threads_of(frame)
        changes: dict[Path, tuple[str, str]] = {}
        target = narrow = frozenset[int]()
        version = 2
        for folder, above, version in _levels(sched):
            possible = _effective(above, version)
            narrow = _effective([folder], version)
            target = _wanted(frame, value, possible, narrow)
            path = Path(folder, FILE)
            old, new = present(self, path), cpulist.show(target)
            if not narrow:
                raise Refused(f"{path}: which CPUs it allows cannot be read")
            if value is None and target <= narrow:
                continue
            if old != new:
                changes[path] = (old, new)
        new = cpulist.show(target)
        if not changes:
            raise Refused(f"the server's cgroup allows CPUs {new} already", "The one above it allows no others.")
        owners = {path: owner_of(str(path.parent), f"--cpuset-cpus {new}", f"AllowedCPUs={new}") for path in changes}
        first = next(iter(changes))
        return Plan(
            knob=self.id,
            value=new,
            summary=f"let {owners[first].name} use CPUs {new}",
            preview=tuple(f"{path}: {old or 'as above it'} → {value}" for path, (old, value) in changes.items()),
            record=self.record(new, changes),
            warnings=(*_own_masks(sched, narrow), *_others(sched, first, owners[first]), *_restart(owners[first])),
            command=f"echo {new} > {first}",
            root=not all(os.access(path, os.W_OK) for path in changes),
            right="root",
            undone="`qtop undo`, or the next start of what the cgroup belongs to",
        )


def _levels(sched: SchedView) -> list[tuple[str, list[str], int]]:
    """For each cgroup of the server the folder that narrows it, those above, and the version; the outermost first."""
    found: dict[str, tuple[str, list[str], int]] = {}
    hidden = False
    for pid in sorted({thread.pid for thread in sched.threads}):
        place = place_of(pid, "cpuset")
        if place is None:
            continue
        depth = _narrowing(place)
        if depth is None:
            hidden = hidden or place.above
            continue
        found[place.folders[depth]] = (place.folders[depth], list(place.folders[depth + 1 :]), place.version)
    if found:
        return [found[folder] for folder in sorted(found, key=len)]
    if hidden:
        raise Refused("its CPUs are set by a cgroup above this container", "Run qtop on the host itself.")
    raise Refused("no cgroup of the server's narrows its CPUs", "See cpu-affinity for its threads' masks.")


def _narrowing(place: Place) -> int | None:
    """The nearest level, below the root in sight, with CPUs of its own; None where there is none."""
    for depth, folder in enumerate(place.folders[:-1]):
        try:
            if Path(folder, FILE).read_text().strip():
                return depth
        except OSError:  # v2: the controller is not enabled so far down
            continue
    return None


def _effective(folders: list[str], version: int) -> frozenset[int]:
    """The CPUs that the nearest of these levels allows; none where that cannot be read."""
    for folder in folders:
        for name in EFFECTIVE[version]:
            try:
                cpus = cpulist.parse_or_empty(Path(folder, name).read_text())
            except OSError:
                continue
            if cpus:
                return cpus
    return frozenset()


def _wanted(frame: Frame, value: str | None, possible: frozenset[int], narrow: frozenset[int]) -> frozenset[int]:
    if value is None:
        if not isinstance(frame.gpus, Absent) and frame.gpus and not isinstance(frame.gpus[0].local_cpus, Absent):
            near = cpulist.parse_or_empty(frame.gpus[0].local_cpus) & possible
            if near > narrow:
                return near
        return possible
    asked = cpus_asked(value, "0-3,8")
    if not asked <= possible:
        raise QtopError(
            f"CPU {cpulist.show(asked - possible)} is not among those that the cgroup above allows "
            f"({cpulist.show(possible)})"
        )
    return asked


def _own_masks(sched: SchedView, allowed: frozenset[int]) -> tuple[str, ...]:
    """Threads that use fewer CPUs than their cgroup allows even now: a mask of their own says so, and stays."""
    kept = sum(1 for one in sched.threads if one.allowed and cpulist.parse_or_empty(one.allowed) < allowed)
    return (f"threads with a narrower mask of their own, which stays: {kept}; cpu-affinity widens it",) if kept else ()


def _others(sched: SchedView, path: Path, owner: Owner) -> tuple[str, ...]:
    others = len(members(str(path.parent)) - {thread.pid for thread in sched.threads})
    return (f"other processes in {owner.name}: {others}",) if others else ()


def _restart(owner: Owner) -> tuple[str, ...]:
    """What its owner does when it starts anew."""
    keep = f": `{owner.keep}` makes it last" if owner.keep else ""
    return (f"{owner.name} has its own setting, which comes back with its restart{keep}",)
