"""Who else uses the CPUs: a pass over /proc, made only while the server waits for a CPU, because it costs 17 µs a
process. Between two passes over all, no more often than ``SHARE`` allows, the busiest are read alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from time import thread_time

from qtop.clock import mono
from qtop.collect.kept import read_once, why_of
from qtop.collect.stat import Stat, parse_stat
from qtop.sample import Absent, TaskSample, cpulist

KEEP = 24
"""Processes kept of a scan: those that use most CPU now."""
MAX_THREADS = 64
"""Threads looked at, of a process that has several, to learn which CPUs it uses."""
BUSY_TICKS_S = 2.0
"""CPU ticks a second from which a process's threads are looked at one by one: one that uses less is nobody's
competitor, and 24 processes with 64 threads each would cost 7 ms."""
THREADS_A_SCAN = 128
"""Threads looked at in one scan, of the busiest processes first: 1 ms."""
SHARE = 0.001
"""Of one core's time that passes over all processes may take: with 60 processes every second, with 700 every 12 s."""
LONGEST_S = 12.0
_STAT_BYTES = 1024


class TaskScanner:
    """Scans the processes that are not the server's; two scans give the CPU time between them."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = str(root)
        self._last: dict[tuple[int, int], tuple[float, int]] = {}
        """Identity → when read, and its CPU ticks then."""
        self._busiest: tuple[int, ...] = ()
        self._passes = 0
        self._next_pass = 0.0

    def scan(self, exclude: frozenset[int]) -> tuple[TaskSample, ...] | Absent:
        """The busiest processes outside ``exclude``, by CPU time since they were last read (at first: since they
        started)."""
        begun, now = thread_time(), mono()
        # The first pass knows totals only: the second tells who is busy now.
        everything = self._passes < 2 or now >= self._next_pass
        pids: Iterable[int] = self._busiest
        if everything:
            try:
                pids = [int(name) for name in os.listdir(self._root) if name.isdecimal()]
            except OSError as error:
                return Absent(why_of(error), "cannot list processes")
        seen: dict[tuple[int, int], tuple[float, int]] = {}
        used: list[tuple[float, Stat]] = []
        for pid in pids:
            stat = _stat(f"{self._root}/{pid}/stat") if pid not in exclude else None
            if stat is None:
                continue
            key = (pid, stat.start_ticks)
            seen[key] = (now, stat.cpu_ticks)
            if stat.cpu_ticks:
                used.append((self._rate(key, now, stat.cpu_ticks), stat))
        used.sort(key=lambda item: item[0], reverse=True)
        del used[KEEP:]
        if everything:
            self._last = seen
            self._busiest = tuple(stat.pid for _, stat in used)
            self._passes += 1
            self._next_pass = now + min((thread_time() - begun) / SHARE, LONGEST_S)
        else:
            self._last.update(seen)
        left = THREADS_A_SCAN
        tasks = []
        for rate, stat in used:
            cpus = str(stat.processor)
            if rate >= BUSY_TICKS_S and left > 0:
                cpus = self._cpus(stat)
                left -= min(stat.threads, MAX_THREADS)
            tasks.append(TaskSample(stat.pid, stat.start_ticks, stat.comm, stat.cpu_ticks, cpus))
        return tuple(tasks)

    def _rate(self, key: tuple[int, int], now: float, ticks: int) -> float:
        """Ticks a second since it was last read; of one not read before all its ticks: a new one comes first."""
        at, before = self._last.get(key, (now - 1.0, 0))
        return (ticks - before) / max(now - at, 1e-3)

    def _cpus(self, stat: Stat) -> str:
        """CPUs its runnable threads were last on; of a process with one thread, that thread's."""
        if stat.threads <= 1:
            return str(stat.processor)
        folder = f"{self._root}/{stat.pid}/task"
        try:
            tids = os.listdir(folder)[:MAX_THREADS]
        except OSError:
            return str(stat.processor)
        threads = (_stat(f"{folder}/{tid}/stat") for tid in tids)
        cpus = {thread.processor for thread in threads if thread is not None and thread.state == "R"}
        return cpulist.show(cpus or {stat.processor})


def _stat(path: str) -> Stat | None:
    """A stat line, None where there is none."""
    text = read_once(path, _STAT_BYTES)
    return None if isinstance(text, Absent) else parse_stat(text)
