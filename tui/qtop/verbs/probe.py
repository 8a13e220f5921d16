"""The verb probe: one or a few test prompts, streamed and timed."""

from __future__ import annotations

import argparse
import sys

import msgspec

from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK
from qtop.probe.messages import ProbeEvent
from qtop.probe.prompts import PROMPTS
from qtop.probe.runner import run_probe
from qtop.report.documents import SCHEMA
from qtop.report.figures import probe_line
from qtop.session import require_latest
from qtop.verbs.live import live_session, print_json
from qtop.verbs.terminal import say


def prompt_text(name: str) -> str:
    """A built-in prompt by its name, or the text itself."""
    return PROMPTS.get(name, name)


def probe(args: argparse.Namespace, settings: Settings) -> int:
    """Say what will be sent, send it, print the figures (text goes to standard output unless ``--json``)."""
    with live_session(args, settings) as session:
        seen = require_latest(session)
        session.wait(seen.seq, 3.0)
        request = session.probe_request(
            prompt_text(args.prompt or settings.prompt), args.max_tokens or settings.max_tokens, args.requests
        )
        plan, warning = session.probe_plan(request)
        say(f"sending {plan} to {request.url}")
        if warning:
            say(f"qtop: warning: {warning}")

        def show(event: ProbeEvent) -> None:
            if not args.json and event.kind == "delta":
                sys.stdout.write(event.text)
                sys.stdout.flush()

        results = run_probe(request, show)
    ok = bool(results) and all(result.ok for result in results)
    if args.json:
        print_json(
            {
                "schema": SCHEMA,
                "url": request.url,
                "model": request.model,
                "planned": plan,
                "warning": warning,
                "results": [msgspec.to_builtins(result) for result in results],
            }
        )
    else:
        print()
        for result in results:
            print(probe_line(result) if result.ok else f"failed: {result.error}")
    return EXIT_OK if ok else EXIT_FINDING
