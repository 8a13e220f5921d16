"""The verb record: samples into a file until told to stop."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK
from qtop.verbs.live import live_session
from qtop.verbs.terminal import say


def record(args: argparse.Namespace, settings: Settings) -> int:
    """Record for ``--seconds`` or until Ctrl-C, SIGTERM or SIGHUP; the file is closed in each case."""
    with live_session(args, settings, need_server=False, at_most=60.0) as session:
        interrupted = False
        try:
            session.start_recording(Path(args.output), overwrite=args.force)
            say(f"recording to {args.output}; Ctrl-C ends it")
            begin, seen = time.monotonic(), 0
            while args.seconds is None or time.monotonic() - begin < args.seconds:
                snapshot = session.wait(seen, 1.0)
                seen = snapshot.seq if snapshot is not None else seen
                if session.record_error:
                    break
        except KeyboardInterrupt:
            interrupted = True
        writer = session.stop_recording()
    if session.record_error:
        say(f"qtop: {session.record_error}")
        return EXIT_FINDING
    if writer is None:  # ended before the file was made
        return EXIT_OK
    stats = writer.stats
    missed = f", {stats.dropped} dropped" if stats.dropped else ""
    ended = " (interrupted)" if interrupted else ""
    say(f"{stats.samples} samples{missed}, {stats.bytes} bytes in {args.output}{ended}")
    return EXIT_OK
