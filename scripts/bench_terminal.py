#!/usr/bin/env python3
"""What qtop and its peers cost in a terminal: side by side, in one run, on the same fake server and GPUs.

Each program runs in a pseudo-terminal and watches the fake vLLM (fake_vllm.py) and the tests' NVML once a second, in
two states: "moving" (every figure changes each second) and "idle" (no request runs, nothing changes), and with two
palettes: "truecolor" (COLORTERM=truecolor) and "ssh" (SSH_CONNECTION, no COLORTERM). After a warm-up, in which charts
fill up, a window is measured: CPU is user and system time with all children in percent of one core, bytes are what they
wrote to the terminal, memory is the largest sum of PSS. First paint is the time until five rows have something on them.
Peers are installed from the package index into virtual environments of their own in a cache folder. With everything it
takes 50 minutes; --warmup 5 makes it 15, with charts that only grow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import fake_vllm
from bench_explain import explain, report
from bench_gpus import Gpus, gpus
from bench_peers import PEERS, Program, cache_folder, ours, peer
from bench_pty import Terminal
from bench_run import CannotMeasure, Window, columns, environment, help_seconds, terminal_size, window

STATES = ("moving", "idle")
PALETTES: Mapping[str, dict[str, str]] = {
    "truecolor": {"COLORTERM": "truecolor"},
    "ssh": {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22", "SSH_TTY": "/dev/pts/0"},
}
START_S = 15.0
"""How long a start may take before it is given up."""
LOOK_S = 2.5
"""How long a start runs that is timed and not measured."""
AIMS = (
    ("to the terminal, moving, truecolor", "B/s", 1000.0, "bytes_s", ("moving", "truecolor")),
    ("to the terminal, moving, ssh palette", "B/s", 600.0, "bytes_s", ("moving", "ssh")),
    ("to the terminal, idle, truecolor", "B/s", 20.0, "bytes_s", ("idle", "truecolor")),
    ("to the terminal, idle, ssh palette", "B/s", 20.0, "bytes_s", ("idle", "ssh")),
    ("CPU with all children, worst", "% of a core", 2.0, "cpu_percent", None),
    ("first paint, worst", "s", 0.5, "first_paint_s", None),
    ("--help", "s", 0.15, "help_s", None),
)
"""At most, at 120 × 40 and 1 Hz (issue 3): name, unit, limit, figure, the state and palette that it is for."""


@dataclass
class Run:
    """One program in one state with one palette."""

    program: str
    version: str
    state: str
    palette: str
    first_paint_s: float
    help_s: float | None
    cost: Window
    explained: list[str] = field(default_factory=list)

    def figure(self, name: str) -> float | None:
        """One of its figures by name."""
        value = getattr(self, name) if name in ("first_paint_s", "help_s") else getattr(self.cost, name)
        return value if value is None else float(value)


def painted(program: Program) -> Callable[[list[str]], bool]:
    """The test for its first paint."""
    return lambda rows: sum(bool(row.strip()) for row in rows) >= program.drawn_rows


def measure(program: Program, state: str, palette: str, options: argparse.Namespace, env: Mapping[str, str]) -> Run:
    """Start it a few times for the first paint; the last one goes on and is measured. CannotMeasure says why not."""
    times: list[float] = []
    for turn in range(options.starts):
        last = turn == options.starts - 1
        with Terminal(program.command, options.size, env, sync=options.sync) as terminal:
            found = terminal.watch({"paint": painted(program)}, START_S, LOOK_S)
            if "paint" not in found:
                said = " ".join(" ".join(terminal.text()).split())
                raise CannotMeasure(f"draws no screen in {START_S:g} s: {said[:120] or 'it writes nothing'}")
            times.append(found["paint"].after)
            if not last:
                continue
            cost = window(terminal, options.seconds, options.warmup)
            explained = _explained(terminal, options, cost) if options.explain else []
            if options.show:
                print("\n".join(row.rstrip() for row in terminal.text()), file=sys.stderr)
    return Run(program.name, program.version, state, palette, round(statistics.median(times), 3), None, cost, explained)


def _explained(terminal: Terminal, options: argparse.Namespace, cost: Window) -> list[str]:
    end = time.monotonic()
    return report(explain(terminal.chunks(), end - cost.seconds, end, options.size), options.fields)


def chosen(options: argparse.Namespace, url: str) -> tuple[list[Program], dict[str, str]]:
    """What is to be measured, and why what cannot be is left out."""
    programs = [one for one in ours(url) if one.name == "qtop" or options.floor]
    missing: dict[str, str] = {}
    for name in options.peers:
        try:
            programs.append(peer(name, url, options.cache))
        except CannotMeasure as error:
            missing[name] = str(error)
    return programs, missing


@contextmanager
def bench(options: argparse.Namespace, home: Path) -> Iterator[tuple[fake_vllm.Running, Gpus]]:
    """The server and the GPUs that all of them watch."""
    wanted = ("--engines", str(options.engines), "--workers", str(options.workers), "--threads", str(options.threads))
    with fake_vllm.start(*wanted) as server:
        on_gpu = server.children[options.engines :] or server.children
        with gpus(home / "gpus", options.gpus, on_gpu) as fake:
            yield server, fake


def run_all(options: argparse.Namespace, home: Path) -> tuple[list[Run], dict[str, str]]:
    """Every program in every state with every palette."""
    runs: list[Run] = []
    with bench(options, home) as (server, fake):
        programs, missing = chosen(options, server.url)
        base = environment(home) | fake.env()
        helps = {one.name: _help(one, base) for one in programs}
        for state in options.states:
            server.order(state)
            (fake.moving.set if state == "moving" else fake.moving.clear)()
            for palette in options.palettes:
                env = base | PALETTES[palette]
                for program in programs:
                    if program.name in missing:
                        continue
                    print(f"{state} {palette}: {program.name}", file=sys.stderr)
                    try:
                        run = measure(program, state, palette, options, env)
                    except CannotMeasure as error:
                        if program.name == "qtop":
                            raise
                        missing[program.name] = str(error)
                        continue
                    run.help_s = helps[program.name]
                    runs.append(run)
    return runs, missing


def _help(program: Program, env: Mapping[str, str]) -> float | None:
    try:
        return help_seconds(program.help, env) if program.help else None
    except (OSError, ValueError, RuntimeError):
        return None


def table(runs: Sequence[Run]) -> list[str]:
    """For people: one block for each state and palette, each program beside qtop."""
    figures = ("first_paint_s", "cpu_percent", "bytes_s", "pss_mb")
    heads = (
        "first paint",
        "CPU %",
        "to terminal",
        "writes",
        "PSS",
        "RSS",
        "--help",
        "× qtop: paint",
        "CPU",
        "bytes",
        "PSS",
    )
    rows: list[tuple[str, ...]] = [("", *heads)]
    group = ""
    for run in runs:
        mine = next(one for one in runs if (one.program, one.state, one.palette) == ("qtop", run.state, run.palette))
        if group != (group := f"{run.state}, {run.palette}"):
            rows.append((group, *[""] * len(heads)))
        ratios = [
            f"{theirs / own:.2g}"
            if run is not mine and (own := mine.figure(name)) and (theirs := run.figure(name))
            else ""
            for name in figures
        ]
        rows.append(
            (
                f"  {run.program} {run.version}".rstrip(),
                f"{run.first_paint_s:.2f} s",
                f"{run.cost.cpu_percent:.2f}",
                f"{run.cost.bytes_s:.0f} B/s",
                f"{run.cost.writes_s:.1f}/s",
                f"{run.cost.pss_mb:.0f} MB",
                f"{run.cost.rss_mb:.0f} MB",
                f"{run.help_s:.2f} s" if run.help_s is not None else "",
                *ratios,
            )
        )
    return columns(rows)


def aims(runs: Sequence[Run]) -> list[tuple[str, str, float, float, bool]]:
    """Name, unit, limit, what qtop reached (its worst), whether that is met; only aims that were measured."""
    found = []
    for name, unit, limit, figure, where in AIMS:
        values = [
            value
            for run in runs
            if run.program == "qtop" and where in (None, (run.state, run.palette))
            if (value := run.figure(figure)) is not None
        ]
        if values:
            found.append((name, unit, limit, max(values), max(values) <= limit))
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAMES", help=f"which of {', '.join(PEERS)} (all)")
    parser.add_argument("--no-peers", action="store_true", help="qtop and the floor alone")
    parser.add_argument("--no-floor", dest="floor", action="store_false", help="without the empty Textual app")
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES), help="which (moving idle)")
    parser.add_argument("--palettes", nargs="+", choices=list(PALETTES), default=list(PALETTES), help="which (both)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="N", help="how long each is measured (30)")
    # A chart that is not full yet only grows; once full it moves, which may cost many times as much.
    parser.add_argument("--warmup", type=float, default=80.0, metavar="N", help="seconds before that (80)")
    parser.add_argument("--starts", type=int, default=3, metavar="N", help="starts for the median first paint (3)")
    parser.add_argument("--size", type=terminal_size, default=(120, 40), metavar="CxR", help="terminal (120x40)")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs (1)")
    parser.add_argument("--engines", type=int, default=1, metavar="N", help="data-parallel engines of the server (1)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="its worker processes (0)")
    parser.add_argument("--threads", type=int, default=60, metavar="N", help="its threads (60)")
    parser.add_argument("--sync", action="store_true", help="the terminal can hold back unfinished frames")
    parser.add_argument("--explain", action="store_true", help="say what the bytes of each program draw")
    parser.add_argument("--fields", type=int, default=24, metavar="N", help="fields that --explain lists (24)")
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="where peers are installed")
    parser.add_argument("--show", action="store_true", help="print the last screen of each, too")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit 1 when an aim is missed")
    options = parser.parse_args(arguments)
    options.peers = [] if options.no_peers else [name for name in options.peers.split(",") if name]
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"unknown peers: {', '.join(unknown)}")
    if options.seconds < 1 or options.starts < 1 or not 0 <= options.gpus <= 64:
        parser.error("--seconds and --starts are 1 or more, --gpus 0 to 64")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 when an aim is missed and --check asks for that, 2 without figures."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="qtop-bench-") as folder:
        try:
            runs, missing = run_all(options, Path(folder))
        except CannotMeasure as error:
            print(f"bench_terminal: qtop: {error}", file=sys.stderr)
            return 2
    reached = aims(runs)
    if options.json:
        keys = ("name", "unit", "limit", "reached", "met")
        document = {
            "schema": 1,
            "size": list(options.size),
            "gpus": options.gpus,
            "threads": options.threads,
            "sync": options.sync,
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
            "runs": [asdict(run) for run in runs],
            "missing": missing,
            "aims": [dict(zip(keys, one, strict=True)) for one in reached],
        }
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(table(runs)))
        for name, why in missing.items():
            print(f"{name}: not measured: {why}")
        for run in runs:
            if run.explained:
                print(f"\nwhere the bytes of {run.program} go ({run.state}, {run.palette})", *run.explained, sep="\n")
        print()
        rows = [("aim of qtop", "at most", "reached", "")]
        rows += [
            (name, f"{limit:g} {unit}", f"{value:.4g}", "met" if met else "MISSED")
            for name, unit, limit, value, met in reached
        ]
        print("\n".join(columns(rows)))
    return 1 if options.check and not all(met for *_, met in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
