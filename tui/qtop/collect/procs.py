"""The server's process tree (source: /proc/PID/{stat,status,cmdline,cgroup}); its threads are read by ``threads``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import thread_time

from qtop.clock import mono
from qtop.collect.cgroup import CgroupReader
from qtop.collect.discover.procfs import argv
from qtop.collect.discover.servers import basename, program
from qtop.collect.kept import KeptFiles
from qtop.collect.stat import parse_stat
from qtop.collect.threads import SLOW_TICKS, ThreadReader, field
from qtop.sample import Absent, CgroupSample, ProcessSample, Reading, ServerProcs, Why

_TITLE_CHARS = 64
_UNTOLD = re.compile(r"[^A-Za-z0-9_.:+-]+")
_VERBS = frozenset({"serve", "server", "start", "run", "runner", "launch"})
"""Others may be anything that a user typed."""
_MULTIPROCESSING = re.compile(r"from multiprocessing\.(resource_tracker|spawn|forkserver) import")


def title_of(arguments: Sequence[str]) -> str:
    """What a process calls itself: the title it wrote over its arguments, else its program and verb; no other
    argument, and nothing but letters, digits and _.:+-."""
    how, what, rest = program(arguments)
    if how == "code":
        found = _MULTIPROCESSING.match(what)
        return found[1] if found else ""
    # A title is one word of argv, whatever spaces are in it ("gunicorn: worker [x]").
    words = what.split()[:1] if how == "exe" and not rest else [what]
    name = _UNTOLD.sub("", basename(words[0]) if words else "")[:_TITLE_CHARS]
    return f"{name} {rest[0]}" if name and rest and rest[0] in _VERBS else name


TREE_SHARE = 0.0005
"""Of one core's time that looking for the server's processes may take: a look reads a file for each of its threads,
4 ms for 400, which then comes every 8 s; a small server is looked at every ``SLOW_TICKS``."""


class ProcsCollector:
    """Reads the processes that ``tree()`` names; ``root`` is /proc, or a stand-in for it.

    The first of them is the server's root process: ``start_ticks`` say which it is (else the one found at the first
    reading is it), and another that is given its number later is never read in its place.
    """

    def __init__(
        self,
        tree: Callable[[], Iterable[int]],
        root: Path = Path("/proc"),
        start_ticks: int | None = None,
        clock: Callable[[], float] = mono,
    ) -> None:
        self._clock = clock
        self._root_ticks = start_ticks
        self._tree = tree
        self._root = str(root)
        self._proc = root
        self._files = KeptFiles()
        self._cgroups = CgroupReader(root)
        self._pids: tuple[int, ...] = ()
        self._tick = 0
        self._next_tree = 0.0
        self._keys: dict[int, str] = {}
        self._titles: dict[int, tuple[str, str]] = {}
        """By pid: the name when it was read, and the title."""
        self._starts: dict[int, int] = {}
        self._readers: dict[int, ThreadReader] = {}

    def read(self) -> ServerProcs | Absent:
        """One sample of the whole tree; Absent(LOST) when its root is gone."""
        slow = self._tick % SLOW_TICKS == 0
        self._tick += 1
        if (slow and self._clock() >= self._next_tree) or not self._pids:
            begun = thread_time()
            pids = tuple(self._tree())
            for gone in self._readers.keys() - set(pids):
                self._forget(gone)
            self._pids = pids
            self._next_tree = self._clock() + (thread_time() - begun) / TREE_SHARE
        if not self._pids:
            return Absent(Why.LOST, "the server's process is gone")
        at = self._clock()
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
        if stat is None or stat.state in "ZX":
            self._forget(pid)
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
        if pid not in self._readers:
            self._readers[pid] = ThreadReader(self._root, pid, self._proc == Path("/proc"))
        threads = self._readers[pid].read(allowed if isinstance(allowed, str) else "", stat.processor, stat.threads)
        return ProcessSample(
            pid=pid,
            start_ticks=stat.start_ticks,
            ppid=stat.ppid,
            comm=stat.comm,
            cpu_ticks=stat.cpu_ticks,
            rss_bytes=stat.rss_bytes,
            threads=threads,
            allowed=allowed,
            voluntary=voluntary,
            involuntary=involuntary,
            cgroup=self._keys[pid],
            title=self._title(pid, stat.comm, slow),
            state=stat.state if stat.state in "Tt" else "",
        )

    def _status(self, folder: str) -> tuple[Reading[str], Reading[int], Reading[int]]:
        text = self._files.read(f"{folder}/status")
        if isinstance(text, Absent):
            return text, text, text
        cpus = field(text, b"\nCpus_allowed_list:")
        voluntary, involuntary = (
            field(text, name) for name in (b"\nvoluntary_ctxt_switches:", b"\nnonvoluntary_ctxt_switches:")
        )
        missing = Absent(Why.UNSUPPORTED, "not in /proc/PID/status")
        return (
            cpus.decode() if cpus else missing,
            int(voluntary) if voluntary.isdigit() else missing,
            int(involuntary) if involuntary.isdigit() else missing,
        )

    def _title(self, pid: int, comm: str, slow: bool) -> str:
        """A process may write its title long after it started; then its name changes with it."""
        known = self._titles.get(pid)
        if known is None or known[0] != comm or slow:
            words = argv(pid, self._proc)
            known = self._titles[pid] = (comm, "" if isinstance(words, Absent) else title_of(words))
        return known[1]

    def _forget(self, pid: int) -> None:
        self._files.forget_below(f"{self._root}/{pid}/")
        self._keys.pop(pid, None)
        self._starts.pop(pid, None)
        self._titles.pop(pid, None)
        reader = self._readers.pop(pid, None)
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Close the kept files."""
        self._files.close()
        self._cgroups.close()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
