"""The server's process tree, thread by thread (source: /proc/PID/{stat,status}, /proc/PID/task/TID/schedstat)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from qtop.clock import mono
from qtop.collect.cgroup import CgroupReader
from qtop.collect.kept import KeptFiles, why_of
from qtop.collect.stat import parse_stat
from qtop.sample import Absent, CgroupSample, ProcessSample, Reading, ServerProcs, ThreadSample, Why, cpulist

MAX_THREADS = 256
"""Threads read a tick. A server has 20–150; beyond this the busiest are kept and the rest looked at now and then."""
SLOW_TICKS = 5
"""Names, masks of threads other than the main one and cgroup membership are read every so many ticks."""


class ProcsCollector:
    """Reads the processes that ``tree()`` names; ``root`` is /proc, or a stand-in for it.

    The first of them is the server's root process: ``start_ticks`` say which it is (else the one found at the first
    reading is it), and another that is given its number later is never read in its place.
    """

    def __init__(
        self, tree: Callable[[], Iterable[int]], root: Path = Path("/proc"), start_ticks: int | None = None
    ) -> None:
        self._root_ticks = start_ticks
        self._tree = tree
        self._root = str(root)
        self._real = root == Path("/proc")
        self._files = KeptFiles()
        self._cgroups = CgroupReader(root)
        self._pids: tuple[int, ...] = ()
        self._tick = 0
        self._keys: dict[int, str] = {}
        self._comms: dict[tuple[int, int], str] = {}
        self._allowed: dict[tuple[int, int], str] = {}
        self._starts: dict[int, int] = {}
        self._busy: dict[int, set[int]] = {}

    def read(self) -> ServerProcs | Absent:
        """One sample of the whole tree; Absent(LOST) when its root is gone."""
        slow = self._tick % SLOW_TICKS == 0
        self._tick += 1
        if slow or not self._pids:
            pids = tuple(self._tree())
            for gone in set(self._pids) - set(pids):
                self._forget(gone)
            self._pids = pids
        if not self._pids:
            return Absent(Why.LOST, "the server's process is gone")
        at = mono()
        processes: list[ProcessSample] = []
        for pid in self._pids:
            process = self._process(pid, slow)
            if isinstance(process, ProcessSample):
                processes.append(process)
            elif pid == self._pids[0]:
                self._pids = ()  # ask for the tree again on the next tick
                return process
        # What could not be read waits for the next look at the tree: its number may by then be another's.
        self._pids = tuple(process.pid for process in processes)
        cgroups: dict[str, CgroupSample | Absent] = {}
        for process in processes:
            if process.cgroup and process.cgroup not in cgroups:
                cgroups[process.cgroup] = self._cgroups.read(process.cgroup)
        return ServerProcs(at=at, processes=tuple(processes), cgroups=cgroups)

    def _process(self, pid: int, slow: bool) -> ProcessSample | Absent:
        folder = f"{self._root}/{pid}"
        text = self._files.read(f"{folder}/stat")
        if isinstance(text, Absent):
            self._forget(pid)
            if text.why is Why.DENIED:
                return Absent(Why.DENIED, f"no permission to read process {pid} (hidepid?)")
            return Absent(Why.LOST, f"process {pid} is gone")
        stat = parse_stat(text)
        if stat is None:
            return Absent(Why.FAILED, f"process {pid}: unreadable stat")
        if stat.state in "ZX":
            return Absent(Why.LOST, f"process {pid} has ended")
        is_root = pid == self._pids[0]
        if is_root and self._root_ticks is None:
            self._root_ticks = stat.start_ticks
        known = self._root_ticks if is_root else self._starts.setdefault(pid, stat.start_ticks)
        if known != stat.start_ticks:
            self._forget(pid)
            return Absent(Why.LOST, f"process {pid} is gone (its number was given to another)")
        allowed, voluntary, involuntary = self._status(folder)
        if slow or pid not in self._keys:
            self._keys[pid] = self._cgroups.key_of(pid)
        return ProcessSample(
            pid=pid,
            start_ticks=stat.start_ticks,
            ppid=stat.ppid,
            comm=stat.comm,
            cpu_ticks=stat.cpu_ticks,
            rss_bytes=stat.rss_bytes,
            threads=self._threads(pid, slow, allowed if isinstance(allowed, str) else ""),
            allowed=allowed,
            voluntary=voluntary,
            involuntary=involuntary,
            cgroup=self._keys[pid],
        )

    def _status(self, folder: str) -> tuple[Reading[str], Reading[int], Reading[int]]:
        text = self._files.read(f"{folder}/status")
        if isinstance(text, Absent):
            return text, text, text
        cpus = _field(text, b"\nCpus_allowed_list:")
        voluntary, involuntary = (
            _field(text, name) for name in (b"\nvoluntary_ctxt_switches:", b"\nnonvoluntary_ctxt_switches:")
        )
        missing = Absent(Why.UNSUPPORTED, "not in /proc/PID/status")
        return (
            cpus.decode() if cpus else missing,
            int(voluntary) if voluntary.isdigit() else missing,
            int(involuntary) if involuntary.isdigit() else missing,
        )

    def _threads(self, pid: int, slow: bool, main_allowed: str) -> tuple[ThreadSample, ...] | Absent:
        folder = f"{self._root}/{pid}/task"
        try:
            tids = [int(name) for name in os.listdir(folder) if name.isdecimal()]
        except OSError as error:
            return Absent(why_of(error), f"threads of {pid}: {os.strerror(error.errno or 0)}")
        if len(tids) > MAX_THREADS and not slow:
            keep = self._busy.get(pid, set())
            tids = [tid for tid in tids if tid == pid or tid in keep]
        threads = []
        for tid in tids:
            text = self._files.read(f"{folder}/{tid}/schedstat", 256)
            if isinstance(text, Absent):
                # A thread that ended leaves no folder; one that is there without the file tells of the kernel.
                if text.why is Why.UNSUPPORTED and tid == pid and os.path.isdir(f"{folder}/{tid}"):  # noqa: PTH112
                    return Absent(Why.UNSUPPORTED, "the kernel has no schedstat (CONFIG_SCHED_INFO is off)")
                if text.why is Why.DENIED and tid == pid:
                    return Absent(Why.DENIED, f"no permission to read the threads of process {pid}")
                continue
            times = _schedstat(text)
            if times is None:
                continue
            run, wait, slices = times
            if tid == pid and run == 0 and slices == 0:  # it has run, or it would not be there
                return Absent(Why.UNSUPPORTED, "the kernel does not count waiting (sysctl kernel.task_delayacct=1)")
            key = (pid, tid)
            if slow or key not in self._comms:
                name = self._files.read(f"{folder}/{tid}/comm", 64)
                self._files.forget(f"{folder}/{tid}/comm")
                self._comms[key] = "?" if isinstance(name, Absent) else name.decode("utf-8", "replace").rstrip("\n")
                self._allowed[key] = self._mask(folder, tid)
            threads.append(
                ThreadSample(
                    tid, self._comms[key], run, wait, slices, main_allowed if tid == pid else self._allowed[key]
                )
            )
        if slow and len(tids) > MAX_THREADS:
            busiest = sorted(threads, key=lambda thread: thread.run_ns + thread.wait_ns, reverse=True)
            self._busy[pid] = {thread.tid for thread in busiest[: MAX_THREADS - 1]}
        if slow:
            self._prune(pid, {thread.tid for thread in threads})
        return tuple(threads)

    def _mask(self, folder: str, tid: int) -> str:
        """The CPUs of a thread: by system call on a real /proc (1 µs), by its status file on a stand-in."""
        if self._real:
            try:
                return cpulist.show(os.sched_getaffinity(tid))
            except OSError:
                return ""
        path = f"{folder}/{tid}/status"
        text = self._files.read(path)
        self._files.forget(path)
        return "" if isinstance(text, Absent) else _field(text, b"\nCpus_allowed_list:").decode()

    def _prune(self, pid: int, alive: set[int]) -> None:
        for key in [key for key in self._comms if key[0] == pid and key[1] not in alive]:
            del self._comms[key]
            self._allowed.pop(key, None)
            self._files.forget_below(f"{self._root}/{pid}/task/{key[1]}/")

    def _forget(self, pid: int) -> None:
        self._files.forget_below(f"{self._root}/{pid}/")
        self._keys.pop(pid, None)
        self._starts.pop(pid, None)
        self._prune(pid, set())
        self._busy.pop(pid, None)

    def close(self) -> None:
        """Close the kept files."""
        self._files.close()
        self._cgroups.close()


def _schedstat(text: bytes) -> tuple[int, int, int] | None:
    """Nanoseconds run and waited, and time slices; None for anything else."""
    fields = text.split()
    if len(fields) != 3 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1]), int(fields[2])


def _field(text: bytes, name: bytes) -> bytes:
    """The value of one line of /proc/PID/status, stripped; b"" where there is none."""
    start = text.find(name)
    if start < 0:
        return b""
    start += len(name)
    return text[start : text.find(b"\n", start)].strip()
