"""Processes that came from others: children born later have inherited what a knob gave their parents."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from qtop.collect.discover import procfs
from qtop.collect.stat import Stat

PF_KTHREAD = 0x00200000
"""include/linux/sched.h"""


class Kin(NamedTuple):
    """A process, and the one of those asked about that it descends from."""

    pid: int
    start_ticks: int
    comm: str
    ancestor: int


def now_ticks() -> int:
    """Clock ticks since boot, as births are told in."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def all_stats() -> dict[int, Stat]:
    """Every process that can be seen."""
    return {pid: found for pid in procfs.pids() if (found := procfs.stat(pid)) is not None}


def is_kernels(pid: int) -> bool:
    """Whether it is a thread of the kernel (PF_KTHREAD; proc_pid_stat(5), field 9)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return bool(int(fields[6]) & PF_KTHREAD)
    except (OSError, IndexError, ValueError):
        return False


def descendants(pids: Iterable[int]) -> frozenset[int]:
    """These processes and all that come from them."""
    found = set(pids)
    stats = sorted(all_stats().values(), key=lambda stat: stat.start_ticks)
    for _ in range(2):  # a child may be as old as its parent, by a clock of 10 ms
        found |= {stat.pid for stat in stats if stat.ppid in found}
    for stat in stats:
        if stat.ppid in found:
            found.add(stat.pid)
    return frozenset(found)


def born_since(ticks: int, parents: Iterable[int], groups: dict[int, int]) -> Iterator[Kin]:
    """Processes younger than ``ticks`` that descend from ``parents``; and, by ``groups`` (process group → one of those
    asked about), those whose own parent has ended and that are in such a group still."""
    known = {pid: pid for pid in parents}
    for stat in sorted(all_stats().values(), key=lambda stat: (stat.start_ticks, stat.pid)):
        if stat.start_ticks < ticks or stat.pid in known or stat.state in "ZX":
            continue
        ancestor = known.get(stat.ppid)
        if ancestor is None:
            group = group_of(stat.pid)
            # Who adopts an orphan is in another group than it; a child of theirs would lead one of its own.
            if group in groups and group != stat.pid and group_of(stat.ppid) != group:
                ancestor = groups[group]
        if ancestor is not None:
            known[stat.pid] = ancestor
            yield Kin(stat.pid, stat.start_ticks, stat.comm, ancestor)


def group_of(pid: int) -> int:
    """Its process group, 0 when it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0
