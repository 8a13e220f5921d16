#!/usr/bin/env python3
"""Does qtop stay as small as it starts? Minutes of the dashboard in a terminal, beside a real server under load.

A real llama.cpp server (the demo's) streams answers all the time; every ten seconds memory, threads and file
descriptors of qtop and its children are read, with CPU and bytes to the terminal in between. At the end minute 1 stands
beside the last minute. Threads and descriptors must not have grown since minute 1. Memory must be flat once the history
is full (it keeps fifteen minutes, so memory grows until then by design): what is added after that, or in a run too
short for it after minute 1, may be 5 % and 2 MB. Slopes are printed for all of it and for the last half.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import bench
from bench_pty import Terminal, cpu_seconds, memory, open_now
from bench_run import CannotMeasure, columns, environment, qtop_command, terminal_size

EVERY_S = 10.0
MINUTE_S = 60.0
FULL_S = 1020.0
"""The history is full: 900 snapshots at 1 Hz, and its lists are trimmed at 990."""
GROWTH, SLACK_MB = 0.05, 2.0


@dataclass(frozen=True)
class Point:
    """One look: seconds since the start, then what all processes hold, and what they used since the look before."""

    at: float
    pss_mb: float
    rss_mb: float
    threads: int
    descriptors: int
    processes: int
    cpu_percent: float
    bytes_s: float


def watch(terminal: Terminal, seconds: float, say: Callable[[Point], None]) -> list[Point]:
    """Look every ten seconds until the time is over."""
    points: list[Point] = []
    cpu, sent, then = cpu_seconds(terminal.pid), terminal.received, time.monotonic()
    due = terminal.started + EVERY_S
    while due <= terminal.started + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        if not terminal.running:
            raise CannotMeasure("qtop ended:\n" + "\n".join(terminal.text()))
        used, (threads, descriptors) = memory(terminal.pid), open_now(terminal.pid)
        now_cpu, now_sent, now = cpu_seconds(terminal.pid), terminal.received, time.monotonic()
        points.append(
            Point(
                round(now - terminal.started, 1),
                round(used.pss / 1e6, 2),
                round(used.rss / 1e6, 2),
                threads,
                descriptors,
                used.processes,
                round(100.0 * (now_cpu - cpu) / (now - then), 2),
                round((now_sent - sent) / (now - then), 1),
            )
        )
        say(points[-1])
        cpu, sent, then = now_cpu, now_sent, now
        due += EVERY_S
    return points


def around(points: Sequence[Point], begin: float, end: float) -> list[Point]:
    """The looks between two times; the nearest one when there is none."""
    found = [point for point in points if begin <= point.at <= end]
    return found or [min(points, key=lambda point: abs(point.at - begin))]


def slope(points: Sequence[Point]) -> float:
    """MB of PSS a minute, by least squares."""
    if len(points) < 3:
        return 0.0
    return 60.0 * statistics.linear_regression([p.at for p in points], [p.pss_mb for p in points]).slope


def compare(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """A table of minute 1 beside the end, and what grew."""
    end = points[-1].at
    first, last = around(points, 50.0, 70.0), around(points, end - 50.0, end)
    full = end >= FULL_S + 2 * MINUTE_S
    settled = around(points, FULL_S, FULL_S + MINUTE_S) if full else first

    def middle(looks: Sequence[Point], name: str) -> float:
        return float(statistics.median(getattr(point, name) for point in looks))

    names = ("pss_mb", "rss_mb", "threads", "descriptors", "processes", "cpu_percent", "bytes_s")
    rows: list[tuple[str, ...]] = [("", "minute 1", *(("history full",) if full else ()), "end", "most")]
    for name in names:
        looks = (first, settled, last) if full else (first, last)
        most = max(getattr(point, name) for point in points)
        rows.append((name, *(f"{middle(one, name):g}" for one in looks), f"{most:g}"))
    later = [point for point in points if point.at >= end / 2]
    after = [point for point in points if point.at >= MINUTE_S]
    lines = columns(rows)
    lines.append(f"PSS slope since minute 1 {slope(after):+.3f} MB/min, over the last half {slope(later):+.3f} MB/min")
    grew = [
        f"{name}: {middle(first, name):g} after minute 1, {middle(last, name):g} at the end"
        for name in ("threads", "descriptors")
        if middle(last, name) > middle(first, name)
    ]
    base, now = middle(settled, "pss_mb"), middle(last, "pss_mb")
    if now > base * (1 + GROWTH) + SLACK_MB:
        grew.append(
            f"memory: PSS {base:g} MB {'with a full history' if full else 'after minute 1'}, {now:g} at the end"
        )
    return lines, grew


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="how long (30)")
    parser.add_argument("--streams", type=int, default=3, metavar="N", help="requests at a time (3; 0: no load)")
    parser.add_argument("--size", type=terminal_size, default=(120, 40), metavar="CxR", help="terminal (120x40)")
    parser.add_argument("--url", metavar="URL", help="watch this server instead, without a load from here")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if not 2.0 <= options.minutes <= 110.0 or not 0 <= options.streams <= 16:
        parser.error("--minutes is 2 to 110, --streams 0 to 16")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge: exit code 1 when something grew, 2 without figures."""
    from qtop.errors import QtopError

    options = parse(arguments)
    try:
        points = soak(options)
    except (CannotMeasure, QtopError) as error:
        print(f"bench_soak: {error}", file=sys.stderr)
        return 2
    lines, grew = compare(points)
    if options.json:
        print(json.dumps({"schema": 1, "points": [asdict(point) for point in points], "grew": grew}, indent=2))
    else:
        print("\n".join(lines))
        print("\n".join(f"grew: {line}" for line in grew) or "nothing grew")
    return 1 if grew else 0


def soak(options: argparse.Namespace) -> list[Point]:
    """Start the server, the load and qtop, and watch."""
    from qtop.demo.server import DemoServer

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    def say(point: Point) -> None:
        tell(
            f"{point.at:6.0f} s  PSS {point.pss_mb:.1f} MB  threads {point.threads}  files {point.descriptors}  "
            f"CPU {point.cpu_percent:.1f} %  {point.bytes_s:.0f} B/s"
        )

    seconds = options.minutes * MINUTE_S
    with tempfile.TemporaryDirectory(prefix="qtop-soak-") as folder:
        env = environment(Path(folder))
        with ExitStack() as stack:
            url = options.url
            if url is None:
                server = stack.enter_context(DemoServer().start(threads=1, say=tell))
                url = server.url
                if options.streams:
                    stack.enter_context(bench.load_on(url, options.streams, seconds + MINUTE_S))
            terminal = stack.enter_context(Terminal([*qtop_command(), "--url", url], options.size, env))
            return watch(terminal, seconds, say)


if __name__ == "__main__":
    sys.exit(main())
