"""One line of /proc/PID/stat, read right: the name may hold spaces, newlines and parentheses (source:
proc_pid_stat(5)). The only parser of such lines."""

from __future__ import annotations

import os
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
_PROCESSOR = 36
"""Place of field 39 after the name, the state being 0."""


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
    rest = text[right + 2 :].split(None, _PROCESSOR + 1)
    if left < 0 or right < left or len(rest) <= _PROCESSOR:
        return None
    try:
        return Stat(
            pid=int(text[:left]),
            comm=text[left + 1 : right].decode("utf-8", "replace"),
            state=rest[0].decode(),
            ppid=int(rest[1]),
            cpu_ticks=int(rest[11]) + int(rest[12]),
            threads=int(rest[17]),
            start_ticks=int(rest[19]),
            rss_bytes=int(rest[21]) * PAGE,
            processor=int(rest[_PROCESSOR]),
        )
    except ValueError:
        return None


def processor_of(text: bytes) -> int:
    """The CPU a thread was last on, from its stat line; -1 where the line does not say."""
    rest = text[text.rfind(b")") + 2 :].split(None, _PROCESSOR + 1)
    return int(rest[_PROCESSOR]) if len(rest) > _PROCESSOR and rest[_PROCESSOR].isdigit() else -1
