"""The verbs that look and change nothing: snapshot, doctor, rules.

What a recording says is said without the imports that a live session needs: they take longer than most recordings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from qtop.config import Settings
from qtop.diagnose.registry import FAMILIES, RULES, page
from qtop.diagnose.whole import Whole
from qtop.errors import EXIT_OK, EXIT_UNREACHABLE, QtopError
from qtop.report.documents import doctor_document, snapshot_document, whole_document, worst_exit
from qtop.report.text import findings_text
from qtop.sample import Absent
from qtop.units import duration
from qtop.verbs.terminal import is_plain, print_json, say

LONG_S = 7200.0
"""A recording that is longer takes some seconds, and somebody may wonder."""


def whole_of(path: str) -> Whole:
    """A recording diagnosed from end to end; says on standard error what of it could not be read."""
    from qtop.record.reader import Recording
    from qtop.startup import settle
    from qtop.timeline.shares import diagnose_recording

    settle()
    recording = Recording(Path(path))
    if recording.indexed and recording.duration > LONG_S and sys.stderr.isatty():
        say(f"qtop: looking through {duration(recording.duration)} …")
    whole = diagnose_recording(recording)
    if whole is None:
        raise QtopError(f"{path} holds no samples")
    if recording.skipped:
        say(f"qtop: {path}: {recording.skipped} damaged records skipped")
    return whole


def snapshot(args: argparse.Namespace, settings: Settings) -> int:
    """One frame as JSON: now, or the last of a recording."""
    if args.source:
        whole = whole_of(args.source)
        print_json(snapshot_document("recording", whole.frame, whole.verdict, whole.findings))
        return EXIT_OK
    from qtop.session import require_latest
    from qtop.verbs.live import live_session

    with live_session(args, settings, need_server=False) as session:
        first = require_latest(session)
        # Rates need two readings of everything, the first of which may only now have begun.
        latest = first
        for _ in range(3):
            latest = session.wait(latest.seq, 3 * session.source.interval + 3) or latest
    print_json(snapshot_document("live", latest.frame, latest.verdict, latest.findings))
    return EXIT_OK


def doctor(args: argparse.Namespace, settings: Settings) -> int:
    """What holds the server back: after watching for some seconds, or over a whole recording."""
    if args.source:
        whole = whole_of(args.source)
        if args.json:
            print_json(whole_document(whole))
        else:
            scope = f"{whole.samples} samples, {whole.seconds:.0f} s"
            print(findings_text(whole.verdict, whole.findings, whole.end, scope, is_plain()))
        return worst_exit(whole.findings)
    from qtop.session import require_latest
    from qtop.verbs.live import live_session

    at_most = min(60.0, max(0.1, args.seconds / 8))  # a rule wants several readings
    with live_session(args, settings, need_server=False, at_most=at_most) as session:
        begin = require_latest(session)
        latest, deadline = begin, time.monotonic() + args.seconds
        while (left := deadline - time.monotonic()) > 0:
            latest = session.wait(latest.seq, min(left, 2.0)) or latest
    observed = latest.frame.t - begin.frame.t
    if args.json:
        print_json(doctor_document("live", observed, latest.frame.t, latest.verdict, latest.findings))
    else:
        scope = f"watched for {observed:.0f} s"
        print(findings_text(latest.verdict, latest.findings, latest.frame.t, scope, is_plain()))
    if isinstance(latest.frame.server, Absent):
        return EXIT_UNREACHABLE
    return worst_exit(latest.findings)


def rules(args: argparse.Namespace, settings: Settings) -> int:
    """The list of rules, or one page."""
    if args.rule is None:
        family = ""
        for rule in RULES:
            if rule.id[2] != family:
                print(f"{chr(10) if family else ''}{FAMILIES[rule.id[2]]}")
                family = rule.id[2]
            worst = max((enter.severity for enter in rule.enter), key=lambda one: one.rank)
            print(f"  {rule.id}  {rule.title:<48} {worst.value}")
        print("\n`qtop rules ID` shows a rule's page.")
        return EXIT_OK
    try:
        print(page(args.rule.upper()))
    except KeyError:
        raise QtopError(f"no rule is called {args.rule}", "`qtop rules` lists them.") from None
    return EXIT_OK
