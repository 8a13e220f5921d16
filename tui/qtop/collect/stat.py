"""One line of /proc/PID/stat, read right: the name may hold spaces and parentheses (source: proc_pid_stat(5))."""

from __future__ import annotations

import os
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """The fields that qtop uses."""

    pid: int
    comm: str
    state: str
    ppid: int
    cpu_ticks: int
    """utime + stime, clock ticks."""
    threads: int
    start_ticks: int
    rss_bytes: int
    processor: int


def parse_stat(text: bytes) -> Stat | None:
    """The parsed line, or None when it is cut or not such a line."""
    left, right = text.find(b"("), text.rfind(b")")
    if left < 0 or right < left:
        return None
    rest = text[right + 2 :].split()
    if len(rest) < 37:
        return None
    return Stat(
        pid=int(text[:left]),
        comm=text[left + 1 : right].decode("utf-8", "replace"),
        state=rest[0].decode(),
        ppid=int(rest[1]),
        cpu_ticks=int(rest[11]) + int(rest[12]),
        threads=int(rest[17]),
        start_ticks=int(rest[19]),
        rss_bytes=int(rest[21]) * PAGE,
        processor=int(rest[36]),
    )
