"""Between whom a nice value counts: threads of one CPU cgroup, and within that of one session where autogroups are on.

Sources: sched(7) ("The autogroup feature", "The nice value and group scheduling"), kernel/sched/autogroup.c (only the
root cgroup has autogroups), cgroups(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qtop.collect.cgroup_tree import CgroupTree, parse_membership

ENABLED = Path("/proc/sys/kernel/sched_autogroup_enabled")
AUTOGROUP = re.compile(r"(/autogroup-\d{1,20}) nice (-?\d{1,2})", re.ASCII)


@dataclass(frozen=True)
class CpuGroup:
    """Where a process competes for the CPU: the cgroup whose weight counts, and whether that is the root."""

    name: str
    root: bool


@lru_cache(maxsize=1)
def _tree() -> CgroupTree:
    return CgroupTree(Path("/proc"))


def cpu_group(pid: int) -> CpuGroup | None:
    """The nearest cgroup of a process that has a CPU weight; None when the process is gone."""
    try:
        paths = parse_membership(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return None
    place = _tree().place(paths, "cpu", pid)
    if place is None:  # not mounted here: by its name
        name = paths.get("cpu", paths.get("", "/"))
        return CpuGroup(name, name == "/")
    if place.version == 1:
        return CpuGroup(place.folders[0], len(place.folders) == 1 and not place.above)
    weighed = next((one for one in place.folders if Path(one, "cpu.weight").exists()), None)
    return CpuGroup(weighed or place.folders[-1], weighed is None and not place.above)


def autogroups_on() -> bool:
    """kernel.sched_autogroup_enabled."""
    try:
        return ENABLED.read_text().strip() == "1"
    except OSError:
        return False


def autogroup(pid: int) -> tuple[str, int] | None:
    """A process's autogroup and its nice value; None where there is none, or the process is gone."""
    try:
        found = AUTOGROUP.match(Path(f"/proc/{pid}/autogroup").read_text())
    except OSError:
        return None
    return None if found is None else (found[1], int(found[2]))
