"""The verbs that change things or put them back: actions, apply, undo, journal."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from qtop.act.actor import Actor, Wish
from qtop.act.change import Plan, Record
from qtop.act.hands import Hands
from qtop.act.journal import Journal, Part, age_text
from qtop.act.knobs import KNOBS, knob
from qtop.act.knobs.lasting import LASTING
from qtop.act.transaction import Judgement, Keep, Outcome, Policy
from qtop.act.undo import undo as undo_change
from qtop.act.undo import undo_all
from qtop.config import Settings
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError, Refused
from qtop.report.documents import SCHEMA
from qtop.sample import Absent, Why
from qtop.session import Session, require_latest
from qtop.verbs.live import live_session, orderly_signals
from qtop.verbs.terminal import print_json

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
    if session.actor is None:
        raise Refused(session.no_actor)
    return session.actor


def actions(args: argparse.Namespace, settings: Settings) -> int:
    """Each knob with what it would do now, or why it would not."""
    with live_session(args, settings) as session:
        actor = _settled(session)
        rows: list[dict[str, Any]] = []
        frame = actor.now()
        for one in [each for each in actor.knobs() if each.fits(frame)]:
            row: dict[str, Any] = {"knob": one.id, "title": one.title, "needs": one.needs}
            try:
                row |= {"possible": True, **_plan_document(actor.plan(one.id))}
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
    wishes: list[Wish] = []
    for word in args.knobs:
        name, equals, value = word.partition("=")
        knob(name)  # a name that there is not is told before a server is looked for
        wishes.append((name, value if equals else None))
    need_server = not (args.no_measure or args.dry_run)
    with live_session(args, settings, need_server=need_server) as session, Hands(sys.stdin.isatty()) as hands:
        actor = _settled(session)
        plans = actor.plans(wishes, args.persist)
        cost, warning = ("", None) if args.no_measure else _cost(actor, args.dry_run)
        if not args.json or args.dry_run:
            _show(plans, cost, warning, to_json=args.json)
        elif not args.yes:  # the document alone goes to standard output
            with contextlib.redirect_stdout(sys.stderr):
                _show(plans, cost, warning, to_json=False)
        if args.dry_run:
            return EXIT_OK
        if not args.yes and not _asked("apply?"):
            print("nothing was changed", file=sys.stderr)
            return EXIT_USAGE

        def say(step: str, text: str) -> None:
            print(f"  {step}: {text}", file=sys.stderr)

        # What was shown is what is applied, also if a better proposal turned up meanwhile.
        shown = [plan for plan in plans if plan.knob != LASTING.id]
        fixed: list[Wish] = [(name, plan.value) for (name, _), plan in zip(wishes, shown, strict=True)]
        keep = Keep.ALWAYS if args.keep_always else Keep.UNLESS_WORSE if args.keep else Keep.IMPROVED
        policy = Policy(keep, None if args.yes else _stays)
        outcome = actor.apply(fixed, say, not args.no_measure, policy, hands, args.persist)
    if args.json:
        print_json(_document(outcome))
    else:
        print(outcome.text)
        if outcome.kept:
            print("`qtop undo` puts it back")
    return outcome.exit_code


def _cost(actor: Actor, dry_run: bool) -> tuple[str, str | None]:
    """What measuring sends; a preview does without where there is no server to measure."""
    try:
        return actor.cost()
    except QtopError as error:
        if not dry_run:
            raise
        return "", f"it could not be measured: {error.message}"


def _stays(judgement: Judgement) -> bool:
    """Ask about a change that showed no effect."""
    print(f"  {judgement.text}", file=sys.stderr)
    return _asked("keep it?")


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "txn": outcome.txn,
        "knob": outcome.knob,
        "value": ", ".join(plan.value for plan in outcome.plans),
        "parts": [{"knob": plan.knob, "value": plan.value, "summary": plan.summary} for plan in outcome.plans],
        "kept": outcome.kept,
        "judgement": asdict(outcome.judgement) if outcome.judgement else None,
        "text": outcome.text,
    }


def _plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "knob": plan.knob,
        "value": plan.value,
        "summary": plan.summary,
        "preview": list(plan.preview),
        "warnings": list(plan.warnings),
        "command": plan.command,
        "root": plan.root,
        "right": plan.right,
        "requests": plan.hurts,
        "undone_by": plan.undone,
        "restart": plan.restart,
    }


def _show(plans: Sequence[Plan], cost: str, warning: str | None, to_json: bool) -> None:
    if to_json:
        rows = [_plan_document(plan) for plan in plans]
        # The first again on its own: most changes have one part.
        print_json({"schema": SCHEMA, **rows[0], "parts": rows, "cost": cost, "cost_warning": warning})
        return
    for plan in plans:
        print(f"{plan.knob}: {plan.summary}")
        for line in plan.lines:
            print(f"    {line}")
        for line in plan.warnings:
            print(f"    warning: {line}")
    for line in (*([cost] if cost else []), *([f"warning: {warning}"] if warning else [])):
        print(f"    {line}")


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise QtopError("there is no terminal to ask on", "Pass --yes to apply, --dry-run to only look.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def undo(args: argparse.Namespace, settings: Settings) -> int:
    """Put the latest change back, or the one named, or all; needs no server, only the journal."""
    if getattr(args, "read_only", False):
        raise Refused("qtop runs with --read-only: nothing can be changed")
    if args.all and args.change:
        raise QtopError("--all and an ID say different things", "Give one of them.")

    def say(step: str, text: str) -> None:
        print(f"  {step}: {text}", file=sys.stderr)

    with orderly_signals(), Hands(sys.stdin.isatty()) as hands:
        done = undo_all(hands=hands, say=say) if args.all else [undo_change(None, args.change, hands, say)]
    if args.json:
        print_json(
            {"schema": SCHEMA, **(asdict(done[0]) if not args.all else {"undone": [asdict(one) for one in done]})}
        )
    else:
        print("\n".join(one.text for one in done) or "nothing to undo")
    return EXIT_OK


def _shown(part: Part) -> Record:
    """The record without secrets; of a knob that this qtop does not know, or does not understand, only the value."""
    try:
        return KNOBS[part.knob].shown(part.record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"new": part.record.get("new", "?")}


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
                "parts": [asdict(replace(part, record=_shown(part))) for part in change.parts],
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
        state = words[change.state]
        print(f"{when}  {change.txn}  {change.knob} → {change.new}  {state}  ({age_text(change)})")
        if told:
            print(f"    {told}")
    return EXIT_OK
