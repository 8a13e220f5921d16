"""The threads of one process, every second (source: /proc/PID/task/TID/{schedstat,stat,comm,status}).

Most threads of a server sleep: one pread tells, and they give the same sample object again. What costs more (the CPU it
is on, its name, its mask) is read for those that ran, or for some of them each tick in turn. The counters themselves
are read of every thread at every tick: a wait that is booked late would count twice in the second it is booked in.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, eq

from qtop.collect.kept import SHARED, Allowance, read_once, why_of
from qtop.collect.stat import processor_of
from qtop.sample import Absent, ThreadSample, Why, cpulist

MAX_THREADS = 1024
"""Threads of one process read a tick. Beyond this the busiest are kept and the rest looked at now and then."""
SLOW_TICKS = 5
"""Masks of threads other than the main one are read every so many ticks, each tick a part of them."""
NAME_TICKS = 30
"""The same for names, which cost ten masks and hardly ever change."""
NEW_TURNS = 3
"""A thread gets its name after it has begun: for so many of its turns the name is read each time."""
_SCHEDSTAT_BYTES = 256
_STAT_BYTES = 1024


class _Thread:
    """What is kept of one thread."""

    __slots__ = ("allowed", "comm", "cpus", "fd", "processor", "sample", "stat_fd", "text", "turns")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """Its schedstat, -1 if it is opened anew each time."""
        self.stat_fd = -1
        """Its stat, opened when it runs and kept if there is room."""
        self.text = b""
        self.comm = ""
        self.turns = 0
        """How often its name was read, up to ``NEW_TURNS``."""
        self.cpus: set[int] = set()
        self.allowed = ""
        """Its mask, as the system call gives it and in words."""
        self.processor = -1
        self.sample: ThreadSample | None = None


_FD, _TEXT, _SAMPLE = attrgetter("fd"), attrgetter("text"), attrgetter("sample")


class ThreadReader:
    """Reads the threads of ``pid`` under ``root``; ``real`` if that is /proc itself, where system calls can help."""

    def __init__(self, root: str, pid: int, real: bool, most: int = MAX_THREADS, allowance: Allowance = SHARED) -> None:
        self._folder = f"{root}/{pid}/task"
        self._pid = pid
        self._real = real
        self._most = most
        self._allowance = allowance
        self._known: dict[int, _Thread] = {}
        self._rows: list[_Thread] | None = None
        """What is kept of each of the listed threads, in that order; None until all of them are open."""
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
            if listed != self._tids or self._lost:
                self._rows = None
            self._count, self._lost, self._tids = count, False, listed
            if len(self._known) > len(listed):
                self._prune(frozenset(listed))
        tids = self._tids
        too_many = len(tids) > self._most
        if too_many and not every:
            self._rows = None
            tids = [tid for tid in tids if tid == self._pid or tid in self._busy]
        quick = self._read_rows(allowed, processor) if self._rows is not None else None
        found = quick if quick is not None else self._read_each(tids, allowed, processor)
        if isinstance(found, Absent):
            return found
        if quick is None:
            self._rows = None if too_many else self._rows_of(tids, found)
        if too_many and every:
            busiest = sorted(found, key=lambda thread: thread.run_ns + thread.wait_ns, reverse=True)
            self._busy = frozenset(thread.tid for thread in busiest[: self._most - 1])
        self._tick += 1
        return tuple(found)

    def _rows_of(self, tids: list[int], found: list[ThreadSample]) -> list[_Thread] | None:
        """What is kept of these threads, where all of them are open and gave a sample."""
        if len(tids) != len(found):
            return None
        rows = [self._known[tid] for tid in tids]
        return None if any(row.fd < 0 for row in rows) else rows

    def _read_rows(self, allowed: str, processor: int) -> list[ThreadSample] | None:
        """The threads that were read before, all of them open: what most of them need is done in C. None where one of
        them has ended, or is otherwise not as it was."""
        rows = self._rows
        assert rows is not None
        try:
            texts = list(map(os.pread, map(_FD, rows), repeat(_SCHEDSTAT_BYTES), repeat(0)))
        except OSError:
            return None
        found = list(map(_SAMPLE, rows))
        tids = self._tids
        first = -self._tick % SLOW_TICKS
        moved = {at for at, same in enumerate(map(eq, texts, map(_TEXT, rows))) if not same}
        for at in {*moved, *(at for at, tid in enumerate(tids) if tid % SLOW_TICKS == first or tid == self._pid)}:
            tid, known = tids[at], rows[at]
            if at not in moved and tid != self._pid and self._as_it_was(tid, known):
                continue
            sample = self._thread(tid, known, texts[at], allowed, processor)
            if not isinstance(sample, ThreadSample):
                return None
            found[at] = sample
        return found

    def _as_it_was(self, tid: int, known: _Thread) -> bool:
        """Whether it is not the turn of a thread that slept, or that shows nothing new: no name to read, the same
        mask."""
        turn = (self._tick + tid) % NAME_TICKS
        if turn % SLOW_TICKS:
            return True
        return turn != 0 and known.turns == NEW_TURNS and self._same_mask(tid, known)

    def _read_each(self, tids: list[int], allowed: str, processor: int) -> list[ThreadSample] | Absent:
        """One sample of each of these threads that is there."""
        threads: list[ThreadSample] = []
        known_threads, pread, main = self._known, os.pread, self._pid
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
                if text == known.text and last is not None and tid != main and self._as_it_was(tid, known):
                    threads.append(last)
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
        return threads

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
            self._read_mask(tid, known)
        young = known.turns < NEW_TURNS and turn % SLOW_TICKS == 0
        if known.sample is None or young or turn % NAME_TICKS == 0:
            known.turns = min(NEW_TURNS, known.turns + 1)
            name = read_once(f"{self._folder}/{tid}/comm", 64)
            known.comm = "?" if isinstance(name, Absent) else name.decode("utf-8", "replace").rstrip("\n")
        if text != known.text and tid != self._pid:
            stat = self._stat(tid, known)
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

    def _same_mask(self, tid: int, known: _Thread) -> bool:
        """Whether a thread still has the mask that is known of it; False where that is not to be had for a system
        call."""
        try:
            return self._real and os.sched_getaffinity(tid) == known.cpus
        except OSError:
            return False

    def _read_mask(self, tid: int, known: _Thread) -> None:
        """The CPUs of a thread: by system call on a real /proc (1 µs), by its status file on a stand-in."""
        if self._real:
            try:
                known.cpus = os.sched_getaffinity(tid)
                known.allowed = _shown(frozenset(known.cpus))
            except OSError:
                known.cpus, known.allowed = set(), ""
            return
        text = read_once(f"{self._folder}/{tid}/status")
        known.allowed = "" if isinstance(text, Absent) else field(text, b"\nCpus_allowed_list:").decode()

    def _stat(self, tid: int, known: _Thread) -> bytes | Absent:
        """A thread's stat line; those that ran once mostly run again, so the file stays open if there is room."""
        path = f"{self._folder}/{tid}/stat"
        try:
            if known.stat_fd >= 0:
                return os.pread(known.stat_fd, _STAT_BYTES, 0)
            if known.sample is None or not self._real or not self._allowance.take():
                return read_once(path, _STAT_BYTES)
            try:
                known.stat_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._allowance.give_back()
                raise
            return os.pread(known.stat_fd, _STAT_BYTES, 0)
        except OSError as error:
            return Absent(why_of(error), path)

    def _prune(self, alive: frozenset[int]) -> None:
        for tid in self._known.keys() - alive:
            self._forget(tid)

    def _forget(self, tid: int) -> None:
        known = self._known.pop(tid, None)
        if known is None:
            return
        self._rows = None
        for fd in (known.fd, known.stat_fd):
            if fd >= 0:
                os.close(fd)
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
