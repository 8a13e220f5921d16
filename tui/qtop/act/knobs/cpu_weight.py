"""The knob ``cpu-weight``: who gets the CPUs where the server's cgroup and another one both want them. Live, root.

Weights count between siblings only. So it is not the server's own cgroup whose weight matters, but the one on its path
that stands beside the competitors': of /vllm/engine against /backup it is /vllm. Sources: kernel documentation of
cgroup v2 (cpu.weight, 1–10000, default 100) and v1 (cpu.shares, default 1024); the scale between them is systemd's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from qtop.act.change import Plan
from qtop.act.knobs.cgroups import CgroupKnob, members, owner_of, place_of, present
from qtop.act.knobs.files import number_in
from qtop.act.watched import threads_of
from qtop.collect.cgroup_tree import Place
from qtop.errors import QtopError, Refused
from qtop.model.frame import Competitor, Frame, SchedView
from qtop.sample import Absent

FACTOR = 10
"""Ten times the default leaves one competitor with the default a tenth."""
DEFAULT, HIGHEST = 100, 10_000
SHARES_LOW, SHARES_HIGH = 2, 262_144
VALUE = re.compile(r"(others:)?([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True)
class Side:
    """Cgroups that stand beside each other, the server's and the competitors', each a folder."""

    version: int
    server: str | None
    """None: the server sits where they branch off, and has no weight of its own against them."""
    others: tuple[str, ...]
    who: str
    """The competitors, in words."""


class CpuWeight(CgroupKnob):
    """cpu.weight (v2) or cpu.shares (v1)."""

    id = "cpu-weight"
    title = "weight of the server's cgroup, or of its competitors'"
    example = "1000 or others:10"
    by_neighbours = True
    controller = "cpu"
    names = {1: "cpu.shares", 2: "cpu.weight"}  # noqa: RUF012 - ClassVar by its base

    def valid(self, value: str, path: Path) -> bool:
        """By the version, which the file's name tells."""
        if path.name == self.names[1]:
            return number_in(value, SHARES_LOW, SHARES_HIGH)
        return number_in(value, 1, HIGHEST)

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """Raise the server's, or lower the others': "1000", "others:10"."""
        sched = threads_of(frame)
        side = _side(sched, value)
        lower, weight = _asked(value, side)
        folders = side.others if lower else (side.server,) if side.server is not None else ()
        if not folders:
            raise Refused("the server is in no cgroup whose weight could be changed", "Lower the others: others:10.")
        changes: dict[Path, tuple[str, str]] = {}
        for folder in folders:
            path = Path(folder, self.names[side.version])
            _refuse_without(path, folder)
            old, new = present(self, path), _in(side.version, weight)
            if old != new:
                changes[path] = (old, new)
            elif value is None:
                raise Refused(f"the server's cgroup has weight {weight} already", "Lower the others: others:10.")
        if not changes:
            raise Refused(f"the weight is {weight} already")
        new = f"others:{weight}" if lower else f"{weight}"
        first = next(iter(changes))
        owner = owner_of(str(first.parent), f"--cpu-shares {_in(1, weight)}", f"CPUWeight={weight}")
        keep = f": `{owner.keep}` makes it last" if owner.keep else ""
        told = f"the weight of {owner.name}" + (f" and {len(changes) - 1} more" if len(changes) > 1 else "")
        return Plan(
            knob=self.id,
            value=new,
            summary=f"{told}: {_weight(side.version, changes[first][0])} → {weight}",
            preview=(*(f"{path}: {old} → {value}" for path, (old, value) in changes.items()), *_against(side)),
            record=self.record(new, changes),
            warnings=(
                *_others(sched, changes, lower),
                f"{owner.name} has its own setting, which comes back with its restart{keep}",
            ),
            command=f"echo {changes[first][1]} > {first}",
            root=not all(os.access(path, os.W_OK) for path in changes),
            right="root",
            hurts="the others get less of the CPUs while the server wants them; its requests in flight go on",
            undone="`qtop undo`, or the next start of what the cgroup belongs to",
        )


def _asked(value: str | None, side: Side) -> tuple[bool, int]:
    """Whether it is the others' weight, and the weight."""
    if value is None:
        return (False, DEFAULT * FACTOR) if side.server is not None else (True, DEFAULT // FACTOR)
    found = VALUE.fullmatch(value)
    if found is None or not 1 <= int(found[2]) <= HIGHEST:
        raise QtopError(
            f"cpu-weight cannot be {value!r}", f"It takes a whole number from 1 to {HIGHEST}, or others:NUMBER."
        )
    if found[1] and not side.others:
        raise Refused(
            "no competitor is seen in a cgroup beside the server's", "Name the server's own weight: a number."
        )
    return bool(found[1]), int(found[2])


def _side(sched: SchedView, value: str | None) -> Side:
    """Where the server's path and the competitors' branch; without competitors, its own cgroup."""
    worst = (sched.critical or sched.threads)[0]
    place = place_of(worst.pid, "cpu")
    if place is None:
        raise Refused("the server's cgroup is not mounted where qtop runs", "Run qtop on the host itself.")
    rivals = [] if isinstance(sched.competitors, Absent) else sorted(sched.competitors, key=lambda one: -one.share)
    branches = [(one, pair) for one in rivals if (pair := _branch(place, one)) is not None]
    if not branches:
        if rivals:
            raise Refused(
                f"{rivals[0].comm} ({rivals[0].pid}) shares the server's cgroup: there is nothing to weigh",
                f"Lower its priority instead: renice 19 {rivals[0].pid}.",
            )
        if value is None:
            raise Refused("nobody else is seen on the server's CPUs", "A weight counts only while others want them.")
        own = place.folders[0] if len(place.folders) > 1 else None
        return Side(place.version, own, (), "")
    mine = branches[0][1][0]
    theirs = tuple(dict.fromkeys(pair[1] for _, pair in branches if pair[1] is not None and pair[0] == mine))
    return Side(place.version, mine, theirs, ", ".join(dict.fromkeys(one.comm for one, _ in branches)))


def _branch(server: Place, rival: Competitor) -> tuple[str | None, str | None] | None:
    """The folders just below the last one that both paths share, None on the side that ends there; None where both
    do."""
    other = place_of(rival.pid, "cpu")
    if other is None or other.version != server.version:
        return None
    mine, theirs = server.folders[::-1], other.folders[::-1]
    depth = 0
    while depth < min(len(mine), len(theirs)) and mine[depth] == theirs[depth]:
        depth += 1
    if depth == 0:
        return None
    pair = (mine[depth] if depth < len(mine) else None, theirs[depth] if depth < len(theirs) else None)
    return None if pair == (None, None) else pair


def _refuse_without(path: Path, folder: str) -> None:
    if not path.exists():
        raise Refused(
            f"the CPU controller is not enabled for {folder}",
            "systemd enables it with `CPUWeight=` or `CPUAccounting=yes` of the unit.",
        )
    try:
        idle = Path(folder, "cpu.idle").read_text().strip() == "1"
    except OSError:
        idle = False
    if idle:
        raise Refused(f"{folder} runs only when nobody else wants the CPU (cpu.idle): it has no weight")


def _in(version: int, weight: int) -> str:
    """A weight as the file has it."""
    if version == 2:
        return str(weight)
    return str(min(SHARES_HIGH, max(SHARES_LOW, weight * 1024 // DEFAULT)))


def _weight(version: int, text: str) -> str:
    """What a file holds, as a weight."""
    return text if version == 2 or not text.isdigit() else f"{int(text) * DEFAULT / 1024:.0f}"


def _against(side: Side) -> tuple[str, ...]:
    return (f"it counts against {side.who}",) if side.who else ()


def _others(sched: SchedView, changes: dict[Path, tuple[str, str]], lower: bool) -> tuple[str, ...]:
    """Who else the change reaches."""
    inside = set[int]().union(*(members(str(path.parent)) for path in changes))
    count = len(inside - {thread.pid for thread in sched.threads})
    if lower:
        return (f"processes that get less of the CPUs whenever others want them: {count}",)
    return (f"other processes in that cgroup, which gain with the server: {count}",) if count else ()
