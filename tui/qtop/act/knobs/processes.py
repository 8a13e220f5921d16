"""Processes and threads as knobs know them again: by number and birth, in this boot and this namespace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qtop.clock import boot_id
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
    try:
        uids = [int(uid) for uid in status(pid, "Uid").split()[:2]]
        capabilities = int(status("self", "CapEff"), 16)
    except (OSError, ValueError):
        return True  # the call itself will tell
    return os.geteuid() in uids or bool(capabilities & CAP_SYS_NICE)


def status(pid: int | str, name: str) -> str:
    """One field of /proc/PID/status; ValueError where it is missing."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise ValueError(name)


def is_same(record: dict[str, Any], process: dict[str, Any]) -> bool:
    """True if this is the very process of the record: same boot, same number, same birth."""
    born = start_ticks(process["pid"], process["pid"], ended=True)
    return bool(record["boot"] == boot_id() and born == process["start"])


def pid_namespace() -> str:
    """The namespace in which process numbers mean what they say here, or "" where it cannot be read."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


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
