"""What qtop itself costs: CPU and memory of its processes, bytes to the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from qtop.clock import mono
from qtop.collect.kept import KeptFiles
from qtop.collect.stat import parse_stat
from qtop.sample import Absent, OwnSample


class OwnCollector:
    """Reads the cost of this process and of the children that ``children()`` names."""

    def __init__(self, children: Callable[[], Iterable[int]], tty_bytes: Callable[[], int] = lambda: 0) -> None:
        self.tty_bytes = tty_bytes
        self._children = children
        self._files = KeptFiles()
        self._pids: frozenset[int] = frozenset()
        self._hz = os.sysconf("SC_CLK_TCK")

    def read(self, lag_ms: float) -> OwnSample:
        """One reading; ``lag_ms`` is by how much this tick came late."""
        ticks = rss = 0
        pids = frozenset((os.getpid(), *self._children()))
        for gone in self._pids - pids:
            self._files.forget(f"/proc/{gone}/stat")
        self._pids = pids
        for pid in pids:
            text = self._files.read(f"/proc/{pid}/stat")
            stat = None if isinstance(text, Absent) else parse_stat(text)
            if stat is not None:
                ticks += stat.cpu_ticks
                rss += stat.rss_bytes
        return OwnSample(mono(), ticks * (1_000_000_000 // self._hz), rss, self.tty_bytes(), lag_ms)
