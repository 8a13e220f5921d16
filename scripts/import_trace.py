#!/usr/bin/env python3
"""Turn a trace (JSON lines, also .xz or .gz) into a recording that qtop can replay.

python scripts/import_trace.py TRACE.jsonl[.xz] OUT.qtop [--force]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))  # the qtop beside this script


def main(arguments: list[str] | None = None) -> int:
    """Import one trace; exit code 0, or 2 with one line when it cannot be done."""
    from qtop.errors import QtopError
    from qtop.record.convert import import_trace

    parser = argparse.ArgumentParser(description="Turn a trace into a qtop recording.")
    parser.add_argument("trace", type=Path, metavar="TRACE", help="the trace: JSON lines, plain, .xz or .gz")
    parser.add_argument("out", type=Path, metavar="OUT", help="the recording to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    options = parser.parse_args(arguments)
    try:
        done = import_trace(options.trace, options.out, overwrite=options.force)
    except QtopError as error:
        print(f"import_trace: {error}", file=sys.stderr)
        return error.exit_code
    skipped = f", {done.skipped} unreadable line{'' if done.skipped == 1 else 's'} skipped" if done.skipped else ""
    print(f"{options.out}: {done.samples} samples over {done.seconds:.0f} s{skipped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
