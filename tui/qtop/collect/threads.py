"""The threads of one process, every second (source: /proc/PID/task/TID/{schedstat,stat,comm,status}).

Most threads of a server sleep: one pread tells, and they give the same sample object again. What costs more (the CPU it
is on, its name, its mask) is read for those that ran, or for some of them each tick in turn.
"""

from __future__ import annotations

import os
from functools import lru_cache

from qtop.collect.kept import SHARED, Allowance, read_once, why_of
from qtop.collect.stat import processor_of
from qtop.sample import Absent, ThreadSample, Why, cpulist

MAX_THREADS = 1024
"""Threads of one process read a tick. Beyond this the busiest are kept and the rest looked at now and then."""
SLOW_TICKS = 5
"""Masks of threads other than the main one are read every so many ticks, each tick a part of them."""
NAME_TICKS = 10
"""The same for names, which hardly ever change."""
_SCHEDSTAT_BYTES = 256
_STAT_BYTES = 1024


class _Thread:
    """What is kept of one thread."""

    __slots__ = ("allowed", "comm", "fd", "processor", "sample", "text")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """Its schedstat, -1 if it is opened anew each time."""
        self.text = b""
        self.comm = ""
        self.allowed = ""
        self.processor = -1
        self.sample: ThreadSample | None = None


class ThreadReader:
    """Reads the threads of ``pid`` under ``root``; ``real`` if that is /proc itself, where system calls can help."""

    def __init__(self, root: str, pid: int, real: bool, most: int = MAX_THREADS, allowance: Allowance = SHARED) -> None:
        self._folder = f"{root}/{pid}/task"
        self._pid = pid
        self._real = real
        self._most = most
        self._allowance = allowance
        self._known: dict[int, _Thread] = {}
        self._busy: frozenset[int] = frozenset()
        self._tick = 0
        self._tids: list[int] = []
        self._count = -1
        """Threads of the process when they were listed, as its stat says."""
        self._lost = False
        """One of those listed has ended."""

    def read(self, allowed: str, processor: int, count: int = -1) -> tuple[ThreadSample, ...] | Absent:
        """One sample of each; mask and CPU of the main thread come from the process's own files, and so does their
        ``count``, which tells when to list them anew (-1: at once)."""
        # Not in the ticks in which the tree of processes is looked at, which costs as much.
        every = not self._tids or self._tick % SLOW_TICKS == SLOW_TICKS // 2
        if count < 0 or count != self._count or self._lost or every or not self._real:
            try:
                listed = [int(name) for name in os.listdir(self._folder) if name.isdecimal()]
            except OSError as error:
                return Absent(why_of(error), f"threads of {self._pid}: {os.strerror(error.errno or 0)}")
            self._count, self._lost, self._tids = count, False, listed
            if len(self._known) > len(listed):
                self._prune(frozenset(listed))
        tids = self._tids
        too_many = len(tids) > self._most
        if too_many and not every:
            tids = [tid for tid in tids if tid == self._pid or tid in self._busy]
        threads: list[ThreadSample] = []
        known_threads, tick, pread, main = self._known, self._tick, os.pread, self._pid
        for tid in tids:
            known = known_threads.get(tid)
            if known is not None and known.fd >= 0:
                try:
                    text = pread(known.fd, _SCHEDSTAT_BYTES, 0)
                except OSError:  # ended; if its number is in use again, the next listing finds the new one
                    self._forget(tid)
                    self._lost = True
                    continue
                last = known.sample
                if text == known.text and last is not None and (tick + tid) % SLOW_TICKS and tid != main:
                    threads.append(last)  # it slept, and it is not its turn
                    continue
            else:
                first = self._open(tid)
                if isinstance(first, Absent):
                    self._lost = True
                    why = self._whole(tid, first)
                    if why is not None:
                        return why
                    continue
                known, text = known_threads[tid], first
            sample = self._thread(tid, known, text, allowed, processor)
            if isinstance(sample, Absent):
                return sample
            if sample is not None:
                threads.append(sample)
        if too_many and every:
            busiest = sorted(threads, key=lambda thread: thread.run_ns + thread.wait_ns, reverse=True)
            self._busy = frozenset(thread.tid for thread in busiest[: self._most - 1])
        self._tick += 1
        return tuple(threads)

    def _thread(
        self, tid: int, known: _Thread, text: bytes, allowed: str, processor: int
    ) -> ThreadSample | Absent | None:
        """The sample of a thread whose schedstat is ``text``: None where that is none; Absent where the kernel does
        not count."""
        turn = self._tick + tid
        times = _schedstat(text)
        if times is None:
            return None
        run, wait, slices = times
        if tid == self._pid:
            if run == 0 and slices == 0:  # it has run, or it would not be there
                return Absent(Why.UNSUPPORTED, "the kernel does not count waiting (sysctl kernel.task_delayacct=1)")
            known.allowed, known.processor = allowed, processor
        elif known.sample is None or turn % SLOW_TICKS == 0:
            known.allowed = self._mask(tid)
        if known.sample is None or turn % NAME_TICKS == 0:
            name = read_once(f"{self._folder}/{tid}/comm", 64)
            known.comm = "?" if isinstance(name, Absent) else name.decode("utf-8", "replace").rstrip("\n")
        if text != known.text and tid != self._pid:
            stat = read_once(f"{self._folder}/{tid}/stat", _STAT_BYTES)
            known.processor = -1 if isinstance(stat, Absent) else processor_of(stat)
        known.text = text
        sample = ThreadSample(tid, known.comm, run, wait, slices, known.allowed, known.processor)
        if sample != known.sample:  # else the same object again
            known.sample = sample
        return known.sample

    def _open(self, tid: int) -> bytes | Absent:
        """The first reading of a thread's schedstat; keeps it open if there is room."""
        path = f"{self._folder}/{tid}/schedstat"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Absent(why_of(error), path)
        kept = False
        try:
            text = os.pread(fd, _SCHEDSTAT_BYTES, 0)
            kept = self._allowance.take()
        except OSError as error:
            return Absent(why_of(error), path)
        finally:
            if not kept:
                os.close(fd)
        known = self._known.setdefault(tid, _Thread(-1))
        if kept:
            known.fd = fd
        return text

    def _whole(self, tid: int, why: Absent) -> Absent | None:
        """What an unreadable thread says of its process: a main thread's may be the kernel's fault or hidden; another
        has ended."""
        self._forget(tid)
        if tid != self._pid:
            return None
        # A thread that ended leaves no folder; one that is there without the file tells of the kernel.
        if why.why is Why.UNSUPPORTED and os.path.isdir(f"{self._folder}/{tid}"):  # noqa: PTH112
            return Absent(Why.UNSUPPORTED, "the kernel has no schedstat (CONFIG_SCHED_INFO is off)")
        if why.why is Why.DENIED:
            return Absent(Why.DENIED, f"no permission to read the threads of process {self._pid}")
        return None

    def _mask(self, tid: int) -> str:
        """The CPUs of a thread: by system call on a real /proc (1 µs), by its status file on a stand-in."""
        if self._real:
            try:
                return _shown(frozenset(os.sched_getaffinity(tid)))
            except OSError:
                return ""
        text = read_once(f"{self._folder}/{tid}/status")
        return "" if isinstance(text, Absent) else field(text, b"\nCpus_allowed_list:").decode()

    def _prune(self, alive: frozenset[int]) -> None:
        for tid in self._known.keys() - alive:
            self._forget(tid)

    def _forget(self, tid: int) -> None:
        known = self._known.pop(tid, None)
        if known is not None and known.fd >= 0:
            os.close(known.fd)
            self._allowance.give_back()

    def close(self) -> None:
        """Close the kept files."""
        self._prune(frozenset())

    def __del__(self) -> None:
        """Descriptors are plain numbers to Python: nobody else would close them."""
        self.close()


_shown = lru_cache(maxsize=256)(cpulist.show)


def _schedstat(text: bytes) -> tuple[int, int, int] | None:
    """Nanoseconds run and waited, and time slices; None for anything else."""
    fields = text.split()
    if len(fields) != 3 or not all(map(bytes.isdigit, fields)):
        return None
    return int(fields[0]), int(fields[1]), int(fields[2])


def field(text: bytes, name: bytes) -> bytes:
    """The value of one line of /proc/PID/status, stripped; b"" where there is none."""
    start = text.find(name)
    if start < 0:
        return b""
    start += len(name)
    return text[start : text.find(b"\n", start)].strip()
