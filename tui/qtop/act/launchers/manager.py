"""What launchers of managed servers share: the server among the processes that a manager knows as one."""

from __future__ import annotations

import hashlib

from qtop.clock import boot_id
from qtop.collect.discover.procfs import argv, process, start_ticks, stat
from qtop.collect.discover.servers import recognise
from qtop.collect.discover.tree import kind_of, server_tree
from qtop.sample import Absent


def server_in(pid: int) -> int | None:
    """The root of the server among a process and those below it; None where none is known as one."""
    for number in server_tree(pid):
        found = process(number)
        kind = kind_of(found) if found is not None else None
        if kind is not None and not kind.part:
            return number
    return None


def server_below(pid: int) -> int:
    """The root of the server that runs under a manager's main process: that process, or what a script of it started."""
    return server_in(pid) or pid


def words_below(pid: int, pending: list[str]) -> list[str] | None:
    """The words of the server under a manager's main process; ``pending``, with which it was started, as long as only
    what comes before it is there: an init, a script, a fork that runs nothing yet. None once it is gone."""
    number = server_in(pid)
    if number is None and recognise(pending) is not None:
        return list(pending) if stat(pid) is not None else None
    words = argv(number or pid)
    return None if isinstance(words, Absent) or not words else list(words)


def token_for(pid: int, name: str) -> str:
    """A mark by which what one change wrote is known again: the same in the preview and in the change, and another once
    the server was started anew."""
    return hashlib.sha256(f"{boot_id()} {pid} {start_ticks(pid)} {name}".encode()).hexdigest()[:16]
