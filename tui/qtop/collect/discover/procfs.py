"""Reading /proc without ever raising: a process that vanished or may not be read is None, or an Absent with its reason.

Every function takes the mount point as ``root``, so that a copied or made-up tree reads like the live one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtop.collect.stat import Stat, parse_stat
from qtop.sample import Absent, Why

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as its ``stat`` and ``cmdline`` show it; ``start_ticks`` are clock ticks after boot."""

    pid: int
    ppid: int
    comm: str
    state: str
    start_ticks: int
    argv: tuple[str, ...] | Absent
    """As the process shows it now (a retitled process has one word); empty for a kernel thread or a zombie."""


def read(path: str) -> bytes | OSError:
    """The whole file, or the error that kept it from being read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error
    try:
        chunks = []
        while chunk := os.read(handle, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError as error:
        return error
    finally:
        os.close(handle)


def text(path: str) -> str:
    """The file as text, or "" where it cannot be read."""
    data = read(path)
    return "" if isinstance(data, OSError) else data.decode(errors="replace")


def link(path: str) -> str:
    """Where a symbolic link points, or "" where it cannot be read."""
    try:
        return os.readlink(path)  # noqa: PTH115 - run once per open file of every process; a Path costs three times as much
    except OSError:
        return ""


def pids(root: Path = PROC) -> Iterator[int]:
    """Every process id listed under ``root``."""
    try:
        with os.scandir(root) as entries:
            yield from [int(entry.name) for entry in entries if entry.name.isdecimal()]
    except OSError:
        return


def stat(pid: int, root: Path = PROC) -> Stat | None:
    """The ``stat`` line of a process, or None if it is gone or hidden."""
    data = read(f"{root}/{pid}/stat")
    return None if isinstance(data, OSError) else parse_stat(data)


def start_ticks(pid: int, root: Path = PROC) -> int | None:
    """When a process started, in clock ticks after boot (field 22 of stat): its identity, with the pid. None: gone."""
    parsed = stat(pid, root)
    return parsed.start_ticks if parsed else None


def started(pid: int, root: Path = PROC) -> float | Absent:
    """When a process started, in Unix seconds (source: ``btime`` of /proc/stat and its start ticks)."""
    ticks = start_ticks(pid, root)
    if ticks is None:
        return Absent(Why.LOST, "the process has ended")
    for line in text(f"{root}/stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "btime" and value.isdecimal():
            return int(value) + ticks / os.sysconf("SC_CLK_TCK")
    return Absent(Why.UNSUPPORTED, "the kernel does not say when it booted")


def argv(pid: int, root: Path = PROC) -> tuple[str, ...] | Absent:
    """The words of /proc/PID/cmdline, unchanged; Absent where the process is gone or hidden."""
    data = read(f"{root}/{pid}/cmdline")
    if isinstance(data, OSError):
        if isinstance(data, PermissionError):
            return Absent(Why.DENIED, "its command line may not be read")
        return Absent(Why.LOST, "the process has ended")
    words = data.decode(errors="surrogateescape").split("\0")
    # A title written over the old words leaves a run of NULs; a true argument list ends with exactly one.
    if not any(words[1:]):
        return (words[0],) if words[0] else ()
    return tuple(words[:-1] if words[-1] == "" else words)


def process(pid: int, root: Path = PROC) -> Process | None:
    """One process, or None if it is gone or hidden."""
    parsed = stat(pid, root)
    if parsed is None:
        return None
    return Process(pid, parsed.ppid, parsed.comm, parsed.state, parsed.start_ticks, argv(pid, root))


def processes(root: Path = PROC) -> dict[int, Process]:
    """Every process that can be seen, by pid."""
    return {pid: found for pid in pids(root) if (found := process(pid, root)) is not None}


def own_pid(root: Path = PROC) -> int:
    """The reader's own pid as ``root`` numbers it, or 0 where that tree does not know the reader."""
    name = link(f"{root}/self")
    return int(name) if name.isdecimal() else 0


def environ(pid: int, names: frozenset[str], root: Path = PROC) -> dict[str, str]:
    """Those of the named variables that the process was started with; empty where its environment may not be read."""
    data = read(f"{root}/{pid}/environ")
    if isinstance(data, OSError):
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in data.split(b"\0"))
    return {name: value for name, _, value in pairs if name in names}


def status(pid: int, key: str, root: Path = PROC) -> list[str]:
    """The words of one line of /proc/PID/status, or an empty list."""
    for line in text(f"{root}/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.split()
    return []


def effective_uid(pid: int, root: Path = PROC) -> int | None:
    """The effective user id, or None if it cannot be read."""
    words = status(pid, "Uid", root)
    return int(words[1]) if len(words) > 1 else None


def net_namespace(pid: int | str, root: Path = PROC) -> str:
    """A key that two processes share when they share a network namespace; "" if it cannot be told.

    The namespace link needs the right to trace the process. The inode number of its view of ``net/tcp`` does not, and
    differs from one namespace to the next as well; keys are comparable as every process has the second.
    """
    try:
        return f"tcp:{os.stat(f'{root}/{pid}/net/tcp').st_ino}"  # noqa: PTH116 - once per process
    except OSError:
        return ""
