"""The verb membw: what the host's memory can carry, measured on request."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from qtop.collect.membw import ROUND_S, ROUNDS, Plan, measure, plan
from qtop.collect.topology import TopologyReader
from qtop.errors import EXIT_OK, QtopError, Refused
from qtop.model.cpu import MemoryView
from qtop.model.memory import memory_view
from qtop.report.documents import SCHEMA, plain
from qtop.sample import Absent
from qtop.units import percent, plural, size
from qtop.verbs.terminal import print_json, say


def planned_text(planned: Plan) -> str:
    """What would be done, and what it costs others."""
    return (
        f"copies {size(planned.bytes)} of memory on {plural(planned.threads, 'thread')}, "
        f"{ROUNDS} × {ROUND_S:g} s; it takes the host's memory bandwidth for that time, also from the server"
    )


def membw(args: argparse.Namespace) -> int:
    """Say what would be done; with ``--yes`` do it and print the figure."""
    planned = plan()
    if isinstance(planned, Absent):
        raise Refused(f"memory bandwidth cannot be measured: {planned}")
    if not args.yes:
        if args.json:
            print_json({"schema": SCHEMA, "planned": plain(asdict(planned)), "measured": None})
        else:
            print(f"{planned_text(planned)}; add --yes to do it")
        return EXIT_OK
    say(planned_text(planned))
    found = measure(planned)
    if isinstance(found, Absent):
        raise QtopError(str(found))
    peak = _peak()
    if args.json:
        print_json(
            {
                "schema": SCHEMA,
                "planned": plain(asdict(planned)),
                "measured": plain(asdict(found)),
                "peak_bytes_s": plain(peak),
            }
        )
        return EXIT_OK
    lines = f"{found.bytes_s / 1e9:.1f} GB/s read and written, the best of {ROUNDS} rounds"
    if not isinstance(peak, Absent):
        lines += f"; {percent(found.bytes_s / peak)} of what its modules could carry ({peak / 1e9:.1f} GB/s)"
    print(lines)
    if planned.in_cache:
        say("qtop: warning: too little free memory for buffers larger than the caches: the figure is too high")
    return EXIT_OK


def _peak() -> float | Absent:
    """What the modules could carry, if the firmware describes them."""
    topology, _ = TopologyReader().look()
    if isinstance(topology, Absent):
        return topology
    view = memory_view(topology.dimms, topology.slots)
    return view.peak_bytes_s if isinstance(view, MemoryView) else view
