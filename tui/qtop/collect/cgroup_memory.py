"""The memory side of a cgroup (sources: kernel documentation of cgroup-v2, memory.{current,high,max,events,pressure},
and of the v1 memory controller, memory.{usage_in_bytes,limit_in_bytes,failcnt,memsw.*}). At most five preads on kept
files a tick."""

from __future__ import annotations

from qtop.collect.cgroup_tree import Place
from qtop.collect.host import parse_pressure
from qtop.collect.kept import KeptFiles
from qtop.sample import Absent, MemoryGroup, Pressure, Reading, Why

LEVEL_TICKS = 10
"""Reads between two looks for the level with the tightest limit: limits hardly ever change."""
NO_LIMIT = 1 << 62
"""v1 writes "no limit" as the largest multiple of a page below 2⁶³."""
UNCOUNTED = Absent(Why.UNSUPPORTED, "never, or the kernel does not count where swap is limited alike")
NONE = Absent(Why.UNSUPPORTED, "no memory controller")


class MemoryReader:
    """Reads one cgroup after another; remembers which level of each limits it."""

    def __init__(self, files: KeptFiles) -> None:
        self._files = files
        self._tight: dict[str, tuple[int, str, int | Absent | None]] = {}
        """By own folder: reads left, the folder of the tightest limit, and that limit."""

    def read(self, memory: Place | None, own: Place | None) -> MemoryGroup | Absent:
        """One reading; ``memory`` is where the controller is, ``own`` the cgroup in the v2 tree, which has the pressure
        even where the controller is on v1."""
        if memory is None:
            return NONE
        left, folder, limit = self._tight.get(memory.folders[0], (0, "", None))
        if left <= 0:
            left = LEVEL_TICKS
            folder, limit = self._tightest(memory)
            if len(self._tight) > 256:
                self._tight.clear()
        self._tight[memory.folders[0]] = (left - 1, folder, limit)
        name = "memory.usage_in_bytes" if memory.version == 1 else "memory.current"
        return MemoryGroup(
            used=self._number(f"{folder}/{name}"),
            limit=limit,
            hits=self._hits(folder, memory.version, limit),
            pressure=self._pressure(own),
        )

    def _tightest(self, memory: Place) -> tuple[str, int | Absent | None]:
        """The level with the lowest limit; its own and None where none has one."""
        names = ("memory.limit_in_bytes",) if memory.version == 1 else ("memory.high", "memory.max")
        found: tuple[str, int] | None = None
        for folder in memory.folders:
            for name in names:
                text = self._files.read(f"{folder}/{name}")
                if isinstance(text, Absent):
                    if text.why is Why.DENIED:
                        return folder, Absent(Why.DENIED, "its memory limit may not be read")
                    continue  # the root has no limit
                limit = int(text) if text.strip().isdigit() else NO_LIMIT  # "max"
                if limit < NO_LIMIT and (found is None or limit < found[1]):
                    found = folder, limit
        return found if found is not None else (memory.folders[0], None)

    def _hits(self, folder: str, version: int, limit: int | Absent | None) -> Reading[int]:
        if version == 1:
            return self._hits_v1(folder, limit)
        text = self._files.read(f"{folder}/memory.events")
        if isinstance(text, Absent):
            return Absent(text.why, "no memory.events")
        counts = dict(line.split()[:2] for line in text.split(b"\n") if len(line.split()) == 2)
        high, most = counts.get(b"high", b""), counts.get(b"max", b"")
        if not high.isdigit() or not most.isdigit():
            return Absent(Why.FAILED, "memory.events cannot be read as such")
        return int(high) + int(most)

    def _hits_v1(self, folder: str, limit: int | Absent | None) -> Reading[int]:
        """Where swap may not make up for the memory (docker's --memory-swap the same as --memory, pods), the limit of
        both together is as large and is asked first: then only that counts, on Linux 6.18 nothing."""
        hits = self._number(f"{folder}/memory.failcnt")
        with_swap = self._number(f"{folder}/memory.memsw.failcnt")
        if isinstance(hits, Absent) or isinstance(with_swap, Absent):
            return hits
        if with_swap == 0 and self._number(f"{folder}/memory.memsw.limit_in_bytes") == limit:
            return UNCOUNTED
        return hits + with_swap

    def _number(self, path: str) -> Reading[int]:
        text = self._files.read(path)
        if isinstance(text, Absent):
            return Absent(text.why, "the kernel does not tell here")
        return int(text) if text.strip().isdigit() else Absent(Why.FAILED, "no number")

    def _pressure(self, own: Place | None) -> Reading[Pressure]:
        if own is None:
            return Absent(Why.UNSUPPORTED, "no v2 tree")
        if len(own.folders) == 1 and not own.above:
            return Absent(Why.UNSUPPORTED, "it is in the root cgroup, whose pressure is the host's")
        return parse_pressure(self._files.read(f"{own.folders[0]}/memory.pressure"))
