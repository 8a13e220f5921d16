#!/usr/bin/env python3
"""Runs a command in an emulated Linux guest with two NUMA nodes, cgroup v2 alone and all capabilities; its root is this
host's file system, read-only (tests/fakes/guest.py says more, and what it needs).

guest.py [--cpus N] [--memory MIB] [--seconds S] [--keep FOLDER] COMMAND [WORD…]

COMMAND runs from the checkout's folder; a Python script (*.py) by this Python. "{out}" in a word is a folder whose
files are copied to FOLDER at the end.
    guest.py --keep /tmp/recorded scripts/disturb.py guest --record {out}
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT)]

from tests.fakes.guest import Guest, Job  # noqa: E402
from tests.fakes.spawned import CannotStart  # noqa: E402


def main() -> int:
    """The command's exit code; 2 where there is no guest or it takes too long."""
    parser = argparse.ArgumentParser(description="Run a command in an emulated Linux guest.")
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--memory", type=int, default=1024, help="MiB of each of the two nodes")
    parser.add_argument("--seconds", type=float, default=1800.0, help="at most (default 1800)")
    parser.add_argument("--keep", type=Path, help="folder for what it wrote to {out}")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("which command?")
    with tempfile.TemporaryDirectory(prefix="qtop-guest-", dir="/var/tmp") as folder:
        try:
            guest = Guest(Path(folder), cpus=options.cpus, memory_mib=options.memory)
            with guest:
                out = guest.share / "out"
                out.mkdir()
                words = [word.replace("{out}", str(out)) for word in options.command]
                python = [sys.executable] if words[0].endswith(".py") else []
                job = guest.start([*python, *words], {"PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}", "PYTHONUNBUFFERED": "1"})
                try:
                    return follow(job, options.seconds)
                finally:
                    if options.keep:
                        shutil.copytree(out, options.keep, dirs_exist_ok=True)
        except (CannotStart, TimeoutError) as error:
            print(f"guest: {error}", file=sys.stderr)
            return 2


def follow(job: Job, seconds: float) -> int:
    """Print what a job says as it comes; its exit status."""
    shown, deadline = 0, time.monotonic() + seconds
    while True:
        try:
            status: int | None = job.wait(1.0)
        except TimeoutError:
            status = None
        said = job.said
        print(said[shown:], end="", flush=True)
        shown = len(said)
        if status is not None:
            return status
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not end within {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
