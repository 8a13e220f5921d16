"""The verb tune: the knobs that findings propose, one by one, each measured and kept if it helps; then a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qtop.act.actor import Actor, Wish
from qtop.act.documents import offer_document, tuned_document
from qtop.act.hands import Hands
from qtop.act.knobs import KNOBS, knob
from qtop.act.survey import Offer
from qtop.act.transaction import Policy
from qtop.act.tuning import Tuned, tune
from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_USAGE
from qtop.report.changes import change_words, how, right, table, tuned_text
from qtop.report.documents import SCHEMA
from qtop.session import Session
from qtop.verbs.change import cost_of, settled, stays
from qtop.verbs.live import live_session
from qtop.verbs.terminal import asked, print_json

WATCH_S = 8.0
"""For findings to show themselves: most need some seconds out of the last ten."""


def tune_verb(args: argparse.Namespace, settings: Settings) -> int:
    """See the module. Exit 1 where something was tried and nothing kept."""
    wanted = wishes_of(args.only) if args.only else None
    with live_session(args, settings, need_server=True) as session, Hands(sys.stdin.isatty()) as hands:
        actor = settled(session)
        offers = chosen(actor, session, wanted, args.all)
        wishes = wanted or [(one.knob, one.plan.value) for one in offers if one.plan is not None]
        if not wishes:
            return _nothing(args)
        if args.dry_run and args.json:
            print_json({"schema": SCHEMA, "tune": [offer_document(one) for one in offers]})
            return EXIT_OK
        if not args.json or not args.yes:
            _show(actor, offers, wishes, args)
        if args.dry_run:
            return EXIT_OK
        if not args.yes and not asked(f"try {'it' if len(wishes) == 1 else f'these {len(wishes)}, one by one'}?"):
            print("nothing was changed", file=sys.stderr)
            return EXIT_USAGE
        if any(one.plan is not None and one.plan.root for one in offers):
            hands.ready()  # a password is asked for now, not in the middle

        def say(step: str, text: str) -> None:
            print(f"  {step}: {text}", file=sys.stderr)

        tuned = tune(actor, wishes, say, Policy(ask=None if args.yes else stays), hands)
        tell(tuned, args.json)
    if tuned.cut is not None:
        raise tuned.cut
    return EXIT_OK if tuned.kept else EXIT_FINDING


def tell(tuned: Tuned, to_json: bool) -> None:
    """The report."""
    document = tuned_document(tuned)
    if to_json:
        print_json({"schema": SCHEMA, **document})
    else:
        print(tuned_text(document))


def wishes_of(texts: Sequence[str]) -> list[Wish]:
    """Knobs with or without a value, separated by commas; a part that begins with no knob's name belongs to the value
    before it (cpu-affinity=0-3,8). QtopError for a knob that there is not."""
    wishes: list[Wish] = []
    for part in ",".join(texts).split(","):
        name, equals, value = part.strip().partition("=")
        if name not in KNOBS and wishes and wishes[-1][1] is not None:
            wishes[-1] = (wishes[-1][0], f"{wishes[-1][1]},{part}")
            continue
        wishes.append((knob(name).id, value if equals else None))
    return wishes


def chosen(actor: Actor, session: Session, wanted: Sequence[Wish] | None, everything: bool) -> list[Offer]:
    """What is to be tried: those named; all that are possible; else those that findings propose."""
    if not everything and wanted is None:
        _watch(session)
    offers = actor.survey(session.latest.findings if session.latest is not None else ())
    if wanted is not None:
        names = [name for name, _ in wanted]
        return sorted((one for one in offers if one.knob in names), key=lambda one: names.index(one.knob))
    # What nothing can put back is not tried for the sake of trying.
    return [one for one in offers if one.plan is not None and (one.by or (everything and one.plan.keep != "always"))]


def _watch(session: Session) -> None:
    """Give findings their time."""
    latest = session.latest
    begun = latest.frame.t if latest is not None else 0.0
    print(f"  watching for {WATCH_S:.0f} s what holds the server back", file=sys.stderr)
    while latest is not None and latest.frame.t - begun < WATCH_S:
        latest = session.wait(latest.seq, 5.0)


def _nothing(args: argparse.Namespace) -> int:
    if args.json:
        print_json({"schema": SCHEMA, **tuned_document(Tuned())})
    else:
        print("no finding proposes a change now; `qtop tune --all` tries all that is possible, `qtop actions` lists it")
    return EXIT_OK


def _show(actor: Actor, offers: Sequence[Offer], wishes: Sequence[Wish], args: argparse.Namespace) -> None:
    """What will be tried, in which order, and what measuring it sends."""
    out = sys.stderr if args.json else sys.stdout
    values = dict(wishes)
    rows = [("knob", "how", "right", "proposed by", "now → then")]
    for one in offers:
        told = offer_document(one)
        if one.plan is None:
            rows.append((one.knob, "-", "-", ", ".join(one.by) or "-", one.reason))
            continue
        value = change_words(one.now, values.get(one.knob) or one.plan.value)
        rows.append((one.knob, how(told), right(told), ", ".join(one.by) or "-", value))
    print("\n".join(table(rows)), file=out)
    cost, warning = cost_of(actor, args.dry_run)
    for line in (cost, f"warning: {warning}" if warning else ""):
        if line:
            print(f"  {line}", file=out)
