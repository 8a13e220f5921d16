#!/usr/bin/env python3
"""Records through qtop's real collectors, as `qtop record` does, and says in the file's header where it comes from.

fixture_record.py OUT --seconds N --origin real|stub|synthetic [--note TEXT] [--url URL | --pid PID] [--interval S]
                  [--roots FOLDER]

real: nothing stands in for anything. stub: a fake driver, server or /proc stands for what cannot be had or must fail on
command, and the collectors read it as they would the real one. synthetic: the stub's figures are no device's.
A fake driver is found as any driver is, by LD_LIBRARY_PATH. FOLDER holds proc, sys and run to read instead of the
host's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
TUI = HERE.parent / "tui"
sys.path.insert(0, str(TUI))


def record(
    out: Path,
    seconds: float,
    origin: str,
    note: str,
    *target: str,
    env: Mapping[str, str] | None = None,
    interval: float = 1.0,
) -> None:
    """Run this script as a process of its own (a fake driver is loaded at its start); ``target``: "--url", URL."""
    command = [sys.executable, __file__, str(out), "--seconds", str(seconds), "--origin", origin, "--note", note]
    subprocess.run([*command, "--interval", str(interval), *target], check=True, env=dict(env or os.environ))


def main() -> int:
    """Record once; exit code 0, or 2 with one line."""
    from qtop.config import Settings
    from qtop.errors import QtopError
    from qtop.source.live import Roots
    from qtop.verbs.live import live_session

    parser = argparse.ArgumentParser(description="Record a fixture.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--origin", choices=("real", "stub", "synthetic"), required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--url", default=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, default=argparse.SUPPRESS)
    parser.add_argument(
        "--roots",
        type=lambda text: Roots(*(Path(text) / name for name in ("proc", "sys", "run"))),
        default=argparse.SUPPRESS,
    )
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with live_session(options, Settings(), need_server="url" in options or "pid" in options) as session:
            session.start_recording(options.out, overwrite=True, note=options.note, origin=options.origin)
            time.sleep(options.seconds)
            writer = session.stop_recording()
    except QtopError as error:
        print(f"fixture_record: {error}", file=sys.stderr)
        return 2
    assert writer is not None
    print(f"{options.out}: {writer.stats.samples} samples, {writer.stats.bytes} bytes ({options.origin})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
