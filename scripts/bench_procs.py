#!/usr/bin/env python3
"""What one tick of the CPU side costs: CPU ms of each collector and of deriving, for a real process with many threads.

A child is started with sleeping threads and with threads that wake up all the time; it stands for the server, and its
own CPU time is not counted. Each figure is CPU time of the reading thread over some ticks: median and largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

try:
    import qtop  # noqa: F401 - only to learn whether it is installed
except ModuleNotFoundError:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))

from qtop.clock import wall
from qtop.collect import discover
from qtop.collect.host import HostCollector
from qtop.collect.procs import ProcsCollector
from qtop.model.derive import Deriver
from qtop.sample import HostSample, Sample, ServerInfo, ServerProcs
from qtop.sample.codec import encode_sample

CROWD = """
import sys, threading, time
sleeping, active = int(sys.argv[1]), int(sys.argv[2])
gate = threading.Event()
def wake():
    while True: time.sleep(0.4)
threading.stack_size(65536)
for target, count in ((gate.wait, sleeping), (wake, active)):
    for _ in range(count): threading.Thread(target=target, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""
COLLECT_MS, DERIVE_MS = 6.0, 3.0
"""The most that a tick may cost: all collectors of the CPU side together; deriving."""


@dataclass
class Cost:
    """CPU milliseconds a tick."""

    what: str
    median_ms: float
    worst_ms: float


def costs(ticks: int, interval: float, pid: int) -> list[Cost]:
    """Runs the CPU side as the dashboard does, once each ``interval`` seconds."""
    procs = ProcsCollector(lambda: discover.server_tree(pid))
    host = HostCollector()
    deriver = Deriver()
    server = ServerInfo(engine="vllm", pid=pid, started=1.0)
    spent: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], object]) -> object:
        begun = time.thread_time()
        result = work()
        spent.setdefault(what, []).append((time.thread_time() - begun) * 1000.0)
        return result

    for _ in range(ticks + 2):
        sample_procs = timed("ProcsCollector.read", procs.read)
        sample_host = timed("HostCollector.read", lambda: host.read(()))
        assert isinstance(sample_procs, ServerProcs) and isinstance(sample_host, HostSample)
        sample = Sample(t=wall(), server=server, procs=sample_procs, host=sample_host)
        timed("Deriver.push", partial(deriver.push, sample))
        timed("encode_sample", partial(encode_sample, sample))
        time.sleep(interval)
    return [Cost(what, statistics.median(each[2:]), max(each[2:])) for what, each in spent.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sleeping", type=int, default=400)
    parser.add_argument("--active", type=int, default=40)
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a median is above its aim")
    args = parser.parse_args()
    command = [sys.executable, "-I", "-S", "-c", CROWD, str(args.sleeping), str(args.active)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            rows = costs(args.ticks, args.interval, child.pid)
        finally:
            child.kill()
    if args.json:
        print(json.dumps({"threads": args.sleeping + args.active + 1, "costs": [asdict(row) for row in rows]}))
    else:
        print(f"{args.sleeping} sleeping and {args.active} active threads, CPU ms a tick (median, worst)")
        for row in rows:
            print(f"  {row.what:20} {row.median_ms:6.2f} {row.worst_ms:6.2f}")
    medians = {row.what: row.median_ms for row in rows}
    collect = medians["ProcsCollector.read"] + medians["HostCollector.read"]
    over = collect > COLLECT_MS or medians["Deriver.push"] > DERIVE_MS
    return int(args.strict and over)


if __name__ == "__main__":
    raise SystemExit(main())
