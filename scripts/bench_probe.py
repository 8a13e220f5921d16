#!/usr/bin/env python3
"""How true the latency figures of qtop and other load tools are, beside a server that emits tokens at known instants.

Each tool sends the same load to known_sse_server.py, which keeps the true stamps: streams of 50 tokens a second, all
in the same instants ("together", as vLLM's steps are) or each in its own ("staggered"), with stalls. An error is
reported minus true, in ms, of each TTFT and each gap (ITL); of guidellm's ITL, which is a mean a request, it is that of
the median and the p99 that it reports. The first request of each stream, in which connections are opened and modules
loaded, is not judged. qtop is measured a second time while a dashboard watches the same server and draws; the other
tools have the machine to themselves. "floor" is a client of bare sockets with the kernel's stamps: what it misses is
the doubt in the truth. CPU is of the whole run, start included, with all child processes, in percent of one core.

Peers are installed from the package index into virtual environments of their own in a cache folder; none needs a model
hub. vLLM is too large for that: --vllm names one, for example a CPU build. With everything it takes 12 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench_peers import cache_folder
from bench_probe_report import AIMS, aims, table
from bench_probe_run import Run, measure
from bench_probe_schedule import MODES
from bench_probe_tools import Aiperf, Floor, Guidellm, Httpx, Load, Qtop, Tool, VllmBench
from bench_run import CannotMeasure, columns, environment

TOOLS = ("floor", "qtop", "httpx", "guidellm", "aiperf", "vllm")


def makers(options: argparse.Namespace) -> Mapping[str, Callable[[], Tool]]:
    """How each tool is had."""
    return {
        "floor": Floor,
        "qtop": Qtop,
        "httpx": Httpx,
        "guidellm": lambda: Guidellm(options.cache),
        "aiperf": lambda: Aiperf(options.cache),
        "vllm": lambda: VllmBench(options.vllm),
    }


def run_all(options: argparse.Namespace, home: Path) -> tuple[list[Run], dict[str, str]]:
    """Every tool with every number of streams in every mode; and why what could not be measured was not."""
    runs: list[Run] = []
    missing: dict[str, str] = {}
    tools: list[Tool] = []
    for name in options.tools:
        try:
            tools.append(makers(options)[name]())
        except CannotMeasure as error:
            missing[name] = str(error)
    env = environment(home)
    for streams in options.streams:
        for mode in options.modes:
            load = Load(streams, max(options.requests, 4 * streams) + streams, options.tokens, mode)
            for tool in tools:
                for drawing in (False, True) if tool.name == "qtop" and options.dashboard else (False,):
                    title = f"{tool.name}{' beside its dashboard' if drawing else ''}, {streams} streams, {mode}"
                    print(title, file=sys.stderr)
                    try:
                        runs.append(measure(tool, load, env, home, drawing, options.rate, options.nice))
                    except CannotMeasure as error:
                        missing[title] = str(error)
    return runs, missing


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", default=",".join(TOOLS), metavar="NAMES", help=f"which of {', '.join(TOOLS)} (all)")
    parser.add_argument("--streams", type=int, nargs="+", default=sorted(AIMS), metavar="N", help="at a time (16 64)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="(both)")
    parser.add_argument("--requests", type=int, default=128, metavar="N", help="judged; four a stream or more (128)")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="a request (64)")
    parser.add_argument("--rate", type=float, default=50.0, metavar="N", help="tokens a second of a stream (50)")
    # On a machine that is busy with other things every tool's errors are mostly waits for a CPU.
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="niceness of all tools, -20 to 19 (0)")
    parser.add_argument("--no-dashboard", dest="dashboard", action="store_false", help="qtop alone only")
    parser.add_argument("--vllm", type=Path, metavar="PATH", help="the vllm command, or the Python that has it")
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="where peers are installed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit 1 when an aim is missed or was not measured")
    options = parser.parse_args(arguments)
    options.tools = [name for name in options.tools.split(",") if name]
    if unknown := [name for name in options.tools if name not in TOOLS]:
        parser.error(f"unknown tools: {', '.join(unknown)}")
    if not all(1 <= streams <= 256 for streams in options.streams):
        parser.error("--streams are 1 to 256")
    if not -20 <= options.nice <= 19:
        parser.error("--nice is -20 to 19")
    if not (1 <= options.requests <= 10_000 and 2 <= options.tokens <= 4096 and 1 <= options.rate <= 1000):
        parser.error("--requests is 1 to 10000, --tokens 2 to 4096, --rate 1 to 1000")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 when an aim is missed and --check asks for that, 2 without figures."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="qtop-bench-probe-") as folder:
        runs, missing = run_all(options, Path(folder))
    reached = aims(runs, options.streams, options.modes)
    if options.json:
        document = {
            "schema": 1,
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
            "rate": options.rate,
            "tokens": options.tokens,
            "nice": options.nice,
            "runs": [asdict(run) for run in runs],
            "missing": missing,
            "aims": [asdict(one) | {"met": one.met} for one in reached],
        }
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(table(runs)))
        for name, why in missing.items():
            print(f"{name}: not measured: {why}")
        rows: list[tuple[str, ...]] = [("aim of qtop (p99 error)", "at most", "reached", "best peer", "")]
        rows += [one.cells() for one in reached]
        print()
        print("\n".join(columns(rows)))
    if not runs:
        return 2
    return 1 if options.check and not all(one.met for one in reached) else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
