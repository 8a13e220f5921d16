"""The live host: collectors on their own threads, put together to one sample a tick."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from qtop.clock import mono, wall
from qtop.collect import discover
from qtop.collect.host import HostCollector
from qtop.collect.nvml import NvmlCollector
from qtop.collect.own import OwnCollector
from qtop.collect.procs import ProcsCollector
from qtop.collect.runner import STALE_PERIODS, Worker
from qtop.collect.tasks import TaskScanner
from qtop.collect.topology import TopologyReader
from qtop.collect.wakeup import WakeupCollector
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    ClientSample,
    HostSample,
    OwnSample,
    Sample,
    ServerInfo,
    ServerProcs,
    TaskSample,
    Why,
)
from qtop.source import OnSample
from qtop.source.attach import Attached, Attachment, Target
from qtop.source.scrape import Scraper

SOON_S = 0.25
GRACE = 0.2
"""Seconds that a tick waits for its collectors; what comes later is in the next sample."""
GAP_S = 5.0
"""A tick later than this (and three intervals) was not late but stopped: Ctrl-Z, a debugger, a suspended machine."""
WAITING = 0.05
"""Share of wall time: when a thread of the server waits longer than this, other processes are looked at."""


@dataclass(frozen=True)
class Roots:
    """Where the kernel's files are; others stand for them where a fixture is recorded, and the collectors read those as
    they would the real ones. Servers are always found in the real /proc."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    run: Path = Path("/run")


class LiveSource:
    """Samples of this host and its server, every ``interval`` seconds."""

    live = True

    def __init__(
        self,
        target: Target,
        interval: float = 1.0,
        take_first: bool = False,
        children: Callable[[], Iterable[int]] = tuple,
        tty_bytes: Callable[[], int] = lambda: 0,
        roots: Roots = Roots(),
    ) -> None:
        self.interval = interval
        self.attachment = Attachment(target, take_first)
        self._children = children
        self._prompts: Callable[[], ClientSample | Absent] = lambda: NOT_RECORDED
        self._wakeup = WakeupCollector()
        self._own = OwnCollector(self._child_pids, tty_bytes)
        self._roots = roots
        self._nvml = NvmlCollector(sysfs=roots.sys, proc=roots.proc)
        self._host = HostCollector(roots.proc, TopologyReader(roots.proc, roots.sys, roots.run))
        self._scanner = TaskScanner(roots.proc)
        self._scraper = Scraper(self.attachment)
        self._procs: ProcsCollector | None = None
        self._procs_generation = 0
        self._last_procs: ServerProcs | None = None
        self._waits = False
        self._stop = threading.Event()
        self.failure = ""
        """What went wrong inside qtop while a sample was taken, "" for nothing."""
        self._thread = threading.Thread(target=self._loop, name="qtop-ticks", daemon=True)
        self._w_attach: Worker[ServerInfo] = Worker("server", self.attachment.read)
        self._w_engine = Worker("metrics", self._scraper.read)
        self._w_procs: Worker[ServerProcs] = Worker("processes", self._read_procs)
        self._w_host: Worker[HostSample] = Worker("host", self._read_host)
        self._w_gpu = Worker("NVML", self._nvml.read)
        self._w_wakeup = Worker("wake-up probe", self._wakeup.read)
        self._workers: tuple[Worker[object], ...] = (
            self._w_attach,
            self._w_engine,
            self._w_procs,
            self._w_host,
            self._w_gpu,
            self._w_wakeup,
        )  # type: ignore[assignment]

        self._slowest_first: tuple[Worker[object], ...] = (
            self._w_procs,
            self._w_gpu,
            self._w_engine,
            self._w_host,
            self._w_attach,
            self._w_wakeup,
        )  # type: ignore[assignment]

    def count_tty(self, count: Callable[[], int]) -> None:
        """Ask ``count`` for the bytes written to the terminal, for qtop's own cost."""
        self._own.tty_bytes = count

    def count_prompts(self, count: Callable[[], ClientSample | Absent]) -> None:
        """Ask ``count`` what qtop's own test prompts add up to."""
        self._prompts = count

    @property
    def attached(self) -> Attached | None:
        """The server in hand, or None."""
        return self.attachment.attached

    def start(self, on_sample: OnSample) -> None:
        """Begin sampling."""
        self._on_sample = on_sample
        for worker in self._workers:
            worker.start()
        self._thread.start()

    def stop(self) -> None:
        """End sampling, close the wake-up probe. A collector that hangs is left behind: its thread is a daemon."""
        self._stop.set()
        for worker in self._workers:
            worker.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        self._wakeup.close()

    def _child_pids(self) -> tuple[int, ...]:
        return (*self._wakeup.pids(), *self._children())

    def _loop(self) -> None:
        due, clock, found = mono(), wall(), False
        while not self._stop.is_set():
            lag = mono() - due
            for worker in self._workers:
                worker.poke()
            grace = min(GRACE, self.interval / 2)
            deadline = mono() + grace
            for worker in self._slowest_first:  # when they have answered, most others have: one wait instead of six
                worker.wait(max(0.0, deadline - mono()))
            if self._stop.is_set():
                return
            # A stop shows on both clocks, a suspended machine only on the wall's.
            stopped = max(mono() - due, wall() - clock - self.interval)
            clock = wall()
            try:
                self._on_sample(self._gap(stopped) if self._is_gap(stopped) else self._assemble(lag * 1000.0))
            except Exception as error:
                if os.environ.get("QTOP_DEBUG"):
                    raise
                self.failure = f"{type(error).__name__}: {error}"
            if not found and self.attachment.attached is not None:
                # Read the server soon, not a whole interval after it was found.
                found, due = True, mono() + min(SOON_S, self.interval / 2)
                self._stop.wait(max(0.0, due - mono()))
                continue
            # What was missed is not caught up on: the next tick that is not too near, in the old rhythm.
            due += self.interval * max(1, math.ceil((mono() - due) / self.interval + 0.25))
            self._stop.wait(max(0.0, due - mono()))

    def _is_gap(self, seconds: float) -> bool:
        return seconds > max(GAP_S, STALE_PERIODS * self.interval)

    def _gap(self, seconds: float) -> Sample:
        """The sample after a stop: it says so, and so keeps the means over the stop from becoming findings."""
        self._wakeup.skip()
        self._last_procs, self._waits = None, False
        nothing = Absent(Why.STALE, f"qtop stood still for {seconds:.0f} s")
        return Sample(
            t=wall(),
            server=self.attachment.current(),
            launch=NOT_RECORDED if (launch := self.attachment.launch) is None else launch,
            engine=nothing,
            procs=nothing,
            host=nothing,
            gpu=nothing,
            wakeup=nothing,
            own=self._own.read(seconds * 1000.0),
        )

    def _assemble(self, lag_ms: float) -> Sample:
        period = self.interval
        own: OwnSample | Absent = self._own.read(lag_ms)
        return Sample(
            t=wall(),
            server=self.attachment.current(),
            engine=self._w_engine.latest(period),
            procs=self._w_procs.latest(period),
            host=self._w_host.latest(period),
            gpu=self._w_gpu.latest(period),
            wakeup=self._w_wakeup.latest(period),
            own=own,
            client=self._prompts(),
            launch=NOT_RECORDED if (launch := self.attachment.launch) is None else launch,
        )

    def _read_procs(self) -> ServerProcs | Absent:
        attached = self.attachment.attached
        if attached is None:
            self._drop_procs()
            return self._no_server()
        pid = attached.pid
        if pid is None:
            self._drop_procs()
            if not attached.info.on_host:
                return Absent(Why.NOT_HERE, "not on this host")
            return Absent(Why.NOT_HERE, "its process cannot be seen from here (another user's or container's)")
        if self._procs is None or self._procs_generation != attached.generation:
            self._drop_procs()
            proc = self._roots.proc
            self._procs = ProcsCollector(lambda: discover.server_tree(pid, proc), proc, attached.start_ticks)
            self._procs_generation = attached.generation
        sample = self._procs.read()
        if isinstance(sample, ServerProcs):
            self._waits = _waits(self._last_procs, sample)
            self._last_procs = sample
        return sample

    def _no_server(self) -> Absent:
        current = self.attachment.current()
        return current if isinstance(current, Absent) else NOT_YET

    def _drop_procs(self) -> None:
        if self._procs is not None:
            self._procs.close()
        self._procs = self._last_procs = None
        self._waits = False

    def _read_host(self) -> HostSample | Absent:
        tasks: tuple[TaskSample, ...] | Absent = Absent(Why.NOT_YET, "looked at only while the server waits for a CPU")
        last = self._last_procs
        if self._waits and last is not None:
            tasks = self._scanner.scan(frozenset(process.pid for process in last.processes))
        return self._host.read(tasks)


def _waits(old: ServerProcs | None, new: ServerProcs) -> bool:
    """True when some thread waited for a CPU for more than 5 % of the time between two samples."""
    if old is None or new.at <= old.at:
        return False
    limit = WAITING * 1e9 * (new.at - old.at)
    earlier = {process.pid: process.threads for process in old.processes}
    for process in new.processes:
        threads = earlier.get(process.pid)
        if threads is None or isinstance(threads, Absent) or isinstance(process.threads, Absent):
            continue
        before = {thread.tid: thread for thread in threads}
        for thread in process.threads:
            was = before.get(thread.tid)
            # One that slept is the same object, as most are.
            if was is not thread and was is not None and thread.wait_ns - was.wait_ns > limit:
                return True
    return False
