"""Processes and threads as knobs know them again: by number and birth, in this boot and this namespace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qtop.clock import boot_id
from qtop.collect.discover import procfs
from qtop.collect.stat import parse_stat

CAP_SYS_NICE = 1 << 23


def start_ticks(pid: int, tid: int, ended: bool = False) -> int | None:
    """When a thread was born, in clock ticks since boot; with the number, its identity. None when it is gone.

    ``ended`` also takes a thread that has ended and is listed still, as a main thread is while others run on.
    """
    try:
        stat = parse_stat(Path(f"/proc/{pid}/task/{tid}/stat").read_bytes())
    except OSError:
        return None
    return None if stat is None or (stat.state in "ZX" and not ended) else stat.start_ticks


def may_set(pid: int) -> bool:
    """Whether the kernel would let this process change that one's CPUs (source: sched_setaffinity(2))."""
    owners = owners_of(pid)
    return not owners or os.geteuid() in owners or capable(CAP_SYS_NICE)  # gone: the call itself will tell


def owners_of(pid: int) -> tuple[int, ...]:
    """Its real and its effective user; none when it is gone."""
    return tuple(int(uid) for uid in procfs.status(pid, "Uid")[:2])


def capable(capability: int) -> bool:
    """Whether this process has a capability, as a bit of CapEff (source: capabilities(7))."""
    words = procfs.status(os.getpid(), "CapEff")
    return bool(int(words[0], 16) & capability) if words else os.geteuid() == 0


def is_same(record: dict[str, Any], process: dict[str, Any]) -> bool:
    """True if this is the very process of the record: same boot, same number, same birth."""
    born = start_ticks(process["pid"], process["pid"], ended=True)
    return bool(record["boot"] == boot_id() and born == process["start"])


def pid_namespace() -> str:
    """The namespace in which process numbers mean what they say here, or "" where it cannot be read."""
    return procfs.link("/proc/self/ns/pid")


def tids_of(pid: int) -> list[int]:
    """Its threads; none when it is gone."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def comm_of(pid: int) -> str:
    """Its name, "?" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
