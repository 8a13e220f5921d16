"""The verb report: a recording, or the server now, as one page of HTML or as Markdown for an issue."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from qtop.config import Settings
from qtop.errors import EXIT_OK, EXIT_UNREACHABLE, QtopError
from qtop.record.files import check_new, write_new
from qtop.report.gathered import gather
from qtop.report.markdown import page_markdown
from qtop.sample import Absent
from qtop.verbs.terminal import say


def report(args: argparse.Namespace, settings: Settings) -> int:
    """Write ``-o``, for its owner only; nothing is written when the recording cannot be read. Without a server now the
    page is about the host, and the exit says so, as that of doctor."""
    out = Path(args.output)
    check_new(out, args.force, Path(args.file) if args.file else None)  # not only after watching for a while
    if args.file:
        gathered = gather(Path(args.file))
    else:
        with tempfile.TemporaryDirectory(prefix="qtop-") as folder:
            path = Path(folder) / "now.qtop"
            _watch(path, args, settings)
            gathered = gather(path)
    if args.markdown:
        document = page_markdown(gathered)
    else:
        from qtop.report.page import page_html  # with the reader of rule pages

        document = page_html(gathered)
    write_new(out, document.encode("utf-8", "replace"), args.force)
    if gathered.skipped:
        say(f"qtop: {args.file}: {gathered.skipped} damaged records skipped")
    say(f"{args.output}: {gathered.whole.verdict.headline}")
    return EXIT_UNREACHABLE if not args.file and isinstance(gathered.whole.frame.server, Absent) else EXIT_OK


def _watch(path: Path, args: argparse.Namespace, settings: Settings) -> None:
    """Record the server for ``--seconds``: so what the report says went through the same redaction."""
    from qtop.verbs.live import live_session

    at_most = min(60.0, max(0.1, args.seconds / 8))  # a rule wants several readings
    with live_session(args, settings, need_server=False, at_most=at_most) as session:
        session.start_recording(path)
        seen, deadline = 0, time.monotonic() + args.seconds
        while (left := deadline - time.monotonic()) > 0:
            latest = session.wait(seen, min(left, 2.0))
            seen = latest.seq if latest is not None else seen
        session.stop_recording()
        if session.record_error:
            raise QtopError(session.record_error)
