"""The verb demo: a small real server on loopback, watched; without a terminal, one JSON document."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import msgspec

from qtop.config import Settings
from qtop.demo.progress import TextProgress
from qtop.demo.server import DemoServer
from qtop.errors import EXIT_FINDING, EXIT_OK
from qtop.probe.prompts import ENGLISH
from qtop.probe.runner import run_probe
from qtop.probe.timing import ProbeResult
from qtop.report.documents import SCHEMA, finding_document, plain, verdict_document
from qtop.sample import ServerInfo
from qtop.session import Session, require_latest
from qtop.verbs.live import live_session, orderly_signals
from qtop.verbs.terminal import print_json


def demo(args: argparse.Namespace, settings: Settings) -> int:
    """Start the server, saying what happens; then the dashboard, or with ``--headless`` a measured stretch of time."""
    if not args.headless:
        from qtop.verbs.dashboard import look_of, need_terminal

        need_terminal("`qtop demo --headless` works without one")
        look_of(args, settings)  # a theme that is none is said now, not after the server's start
    with orderly_signals(), TextProgress(sys.stderr) as progress:
        server = DemoServer()
        server.start(threads=args.threads, say=progress.say, progress=progress)
    with server:
        args.url, args.pid = server.url, None
        if args.headless:
            return _headless(args, settings)
        from qtop.verbs.dashboard import dashboard

        return dashboard(args, settings, demo=server)


def _headless(args: argparse.Namespace, settings: Settings) -> int:
    print(f"watching it for {args.seconds:g} s", file=sys.stderr)
    begun = time.monotonic()
    with live_session(args, settings) as session:
        first = require_latest(session)
        session.wait(first.seq, 3.0)
        results = run_probe(session.probe_request(ENGLISH, settings.max_tokens))
        while (left := args.seconds - (time.monotonic() - begun)) > 0:
            session.wait(session.latest.seq if session.latest else 0, min(left, 1.0))
        document = _document(session, first.frame.t, results)
    print_json(document)
    return EXIT_OK if results and results[0].ok else EXIT_FINDING


def _document(session: Session, begin: float, results: list[ProbeResult]) -> dict[str, Any]:
    latest = session.latest
    assert latest is not None
    server = latest.frame.server
    return {
        "schema": SCHEMA,
        "server": plain(server) if isinstance(server, ServerInfo) else None,
        "samples": {"count": latest.seq, "from": begin, "to": latest.frame.t},
        "probe": _probe(results),
        "findings": [finding_document(finding, latest.frame.t) for finding in latest.findings],
        "verdict": verdict_document(latest.verdict),
    }


def _probe(results: list[ProbeResult]) -> dict[str, Any] | None:
    if not results:
        return None
    result = results[0]
    return {
        **msgspec.to_builtins(result),
        "itl_ms": None if result.itl_ms is None else result.itl_ms.p50,
        "itl": msgspec.to_builtins(result.itl_ms),
        "tokens": result.completion_tokens,
        "text_length": result.text_chars,
    }
