"""What the host's memory can carry, measured by copying: only when asked for, because it takes the bandwidth from
whatever else runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from qtop.collect.host import HostCollector
from qtop.collect.topology import TopologyReader
from qtop.sample import Absent, HostSample, Reading, Topology, Why, cpulist

ROUND_S = 0.3
ROUNDS = 3
CACHES = 4
"""The buffers together are so many times the last-level caches, so that no copy comes from a cache."""
LEAST_BYTES = 256 << 20
MOST_BYTES = 8 << 30
SHARE = 0.25
"""Of the available memory that the buffers may take."""
MOST_THREADS = 64
"""A bound on what is started; one core alone was seen to copy 20 GB/s (read and written)."""
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a measurement would do."""

    threads: int
    bytes: int
    """All buffers together."""
    caches: Reading[int]
    """Last-level caches together, bytes."""

    @property
    def in_cache(self) -> bool:
        """The buffers are too small, for want of memory, to tell memory from cache."""
        return not isinstance(self.caches, Absent) and self.bytes < CACHES * self.caches


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A measurement."""

    bytes_s: float
    """Read and written: a copied byte counts twice (as in STREAM's copy). The best of the rounds."""
    rounds: tuple[float, ...]
    """Each, in bytes a second."""
    threads: int
    bytes: int
    seconds: float
    """All rounds together."""


def plan(threads: int | None = None) -> Plan | Absent:
    """What would be done on this host: a thread for each physical core that qtop may use, and memory to suit."""
    topology, _ = TopologyReader().look()
    host = HostCollector().read(())
    available = host.mem_available if isinstance(host, HostSample) else host
    if isinstance(available, Absent):
        return Absent(available.why, "how much memory is available cannot be read")
    caches = topology if isinstance(topology, Absent) else topology.llc_bytes
    wanted = LEAST_BYTES if isinstance(caches, Absent) else max(LEAST_BYTES, CACHES * caches)
    size = min(wanted, MOST_BYTES, int(available * SHARE))
    count = threads or min(MOST_THREADS, _cores(topology))
    if size < count << 21:
        return Absent(Why.UNSUPPORTED, "too little memory is available")
    return Plan(count, size, caches)


def _cores(topology: Topology | Absent) -> int:
    """Physical cores among the CPUs that this process may use."""
    allowed = os.sched_getaffinity(0)
    if isinstance(topology, Absent) or isinstance(topology.cores, Absent):
        return len(allowed)
    return max(1, sum(1 for core in topology.cores if cpulist.parse_or_empty(core) & allowed))


def measure(
    planned: Plan, seconds: float = ROUND_S, rounds: int = ROUNDS, python: str = sys.executable
) -> Bandwidth | Absent:
    """Copy in a process of its own, ``rounds`` times ``seconds``; blocks until it is done."""
    script = str(Path(__file__).with_name("membw_child.py"))
    command = [python, "-I", "-S", "-B", script, str(planned.threads), str(planned.bytes), str(seconds), str(rounds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Absent(Why.FAILED, f"the copying did not end within {TIMEOUT_S:.0f} s")
    except OSError as error:
        return Absent(Why.FAILED, f"the copying process does not start: {error.strerror}")
    try:
        answer = json.loads(done.stdout)
        each = tuple(2.0 * copied / took for copied, took in answer["rounds"])
        spent = sum(took for _, took in answer["rounds"])
        return Bandwidth(max(each), each, planned.threads, int(answer["buffers"]), spent)
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Absent(Why.FAILED, f"the copying process failed: {last[:200]}")
