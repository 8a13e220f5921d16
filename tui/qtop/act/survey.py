"""What could be changed now: every knob with what it would do and who proposes it, or why it would not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qtop.act.change import Knob, Plan, Record
from qtop.diagnose.engine import Finding
from qtop.errors import QtopError

SHOWN = 3
"""Different present values that are told one by one."""


@dataclass(frozen=True)
class Offer:
    """One knob as it stands."""

    knob: str
    title: str
    needs: str
    """The right it takes, in words."""
    plan: Plan | None
    """What qtop proposes; None where it cannot or need not be done."""
    reason: str = ""
    """Why there is no plan, and what to do about that; "" where there is one."""
    now: str = ""
    """The present value, "" where that cannot be said in a word."""
    by: tuple[str, ...] = ()
    """The rules whose findings propose it now."""

    @property
    def possible(self) -> bool:
        """There is something to do."""
        return self.plan is not None


def survey(knobs: Iterable[Knob], plan: Callable[[str], Plan], findings: Sequence[Finding]) -> tuple[Offer, ...]:
    """What is possible first: what findings propose, then what is live, then what takes a new start of the server."""
    offers = [_offer(one, plan, proposers(findings, one.id)) for one in knobs]
    return tuple(sorted(offers, key=_place))


def proposers(findings: Sequence[Finding], knob: str) -> tuple[str, ...]:
    """The rules that fire and offer this knob."""
    return tuple(one.rule for one in findings if any(remedy.knob == knob for remedy in one.remedies))


def _place(offer: Offer) -> tuple[bool, bool, bool]:
    return offer.plan is None, not offer.by, offer.plan is not None and offer.plan.restart


def _offer(knob: Knob, plan: Callable[[str], Plan], by: tuple[str, ...]) -> Offer:
    try:
        planned = plan(knob.id)
    except QtopError as error:
        return Offer(knob.id, knob.title, knob.needs, None, str(error), by=by)
    return Offer(knob.id, knob.title, knob.needs, planned, now=_now(knob, planned), by=by)


def _now(knob: Knob, plan: Plan) -> str:
    """The values that would be replaced."""
    if plan.restart:  # a whole command line is no word
        return ""
    return present(knob, plan.record)


def present(knob: Knob, record: Record) -> str:
    """The different old values of a record."""
    olds = list(dict.fromkeys(value.old for value in knob.read(record).values))
    return ", ".join(olds[:SHOWN]) + (" …" if len(olds) > SHOWN else "")
