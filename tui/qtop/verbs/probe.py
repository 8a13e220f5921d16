"""The verb probe: test prompts, one or many, streamed and timed."""

from __future__ import annotations

import argparse
import sys

from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError
from qtop.probe.lint import Fault
from qtop.probe.summary import Objective, summarise_all
from qtop.report.figures import probe_line
from qtop.report.probe_documents import probe_csv, probe_document
from qtop.report.probe_text import summary_lines, window_lines
from qtop.session import require_latest
from qtop.verbs.live import live_session
from qtop.verbs.terminal import print_json, say
from qtop.verbs.testing import Outcome, request_of, run_test

_LIMITS = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2e": "e2e_ms", "e2el": "e2e_ms"}


def objective_of(words: list[str] | None) -> Objective | None:
    """``["ttft:300", "tpot:50"]`` as an objective, ms; None where nothing is asked for."""
    if not words:
        return None
    fields: dict[str, float] = {}
    for word in words:
        name, _, limit = word.partition(":")
        try:
            value = float(limit)
        except ValueError:
            value = 0.0
        if name.lower() not in _LIMITS or not 0 < value < 1e9:
            raise QtopError(f"{word!r} is no objective", "Give for example --goodput ttft:300 tpot:50 e2e:5000 (ms).")
        fields[_LIMITS[name.lower()]] = value
    return Objective(**fields)


def probe(args: argparse.Namespace, settings: Settings) -> int:
    """Say what will be sent, send it, print the figures (text goes to standard output unless ``--json``, ``--csv``)."""
    objective = objective_of(args.goodput)
    if args.json and args.csv:
        raise QtopError("--json and --csv are two forms of the same", "Give one of them.")
    own = None
    if args.body:
        from qtop.verbs import own_request

        own = own_request.read_own(args.body)
    faults: tuple[Fault, ...] = ()
    with live_session(args, settings) as session:
        seen = require_latest(session)
        session.wait(seen.seq, 3.0)
        if own is not None:
            request, faults = own_request.test_of(args, session, own)
            for line in own_request.before_lines(own, request, faults):
                say(line)
        else:
            request = request_of(
                args,
                session,
                args.prompt or settings.prompt,
                args.max_tokens or settings.max_tokens,
                args.requests or 1,
            )
        plan, warning = session.probe_plan(request)
        say(f"sending {plan} to {request.url}")
        if warning:
            say(f"qtop: warning: {warning}")
        quiet = args.json or args.csv or request.requests > 1
        outcome = run_test(session, request, None if quiet else _print)
    summary = summarise_all(outcome.results, objective)
    if args.json:
        document = probe_document(request, outcome.results, summary, outcome.check, outcome.window)
        examined = {} if own is None else {"request": own_request.own_document(own, request, faults)}
        print_json(document | {"planned": plan, "warning": warning} | examined)
    elif args.csv:
        print(probe_csv(outcome.results), end="")
    elif own is not None and request.requests == 1:
        print()
    elif request.requests == 1:
        print()
        for result in outcome.results:
            print(probe_line(result) if result.ok else f"failed: {result.error}")
    else:
        print("\n".join([*summary_lines(request, summary, outcome.check), *window_lines(outcome.window)]))
    if own is not None and not args.json and not args.csv:
        for line in [*own_request.after_lines(outcome.results), *own_request.fault_lines(faults)]:
            print(line)
    return max(status(outcome), EXIT_FINDING if any(one.rule for one in faults) else EXIT_OK)


def status(outcome: Outcome) -> int:
    """The exit code of a test; an interrupt is raised anew, now that what there was has been printed."""
    if outcome.interrupted is not None:
        raise outcome.interrupted
    ok = bool(outcome.results) and all(result.ok for result in outcome.results) and not outcome.error
    return EXIT_OK if ok else EXIT_FINDING


def _print(text: str) -> None:
    """What a server says may hold what a terminal takes for a command."""
    sys.stdout.write("".join(char if char.isprintable() or char in "\n\t" else " " for char in text))
    sys.stdout.flush()
