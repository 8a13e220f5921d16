"""The verb record: samples into a file until told to stop; with a ring, the last hours of an endless one."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from qtop.clock import wall
from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError
from qtop.record.writer import RecordingWriter
from qtop.session import WITH_PROMPTS, Session
from qtop.verbs.live import live_session
from qtop.verbs.recording_options import keeps_prompts
from qtop.verbs.terminal import say

TIDY_S = 60.0
"""Between two looks at what a ring may let go of: a block of a recording is a minute."""


def record(args: argparse.Namespace, settings: Settings) -> int:
    """Record for ``--seconds``, up to ``--max-size``, or until Ctrl-C, SIGTERM or SIGHUP; the file is closed in each
    case. With ``--ring`` the oldest goes instead of the end coming."""
    path = Path(args.output)
    with live_session(args, settings, need_server=False, at_most=60.0) as session:
        interrupted, full = False, False
        try:
            if args.ring is not None and not args.force:
                _set_aside(path)
            prompts = keeps_prompts(args)
            session.start_recording(path, overwrite=args.force, every_s=args.every or 0.0, prompts=prompts)
            say(f"recording to {args.output}{', ' + WITH_PROMPTS if prompts else ''}; Ctrl-C ends it")
            full = _follow(session, args)
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
    ended = " (interrupted)" if interrupted else " (as large as it may get)" if full else ""
    say(f"{stats.samples} samples{missed}, {stats.bytes} bytes in {args.output}{ended}")
    return EXIT_OK


def _follow(session: Session, args: argparse.Namespace) -> bool:
    """Until the end; whether that came because the file is as large as it may get."""
    begin = tidied = time.monotonic()
    seen = 0
    while args.seconds is None or time.monotonic() - begin < args.seconds:
        snapshot = session.wait(seen, 1.0)
        seen = snapshot.seq if snapshot is not None else seen
        writer = session.recording
        if session.record_error or writer is None:
            return False
        if args.ring is None:
            if args.max_size is not None and writer.stats.bytes >= args.max_size:
                return True
        elif time.monotonic() - tidied >= min(TIDY_S, args.ring / 4) or _too_large(writer, args.max_size):
            tidied = time.monotonic()
            writer.drop_before(wall() - args.ring)
            if args.max_size is not None:
                writer.drop_to(args.max_size)
    return False


def _too_large(writer: RecordingWriter, most: int | None) -> bool:
    return most is not None and writer.stats.bytes > most


def _set_aside(path: Path) -> None:
    """A ring starts again with the host or its service: what the one before holds is kept, as the only one."""
    try:
        if path.is_file():
            path.replace(path.with_name(f"{path.stem}.before{path.suffix}"))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise QtopError(f"the ring before, {path}, cannot be set aside: {why}", "Name another file.") from None
