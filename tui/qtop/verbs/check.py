"""The verb check: the acceptance test, against what the hardware can do and against an earlier result."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError
from qtop.model.roofline import Hardware, hardware
from qtop.plan.acceptance import Acceptance, Line, accept
from qtop.probe.baseline import Against, Baseline, compare_all, load, overall, require_same
from qtop.probe.messages import ProbeRequest
from qtop.probe.summary import summarise_all
from qtop.probe.timing import ProbeResult
from qtop.report.documents import plain
from qtop.report.probe_documents import asked_document, probe_document
from qtop.report.probe_text import summary_lines, window_lines
from qtop.sample import Absent
from qtop.session import Session, require_latest
from qtop.units import NONE, number
from qtop.verbs.live import live_session
from qtop.verbs.terminal import print_json, say
from qtop.verbs.testing import Outcome, request_of, run_test

FEWEST = 20
TOKENS = 256
PROMPT = "zh"


def check(args: argparse.Namespace, settings: Settings) -> int:
    """Send the test, judge it, print the verdict; 1 where it fails, or is worse than the baseline."""
    requests = args.requests if args.requests is not None else FEWEST
    if requests < FEWEST:
        raise QtopError(f"the acceptance test needs {FEWEST} requests or more, not {requests}")
    args.requests, args.exact, args.seconds = requests, True, None
    baseline = load(Path(args.baseline)) if args.baseline else None
    with live_session(args, settings) as session:
        seen = require_latest(session)
        session.wait(seen.seq, 3.0)
        request = request_of(args, session, args.prompt or PROMPT, args.max_tokens or TOKENS, requests)
        if baseline is not None:
            require_same(baseline, request.model, asked_document(request))
        plan, warning = session.probe_plan(request)
        say(f"sending {plan} to {request.url}")
        if warning:
            say(f"qtop: warning: {warning}")
        outcome = run_test(session, request)
        known = _hardware(session)
    if outcome.interrupted is not None:  # half a test is no verdict
        raise outcome.interrupted
    return _tell(args, request, outcome, known, baseline)


def _hardware(session: Session) -> Hardware | Absent:
    latest = session.latest
    assert latest is not None
    return hardware(latest.frame)


def _tell(
    args: argparse.Namespace,
    request: ProbeRequest,
    outcome: Outcome,
    known: Hardware | Absent,
    baseline: Baseline | None,
) -> int:
    summary = summarise_all(outcome.results)
    card, why = (None, str(known)) if isinstance(known, Absent) else (known, "")
    verdict = accept(summary, card, why, streams_of(request, outcome.results), request.max_tokens, request.requests)
    parts = compare_all(baseline.results, outcome.results) if baseline is not None else ()
    worse = bool(parts) and overall(parts) == "worse"
    passed = verdict.passed and not worse and not outcome.error
    if args.json:
        head: dict[str, Any] = {
            "schema": 1,
            "passed": passed,
            "ended_early": outcome.error,
            "lines": [plain(line) for line in verdict.lines],
            "guide": {"lines": [plain(line) for line in verdict.guide], "why": verdict.guide_why},
            "baseline": None
            if baseline is None
            else {"verdict": overall(parts), "metrics": [msgspec.to_builtins(part) for part in parts]},
        }
        print_json(head | probe_document(request, outcome.results, summary, outcome.check, outcome.window))
    else:
        lines = summary_lines(request, summary, outcome.check)
        print("\n".join([*lines, *window_lines(outcome.window), "", *verdict_lines(verdict, parts, passed)]))
    return EXIT_OK if passed else EXIT_FINDING


def streams_of(request: ProbeRequest, results: Sequence[ProbeResult]) -> int:
    """How many ran at a time: as many as were asked for, and of a schedule the mean in flight (Little's law)."""
    if not request.rate:
        return max(1, min(request.concurrency, request.requests))
    begin, end = min(one.started for one in results), max(one.ended for one in results)
    busy = sum(one.ended - one.started for one in results)
    return max(1, round(busy / (end - begin))) if end > begin else 1


def verdict_lines(verdict: Acceptance, parts: Sequence[Against], passed: bool) -> list[str]:
    """What was judged, a line each, and the verdict last."""
    lines = [_line_text(line) for line in verdict.lines]
    lines += ["", "by the guide's own line (Qwen3-4B on a 4090D):", *(_line_text(line) for line in verdict.guide)]
    lines.append(f"       its 1.1 s cannot be met there in bf16: {verdict.guide_why}")
    if parts:
        lines += ["", "against the baseline:", *(_against_text(part) for part in parts)]
        lines.append(f"       together: {overall(parts)}")
    open_ones = [line for line in verdict.lines if line.passed is None]
    note = f" ({', '.join(line.name for line in open_ones)} not judged)" if open_ones else ""
    return [*lines, "", f"{'PASSED' if passed else 'FAILED'}{note}"]


def _line_text(line: Line) -> str:
    mark = {True: "pass", False: "FAIL", None: "  – "}[line.passed]
    value = NONE if line.value is None else f"{number(round(line.value))} {line.unit}".strip()
    if line.limit is None:
        return f"  {mark} {line.name:<10} {value:>9}  not judged: {line.why}"
    sign = "≥" if line.name == "requests" else "≤"
    limit = f"{sign} {number(round(line.limit))} {line.unit}".strip()
    why = line.why or line.source
    return f"  {mark} {line.name:<10} {value:>9}  {limit:<12} {why}".rstrip()


def _against_text(part: Against) -> str:
    if part.change_pct is None:
        return f"       {part.metric:<5} {part.verdict}: {part.why}"
    return (
        f"       {part.metric:<5} {part.before_ms:.4g} → {part.now_ms:.4g} ms  {part.change_pct:+.1f} % "
        f"({part.low_pct:+.1f} to {part.high_pct:+.1f} %)  {part.verdict}"
    )
