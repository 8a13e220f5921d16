"""A change as a transaction: measure, journal, apply, read back, measure again (``proof``), keep or put back.

It has one part or several, each of one knob, applied in order and put back in reverse. kill -9 at any point leaves a
journal that ``undo`` can finish: the old values are on disk before the first is changed. Any error, Ctrl-C or SIGTERM
between the first change and the decision puts the old values back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from qtop.act.change import Knob, Plan, Reading, Work
from qtop.act.hands import Hands, using
from qtop.act.journal import Change, Journal, Part, age_text
from qtop.act.knobs import KNOBS
from qtop.act.proof import Judgement, Meter, judged
from qtop.act.signals import OneInterrupt
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError, Refused
from qtop.units import plural

Say = Callable[[str, str], None]
"""(step, text): progress for a person. Steps: measure, journal, apply, check, keep, revert."""
Ask = tuple[Knob, Callable[[], Plan]]
"""A knob, and its plan from values read at the time of the call."""


class Keep(Enum):
    """What has to be shown for a change to stay, where nobody is asked."""

    IMPROVED = "improved"
    UNLESS_WORSE = "unless worse"
    ALWAYS = "always"

    def keeps(self, judgement: Judgement) -> bool:
        """Whether this verdict is enough."""
        if self is Keep.ALWAYS or judgement.verdict == "improved":
            return True
        return self is Keep.UNLESS_WORSE and judgement.verdict != "worse"


@dataclass(frozen=True)
class Policy:
    """Who decides whether a change stays, and who makes it."""

    keep: Keep = Keep.IMPROVED
    ask: Callable[[Judgement], bool] | None = None
    """Asked where the verdict is neither "improved" nor "worse" and ``keep`` does not say: True keeps it. Blocks."""
    cancelled: Callable[[], bool] = lambda: False

    def decides(self, judgement: Judgement) -> bool:
        """True if it stays."""
        if self.keep.keeps(judgement):
            return True
        return judgement.verdict != "worse" and self.ask is not None and self.ask(judgement)


@dataclass(frozen=True)
class Outcome:
    """How a transaction ended."""

    txn: str
    kept: bool
    plans: tuple[Plan, ...]
    judgement: Judgement | None
    text: str

    @property
    def knob(self) -> str:
        """The knobs' names."""
        return " + ".join(plan.knob for plan in self.plans)

    @property
    def exit_code(self) -> int:
        """0 when the change stands, 1 when it was put back."""
        return EXIT_OK if self.kept else EXIT_FINDING


class _Running:
    """One transaction under way: its plans, and the journal's name for it."""

    def __init__(self, plans: Sequence[tuple[Knob, Plan]], journal: Journal, hands: Hands, say: Say, policy: Policy):
        self.plans, self._journal, self._hands, self._say, self._policy = plans, journal, hands, say, policy
        self.txn = journal.begin(Part(plan.knob, plan.record, plan.root) for _, plan in plans)

    def write(self, step: str, **data: Any) -> None:
        self._journal.append(self.txn, step, **data)

    def _work(self, number: int, step: str, cancelled: Callable[[], bool]) -> Work:
        record = self.plans[number][1].record
        return Work(
            save=lambda: self.write("extended", part=number, record=record),
            say=lambda text: self._say(step, text),
            cancelled=cancelled,
        )

    def apply(self) -> None:
        for number, (knob, plan) in enumerate(self.plans):
            self._say("apply", plan.summary)
            self._hands.apply(knob, plan.record, plan.root, self._work(number, "apply", self._policy.cancelled))
        self.write("applied")
        for knob, plan in self.plans:
            _verify(knob, plan)
        self.write("verified")

    @property
    def settle_s(self) -> float:
        return max(plan.settle_s for _, plan in self.plans)

    @property
    def anew(self) -> bool:
        return any(plan.restart for _, plan in self.plans)

    @property
    def repeats(self) -> bool:
        return not self.anew and all(plan.repeats and not plan.keep for _, plan in self.plans)

    def take_back(self) -> None:
        """Restore for a moment: the transaction goes on, and the journal stays open."""
        self._restore("check")
        self.write("taken back")

    def put_back(self, why: str) -> None:
        """Restore, the last part first, and write that down. Refused when a value of qtop's still stands: the journal
        stays open for undo."""
        self._say("revert", "putting the old values back")
        self._restore("revert")
        self.write("reverted", why=why)

    def _restore(self, step: str) -> None:
        failed: QtopError | None = None
        for number in reversed(range(len(self.plans))):
            knob, plan = self.plans[number]
            try:
                self._hands.restore(knob, plan.record, plan.root, self._work(number, step, lambda: False))
            except QtopError as error:
                failed = failed or error
        if left := self.left():
            told = f": {failed.message}" if failed else ""
            raise Refused(f"{plural(left, 'value')} could not be put back{told}", "Run `qtop undo`.")

    def left(self) -> int:
        """Targets that hold qtop's value."""
        return sum(knob.read(plan.record).new for knob, plan in self.plans)

    def put_back_after(self, error: BaseException) -> None:
        """Put back because of ``error``, which stays what the user is told, unless old values could not be put back."""
        why = str(error) or type(error).__name__
        try:
            self.put_back(why)
        except QtopError as second:
            if self.left():
                raise Refused(f"{why}; and then: {second.message}", "Run `qtop undo`.") from error


def run(
    asks: Sequence[Ask],
    meter: Meter | None,
    say: Say,
    policy: Policy | None = None,
    journal: Journal | None = None,
    hands: Hands | None = None,
) -> Outcome:
    """Make one change of these parts. Without a meter the change is kept unmeasured.

    Errors: Refused when the change cannot be made, or while one that a killed qtop began still holds; whatever
    interrupts it is raised again after the old values are back.
    """
    journal, policy = journal or Journal(), policy or Policy()
    tell = _deaf(say)
    with journal.lock(), OneInterrupt() as signals, using(hands) as making:
        _finish_leftovers(journal, making)
        before = None
        if meter is not None:
            tell("measure", "measuring before")
            before = meter.before()
        plans = [(knob, replan()) for knob, replan in asks]
        if any(plan.root for _, plan in plans):
            making.ready()
        tell("journal", f"writing the old values to {journal.path}")
        running = _Running(plans, journal, making, tell, policy)
        try:
            running.apply()
            judgement, stands = None, True
            if meter is not None:
                judgement, stands = judged(meter, before, running, tell)
                running.write("measured", verdict=judgement.verdict, text=judgement.text, data=judgement.data)
            kept = judgement is None or _by_plans(plans, policy).decides(judgement)
            if kept:
                if not stands:
                    running.apply()
                running.write("kept")
                if not any(knob.read(plan.record).targets for knob, plan in plans):
                    running.write("gone")  # nothing of it can be put back: undo is not to find it
            else:
                signals.hold()
                running.put_back(judgement.verdict if judgement else "")
        except BaseException as error:
            signals.hold()
            running.put_back_after(error)
            raise
        told = judgement.text if judgement else "not measured"
        text = f"kept{': ' if judgement else ', '}{told}" if kept else f"put back: {told}"
        if kept:
            tell("keep", text)
        return Outcome(running.txn, kept, tuple(plan for _, plan in plans), judgement, text)


def _by_plans(plans: Sequence[tuple[Knob, Plan]], policy: Policy) -> Policy:
    """Less has to be shown where all parts are wanted for more than speed; the strictest of them counts."""
    wanted = {Keep(plan.keep) if plan.keep else Keep.IMPROVED for _, plan in plans}
    least = next(keep for keep in Keep if keep in wanted)
    return replace(policy, keep=least) if list(Keep).index(least) > list(Keep).index(policy.keep) else policy


def _deaf(say: Say) -> Say:
    """``say``, whose own failure stops nothing: a terminal that has gone must not keep old values from coming back."""

    def tell(step: str, text: str) -> None:
        with suppress(Exception):
            say(step, text)

    return tell


def _finish_leftovers(journal: Journal, hands: Hands) -> None:
    """Close what a killed qtop began and never got to change; Refused where it left half of its values behind.

    A change on top of half a change, or of half an undo, could no longer be undone in one step. A value that somebody
    else has set since is theirs, and in nobody's way.
    """
    for change in journal.in_force():
        state = standing(change)
        if state.elsewhere or state.drifted:
            continue
        if state.all_gone:
            journal.append(change.txn, "gone")
        elif state.new and (change.state == "open" or state.old):
            raise Refused(
                f"a change of {change.knob} from {age_text(change)} was left unfinished", "Run `qtop undo` first."
            )
        elif state.old and change.state == "open":
            for part in reversed(change.parts):
                hands.restore(KNOBS[part.knob], part.record, False, Work())
            journal.append(change.txn, "reverted", why="nothing of it was left")


def standing(change: Change) -> Reading:
    """What all targets of a change hold now; ``elsewhere`` where this qtop does not understand a record of it."""
    whole = Reading()
    for part in change.parts:
        one = read_part(part)
        if one is None:
            return Reading(elsewhere=f"another version of qtop made the change {change.txn}")
        whole.targets += one.targets
        whole.new += one.new
        whole.old += one.old
        whole.gone += one.gone
        whole.drifted += one.drifted
        whole.values += one.values
        whole.elsewhere = whole.elsewhere or one.elsewhere
    return whole


def read_part(part: Part) -> Reading | None:
    """What its targets hold now; None where this qtop does not understand the record."""
    knob = KNOBS.get(part.knob)
    try:
        return knob.read(part.record) if knob is not None else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _verify(knob: Knob, plan: Plan) -> None:
    """Read back: every target must hold the new value or be gone."""
    reading = knob.read(plan.record)
    if reading.targets and reading.all_gone:
        raise Refused("what was to be changed ended while the change was being made")
    if reading.drifted or reading.old:
        odd = str(reading.drifted[0]) if reading.drifted else f"{reading.old} kept their old value"
        raise Refused(f"the change did not take: {odd}")
