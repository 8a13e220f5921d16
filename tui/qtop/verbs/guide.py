"""The verb guide: every claim of the guide, checked on this machine or on a recording of another."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time

from qtop.config import Settings
from qtop.diagnose.engine import Finding
from qtop.errors import EXIT_OK, QtopError
from qtop.guide.registry import BY_ID, check_all
from qtop.model.frame import Frame
from qtop.report.guide import claim_page, guide_document, guide_text
from qtop.session import require_latest
from qtop.verbs.live import live_session
from qtop.verbs.look import whole_of
from qtop.verbs.terminal import is_plain, print_json

WIDEST = 100
"""Columns of an entry at most."""


def guide(args: argparse.Namespace, settings: Settings) -> int:
    """The table, the entry of one claim, or one JSON document. Useful without a server and without a GPU too."""
    wanted = args.claim.lower() if args.claim is not None else None
    if wanted is not None and wanted not in BY_ID:
        raise QtopError(f"no claim is called {args.claim}", "`qtop guide` lists them.")
    if args.source:
        frame, findings, observed = _recorded(args.source)
    else:
        frame, findings, observed = _live(args, settings)
    entries = check_all(frame, findings)
    if wanted is not None:
        entries = tuple(entry for entry in entries if entry.claim.id.lower() == wanted)
    if args.json:
        print_json(guide_document("recording" if args.source else "live", observed, frame, findings, entries))
    elif wanted is not None:
        print(_wrapped(claim_page(entries[0], findings)))
    else:
        scope = f"the end of a recording of {observed:.0f} s" if args.source else f"watched for {observed:.0f} s"
        print(_fitted(guide_text(entries, frame, scope, is_plain())))
    return EXIT_OK


def _recorded(path: str) -> tuple[Frame, tuple[Finding, ...], float]:
    whole = whole_of(path)
    return whole.frame, whole.findings, whole.seconds


def _live(args: argparse.Namespace, settings: Settings) -> tuple[Frame, tuple[Finding, ...], float]:
    at_most = min(60.0, max(0.1, args.seconds / 4))
    with live_session(args, settings, need_server=False, at_most=at_most) as session:
        latest = begin = require_latest(session)
        deadline = time.monotonic() + args.seconds
        while (left := deadline - time.monotonic()) > 0:
            latest = session.wait(latest.seq, min(left, 2.0)) or latest
    return latest.frame, latest.findings, latest.frame.t - begin.frame.t


def _wrapped(page: str) -> str:
    """Paragraphs broken at words, on a terminal to its width."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns if sys.stdout.isatty() else WIDEST)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)
        for line in page.split("\n")
    )


def _fitted(text: str) -> str:
    """On a terminal each line on one row: what is cut stands in full in the entry of its claim."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    dots = "..." if is_plain() else "…"
    return "\n".join(
        line if len(line) <= width else line[: max(0, width - len(dots))] + dots for line in text.split("\n")
    )
