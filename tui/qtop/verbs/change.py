"""The verbs that change things or put them back: actions, apply, undo, journal."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from qtop.act.actor import Actor, Wish
from qtop.act.change import Plan
from qtop.act.documents import (
    change_document,
    journal_document,
    offer_document,
    outcome_document,
    plan_document,
    values_document,
)
from qtop.act.hands import Hands
from qtop.act.journal import Change, Journal
from qtop.act.knobs import knob
from qtop.act.knobs.lasting import LASTING
from qtop.act.proof import Judgement
from qtop.act.transaction import Keep, Policy
from qtop.act.undo import undo as undo_change
from qtop.act.undo import undo_all
from qtop.config import Settings
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError, Refused
from qtop.report.changes import actions_text, change_text, journal_text
from qtop.report.documents import SCHEMA
from qtop.sample import Absent, Why
from qtop.session import Session, require_latest
from qtop.verbs.live import live_session, orderly_signals
from qtop.verbs.terminal import asked, print_json

SETTLE_S = 8.0
NEIGHBOURS_S = 6.0
"""Others are looked at once the server has been seen to wait for a CPU; the second look tells who is busy now."""
WAITS = 0.05
"""Share of its time from which on they are (``source.live.WAITING``)."""


def settled(session: Session, neighbours: bool = False) -> Actor:
    """The actor, once the threads' rates are there: a plan needs them, and a busy host takes a moment for two
    readings. ``neighbours``: who shares the server's CPUs is wanted; without it they are waited for only while it waits
    for a CPU."""
    snapshot = require_latest(session)
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        snapshot = session.wait(snapshot.seq, 3.0) or snapshot
        sched = snapshot.frame.sched
        if not isinstance(sched, Absent) or sched.why not in (Why.NOT_YET, Why.STALE):
            break
    deadline = time.monotonic() + NEIGHBOURS_S
    while time.monotonic() < deadline:
        sched = snapshot.frame.sched
        if isinstance(sched, Absent) or not isinstance(sched.competitors, Absent):
            break
        if not neighbours and all(thread.contended < WAITS for thread in sched.critical):
            break
        snapshot = session.wait(snapshot.seq, 3.0) or snapshot
    if session.actor is None:
        raise Refused(session.no_actor)
    return session.actor


def actions(args: argparse.Namespace, settings: Settings) -> int:
    """Each knob with what it would do now, or why it would not."""
    with live_session(args, settings) as session:
        actor = settled(session)
        latest = session.latest
        rows = [offer_document(one) for one in actor.survey(latest.findings if latest is not None else ())]
    if args.json:
        print_json({"schema": SCHEMA, "actions": rows})
    else:
        print(actions_text(rows))
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
        actor = settled(session, any(knob(name).by_neighbours and ":" not in (value or "") for name, value in wishes))
        plans = actor.plans(wishes, args.persist)
        cost, warning = ("", None) if args.no_measure else cost_of(actor, args.dry_run)
        if not args.json or args.dry_run:
            _show(plans, cost, warning, to_json=args.json)
        elif not args.yes:  # the document alone goes to standard output
            with contextlib.redirect_stdout(sys.stderr):
                _show(plans, cost, warning, to_json=False)
        if args.dry_run:
            return EXIT_OK
        if not args.yes and not asked("apply?"):
            print("nothing was changed", file=sys.stderr)
            return EXIT_USAGE

        def say(step: str, text: str) -> None:
            print(f"  {step}: {text}", file=sys.stderr)

        # What was shown is what is applied, also if a better proposal turned up meanwhile.
        shown = [plan for plan in plans if plan.knob != LASTING.id]
        fixed: list[Wish] = [(name, plan.value) for (name, _), plan in zip(wishes, shown, strict=True)]
        keep = Keep.ALWAYS if args.keep_always else Keep.UNLESS_WORSE if args.keep else Keep.IMPROVED
        policy = Policy(keep, None if args.yes else stays)
        outcome = actor.apply(fixed, say, not args.no_measure, policy, hands, args.persist)
    if args.json:
        print_json({"schema": SCHEMA, **outcome_document(outcome)})
    else:
        print(outcome.text)
        if outcome.kept:
            print("`qtop undo` puts it back")
    return outcome.exit_code


def cost_of(actor: Actor, dry_run: bool) -> tuple[str, str | None]:
    """What measuring sends; a preview does without where there is no server to measure."""
    try:
        return actor.cost()
    except QtopError as error:
        if not dry_run:
            raise
        return "", f"it could not be measured: {error.message}"


def stays(judgement: Judgement) -> bool:
    """Ask about a change that showed no effect."""
    print(f"  {judgement.text}", file=sys.stderr)
    return asked("keep it?")


def _show(plans: Sequence[Plan], cost: str, warning: str | None, to_json: bool) -> None:
    if to_json:
        rows = [plan_document(plan) for plan in plans]
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


def journal(args: argparse.Namespace, settings: Settings) -> int:
    """Every change, the latest last; of one that is named, each value before, as qtop wrote it, and now."""
    changes = Journal().changes()
    if args.change:
        return _one_change(next((one for one in changes if one.txn == args.change), None), args)
    if args.json:
        rows = [journal_document(change) for change in changes]
        print_json({"schema": SCHEMA, "journal": rows})
        return EXIT_OK
    print(journal_text([change_document(change) for change in changes]) if changes else "qtop has changed nothing")
    return EXIT_OK


def _one_change(change: Change | None, args: argparse.Namespace) -> int:
    if change is None:
        raise QtopError(f"no change is called {args.change}", "`qtop journal` lists them.")
    told, parts = change_document(change), values_document(change)
    if args.json:
        print_json({"schema": SCHEMA, **told, "parts": parts})
    else:
        print(change_text(told, parts))
    return EXIT_OK
