#!/usr/bin/env python3
"""What a jump in a recording takes until it is shown, before its timeline has been looked through and afterwards.

bench_jumps.py FILE [--jumps N]

To moments at random: wall and CPU time from asking to the snapshot, without the quarter of an hour that is filled in
behind it. Then what looking through takes, and how late a thread that wants to run for a moment runs meanwhile.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))

from qtop.session import Session, Snapshot
from qtop.source.replay import ReplaySource
from qtop.timeline.scan import Timeline

SETTLE_S = 3.0
"""Between two jumps, so that what is filled in behind one is not in the next."""
NAP_S = 0.01


def jumps(session: Session, timeline: Timeline, count: int, label: str) -> None:
    """So many jumps; a line of figures."""
    there = threading.Event()
    shown = [0]

    def heard(snapshot: Snapshot) -> None:
        if snapshot.jump > shown[0]:
            shown[0] = snapshot.jump
            there.set()

    session.listen(heard)
    walls, cpus = [], []
    for _ in range(count):
        there.clear()
        t = random.uniform(timeline.begin, timeline.end)
        wall, cpu = time.perf_counter(), time.process_time()
        session.jump(t, timeline)
        if not there.wait(60):
            sys.exit("a jump did not land")
        walls.append((time.perf_counter() - wall) * 1e3)
        cpus.append((time.process_time() - cpu) * 1e3)
        time.sleep(SETTLE_S)
    figures = ", ".join(
        f"{name} median {statistics.median(values):.0f} ms, most {max(values):.0f} ms"
        for name, values in (("wall", walls), ("CPU", cpus))
    )
    print(f"{label}: {figures} ({count} jumps)")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--jumps", type=int, default=12)
    args = parser.parse_args()
    random.seed(1)
    source = ReplaySource(args.file)
    source.pause(True)
    session = Session(source)
    session.start()
    timeline = Timeline(args.file)
    print(f"{(timeline.end - timeline.begin) / 3600:.1f} h")
    jumps(session, timeline, args.jumps, "before it is looked through")
    begun, spent = time.perf_counter(), time.process_time()
    timeline.start()
    late = []
    while not timeline.done:
        before = time.perf_counter()
        time.sleep(NAP_S)
        late.append((time.perf_counter() - before - NAP_S) * 1e3)
    late.sort()
    wall, cpu = time.perf_counter() - begun, time.process_time() - spent
    print(
        f"looking through it: {wall:.0f} s, {cpu:.0f} s of CPU; "
        f"a thread that wants to run waits {late[len(late) // 2]:.1f} ms meanwhile, "
        f"p95 {late[int(len(late) * 0.95)]:.1f} ms"
    )
    jumps(session, timeline, args.jumps, "afterwards")
    session.close()


if __name__ == "__main__":
    main()
