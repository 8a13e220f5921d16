"""The processes that make up one server: its root, and everything below it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from qtop.collect.discover.procfs import PROC, Process, pids, process, read, stat
from qtop.collect.discover.servers import SUPERVISORS, Recognised, recognise


def kind_of(found: Process) -> Recognised | None:
    """What a process is, by its arguments or else its comm."""
    return recognise(found.argv if isinstance(found.argv, tuple) else (), found.comm)


def climb(
    pid: int, get: Callable[[int], Process | None], kind: Callable[[Process], Recognised | None] = kind_of
) -> int:
    """The root of the server that a process belongs to: up through parents that are parts of the same server.

    Shells, service managers and launchers end the climb. A part whose parent is not a recognised server (vLLM started
    from somebody's own script) belongs to that parent.
    """
    seen = {pid}
    top = get(pid)
    while top is not None and top.ppid not in seen and (parent := get(top.ppid)) is not None:
        if kind(parent) is None:
            what = kind(top)
            starter = parent.pid > 1 and parent.comm.partition(":")[0] not in SUPERVISORS
            return parent.pid if what is not None and what.part and starter else top.pid
        seen.add(parent.pid)
        top = parent
    return pid if top is None else top.pid


def server_root(pid: int, root: Path = PROC) -> int:
    """The root process of the server that ``pid`` is a part of; ``pid`` itself if it is no part of one."""
    return climb(pid, lambda number: process(number, root))


def offspring(parents: Mapping[int, int]) -> dict[int, list[int]]:
    """The children of each process, ascending, from the parent of each."""
    children: dict[int, list[int]] = {}
    for pid in sorted(parents):
        children.setdefault(parents[pid], []).append(pid)
    return children


def below(pid: int, children: Callable[[int], list[int]]) -> tuple[int, ...]:
    """A process and all its descendants, root first, level by level."""
    found = [pid]
    seen = {pid}
    for parent in found:
        for child in children(parent):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return tuple(found)


def _children_files(pid: int, root: Path) -> list[int]:
    """The children of every thread of a process, as the kernel lists them."""
    found: list[int] = []
    folder = f"{root}/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError:
        return found
    for thread in threads:
        data = read(f"{folder}/{thread}/children")
        if isinstance(data, bytes):
            found += [int(word) for word in data.split() if word.isdigit()]
    return sorted(found)


def server_tree(pid: int, root: Path = PROC) -> tuple[int, ...]:
    """A process and all its descendants in this PID namespace, root first; empty if it is gone.

    The kernel's ``children`` files cost one read per thread of the server; without them (CONFIG_PROC_CHILDREN) it takes
    one read per process of the machine. Both are 3 to 4 µs a read, and a machine has more processes than a server
    has threads, often by far. A child that ends while the list is read can hide a sibling until the next call.
    """
    if stat(pid, root) is None:
        return ()
    if isinstance(read(f"{root}/{pid}/task/{pid}/children"), bytes):
        return below(pid, lambda parent: _children_files(parent, root))
    parents = {number: found.ppid for number in pids(root) if (found := stat(number, root)) is not None}
    children = offspring(parents)
    return below(pid, lambda parent: children.get(parent, []))
