"""The verbs that change things or put them back: actions, apply, undo, journal."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import asdict
from typing import Any

from qtop.act.actor import Actor
from qtop.act.change import Plan
from qtop.act.journal import Journal
from qtop.act.transaction import age_text
from qtop.act.transaction import undo as undo_change
from qtop.config import Settings
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError
from qtop.report.documents import SCHEMA
from qtop.sample import Absent, Why
from qtop.session import Session, require_latest
from qtop.verbs.live import live_session, orderly_signals, print_json

SETTLE_S = 8.0


def _settled(session: Session) -> Actor:
    """The actor, once the threads' rates are there: a plan needs them, and a busy host takes a moment for two
    readings."""
    snapshot = require_latest(session)
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        snapshot = session.wait(snapshot.seq, 3.0) or snapshot
        sched = snapshot.frame.sched
        if not isinstance(sched, Absent) or sched.why not in (Why.NOT_YET, Why.STALE):
            break
    assert session.actor is not None
    return session.actor


def actions(args: argparse.Namespace, settings: Settings) -> int:
    """Each knob with what it would do now, or why it would not."""
    with live_session(args, settings) as session:
        actor = _settled(session)
        rows: list[dict[str, Any]] = []
        for knob in actor.knobs():
            row: dict[str, Any] = {"knob": knob.id, "title": knob.title, "needs": knob.needs}
            try:
                plan = actor.plan(knob.id)
                row |= {"possible": True, "value": plan.value, "summary": plan.summary, "preview": list(plan.preview)}
            except QtopError as error:
                row |= {"possible": False, "reason": error.message}
            rows.append(row)
    if args.json:
        print_json({"schema": SCHEMA, "actions": rows})
        return EXIT_OK
    for row in rows:
        print(f"{row['knob']}: {row['summary'] if row['possible'] else 'no: ' + row['reason']}")
        for line in row.get("preview", ()):
            print(f"    {line}")
    return EXIT_OK


def apply(args: argparse.Namespace, settings: Settings) -> int:
    """Preview, ask (or ``--yes``), then the transaction; exit 1 when it was put back."""
    name, equals, value = args.knob.partition("=")
    with live_session(args, settings) as session:
        actor = _settled(session)
        plan = actor.plan(name, value if equals else None)
        cost, warning = ("", None) if args.no_measure else actor.cost()
        if not args.json or args.dry_run:
            _show(plan, cost, warning, to_json=args.json)
        elif not args.yes:  # the document alone goes to standard output
            with contextlib.redirect_stdout(sys.stderr):
                _show(plan, cost, warning, to_json=False)
        if args.dry_run:
            return EXIT_OK
        if not args.yes and not _asked():
            print("nothing was changed", file=sys.stderr)
            return EXIT_USAGE

        def say(step: str, text: str) -> None:
            print(f"  {step}: {text}", file=sys.stderr)

        # What was shown is what is applied, also if a better proposal turned up meanwhile.
        outcome = actor.apply(name, plan.value, say, measure=not args.no_measure, keep_anyway=args.keep)
    if args.json:
        judgement = asdict(outcome.judgement) if outcome.judgement else None
        print_json(
            {
                "schema": SCHEMA,
                "txn": outcome.txn,
                "knob": outcome.knob,
                "value": outcome.plan.value,
                "kept": outcome.kept,
                "judgement": judgement,
                "text": outcome.text,
            }
        )
    else:
        print(outcome.text)
        if outcome.kept:
            print("`qtop undo` puts it back")
    return outcome.exit_code


def _show(plan: Plan, cost: str, warning: str | None, to_json: bool) -> None:
    if to_json:
        print_json(
            {
                "schema": SCHEMA,
                "knob": plan.knob,
                "value": plan.value,
                "summary": plan.summary,
                "preview": list(plan.preview),
                "warnings": list(plan.warnings),
                "cost": cost,
            }
        )
        return
    print(f"{plan.knob}: {plan.summary}")
    for line in (*plan.preview, *([cost] if cost else [])):
        print(f"    {line}")
    for line in (*plan.warnings, *([warning] if warning else [])):
        print(f"    warning: {line}")


def _asked() -> bool:
    if not sys.stdin.isatty():
        raise QtopError("there is no terminal to ask on", "Pass --yes to apply, --dry-run to only look.")
    print("apply? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def undo(args: argparse.Namespace, settings: Settings) -> int:
    """Put the latest change back; needs no server, only the journal."""
    with orderly_signals():
        done = undo_change()
    if args.json:
        print_json({"schema": SCHEMA, **asdict(done)})
    else:
        print(done.text)
    return EXIT_OK


def journal(args: argparse.Namespace, settings: Settings) -> int:
    """Every change, the latest last."""
    changes = Journal().changes()
    if args.json:
        rows = [
            {
                "txn": change.txn,
                "t": change.t,
                "knob": change.knob,
                "state": change.state,
                "steps": change.steps,
                "record": change.record,
                "notes": change.notes,
            }
            for change in changes
        ]
        print_json({"schema": SCHEMA, "journal": rows})
        return EXIT_OK
    if not changes:
        print("qtop has changed nothing")
    words = {"open": "unfinished: `qtop undo` puts it back", "kept": "in force", "closed": "put back"}
    for change in changes:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change.t))
        told = change.notes.get("measured", {}).get("text", "")
        value, state = change.record.get("new", "?"), words[change.state]
        print(f"{when}  {change.txn}  {change.knob} → {value}  {state}  ({age_text(change)})")
        if told:
            print(f"    {told}")
    return EXIT_OK
