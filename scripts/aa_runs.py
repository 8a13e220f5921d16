#!/usr/bin/env python3
"""How often `qtop apply` calls a change that does nothing an effect, and whether it sees one that does something.

aa_runs.py [--runs N] [--change KNOB=VALUE] [--load STREAMS] [--json FILE]
aa_runs.py --restart [--runs N] …
aa_runs.py --effect [--runs N] …

Starts a llama.cpp server with one compute thread and runs ``qtop apply KNOB=VALUE --yes --json`` against it, N times
(20), with the journal in a folder of its own. The change does nothing to this server: by default vm.swappiness one
higher than it is, which takes root; it goes through the same transaction and the same test prompts as any other.
``--restart``: the change starts the server anew with a flag that makes no difference to it (--cache-ram, how much of
old prompts it may keep, where none is as long); the server is one of its own, started in the background.
``--load`` keeps so many streams of other requests going. ``--effect``: the server is pinned beside a busy loop
before each run, and the change lets it use all CPUs (it takes two); then `qtop undo`.

Prints a line a run and the share of each verdict. Exit code 1 where more than one in twenty was called otherwise than
"no effect" (with --effect: where fewer than four in five were called "improved").
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tui")]

from tests.fakes.crash import environment, pin  # noqa: E402
from tests.fakes.load import busy_loops, streams  # noqa: E402
from tests.fakes.real_llama import Llama  # noqa: E402

from qtop.demo.model import ensure_model  # noqa: E402
from qtop.demo.server import DemoServer  # noqa: E402

SWAPPINESS = Path("/proc/sys/vm/swappiness")


def apply(server: DemoServer | Llama, state: Path, change: str) -> dict[str, Any]:
    """One transaction, as a user would run it; what it says, and how long it took."""
    command = [sys.executable, "-m", "qtop", "apply", change, "--yes", "--json", "--url", server.url]
    begun = time.monotonic()
    done = subprocess.run(command, env=environment(state), capture_output=True, text=True, timeout=600, check=False)
    if not done.stdout:
        raise SystemExit(f"qtop apply {change}: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"seconds": time.monotonic() - begun}


def undo(state: Path) -> None:
    """Put back what the last run kept."""
    command = [sys.executable, "-m", "qtop", "undo"]
    subprocess.run(command, env=environment(state), capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def beside_a_busy_loop(server: DemoServer) -> Iterator[str]:
    """The server may use one CPU, which a busy loop uses too; gives the change that lets it use the others."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("--effect needs two CPUs")
    pin(server.pid, {cpus[0]})
    with busy_loops(cpus[0], 1):
        yield f"cpu-affinity={cpus[0]},{cpus[1]}"


def nothing() -> str:
    """A change that means nothing to a server whose memory nobody swaps out."""
    return f"swappiness={int(SWAPPINESS.read_text()) + 1}"


@contextlib.contextmanager
def one_of_its_own(folder: Path) -> Iterator[Llama]:
    """A server that qtop may end and start anew."""
    server = Llama(ensure_model(None, print), folder)
    try:
        yield server
    finally:
        server.stop()


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--change", default="", help="a change that does nothing (vm.swappiness plus one)")
    parser.add_argument("--load", type=int, default=0, help="streams of other requests meanwhile")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--effect", action="store_true", help="a change that does something, instead")
    kind.add_argument("--restart", action="store_true", help="a change that starts the server anew, and does nothing")
    parser.add_argument("--json", type=Path, help="all documents into this file")
    args = parser.parse_args()
    told: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as state,
        one_of_its_own(Path(state)) if args.restart else DemoServer().start(threads=1) as server,
        streams(server.port, args.load) if args.load else contextlib.nullcontext(),
    ):
        for number in range(1, args.runs + 1):
            change = args.change or (f"server-flags=--cache-ram={256 + number}" if args.restart else nothing())
            around = (
                beside_a_busy_loop(server)
                if args.effect and isinstance(server, DemoServer)
                else contextlib.nullcontext(change)
            )
            with around as change:
                one = apply(server, Path(state), change)
            undo(Path(state))
            told.append(one)
            judged = one["judgement"]
            print(f"{number:3} {one['seconds']:4.0f} s  {judged['data']['requests']}  {judged['text']}", flush=True)
    counts = Counter(one["judgement"]["verdict"] for one in told)
    print(", ".join(f"{verdict}: {count} of {len(told)}" for verdict, count in counts.most_common()))
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))
    if args.effect:
        return 0 if counts["improved"] >= 0.8 * len(told) else 1
    return 0 if len(told) - counts["no effect"] <= len(told) / 20 else 1


if __name__ == "__main__":
    raise SystemExit(main())
