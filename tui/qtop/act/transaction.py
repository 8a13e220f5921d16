"""A change as a transaction: measure, journal, apply, read back, measure again, keep or put back.

kill -9 at any point leaves a journal that ``undo`` can finish: the old values are on disk before the first is changed.
Any error, Ctrl-C or SIGTERM between the first change and the decision puts the old values back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from qtop.act.change import Knob, Plan, Reading
from qtop.act.journal import Change, Journal
from qtop.act.knobs import KNOBS
from qtop.act.signals import OneInterrupt
from qtop.clock import wall
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError, Refused

Say = Callable[[str, str], None]
"""(step, text): progress for a person. Steps: measure, journal, apply, verify, settle, keep, revert."""


@dataclass(frozen=True)
class Judgement:
    """What two measurements say: "better", "worse", "within noise" or "cannot tell", in one line and as JSON."""

    verdict: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


class Meter(Protocol):
    """Measures the server before and after; what it measures is its own affair."""

    def before(self) -> Any:
        """Measure now."""
        ...

    def after(self) -> Any:
        """Let the change settle, then measure."""
        ...

    def judge(self, before: Any, after: Any) -> Judgement:
        """Compare."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a transaction ended."""

    txn: str
    knob: str
    kept: bool
    plan: Plan
    judgement: Judgement | None
    text: str

    @property
    def exit_code(self) -> int:
        """0 when the change stands, 1 when it was put back."""
        return EXIT_OK if self.kept else EXIT_FINDING


def run(
    knob: Knob,
    replan: Callable[[], Plan],
    meter: Meter | None,
    say: Say,
    keep_anyway: bool = False,
    journal: Journal | None = None,
) -> Outcome:
    """Make one change; ``replan`` plans from values read just then. Without a meter the change is kept unmeasured.

    Errors: Refused when the change cannot be made, or while one that a killed qtop began still holds; whatever
    interrupts it is raised again after the old values are back.
    """
    journal = journal or Journal()
    tell = _deaf(say)
    with journal.lock(), OneInterrupt() as signals:
        _finish_leftovers(journal)
        before = None
        if meter is not None:
            tell("measure", "measuring before")
            before = meter.before()
        plan = replan()
        tell("journal", f"writing the old values to {journal.path}")
        txn = journal.begin(knob.id, plan.record)
        try:
            tell("apply", plan.summary)
            knob.apply(plan.record, lambda: journal.append(txn, "extended", record=plan.record))
            journal.append(txn, "applied")
            _verify(knob, plan)
            journal.append(txn, "verified")
            judgement = None
            if meter is not None:
                tell("measure", "measuring after")
                judgement = meter.judge(before, meter.after())
                journal.append(txn, "measured", verdict=judgement.verdict, text=judgement.text, data=judgement.data)
            kept = judgement is None or judgement.verdict == "better" or keep_anyway
            if kept:
                journal.append(txn, "kept")
            else:
                signals.hold()
                tell("revert", "putting the old values back")
                _put_back(knob, plan, journal, txn, judgement.verdict if judgement else "")
        except BaseException as error:
            signals.hold()
            tell("revert", "putting the old values back")
            _put_back_after(error, knob, plan, journal, txn)
            raise
        told = judgement.text if judgement else "not measured"
        text = f"kept{': ' if judgement else ', '}{told}" if kept else f"put back: {told}"
        if kept:
            tell("keep", text)
        return Outcome(txn, knob.id, kept, plan, judgement, text)


def _deaf(say: Say) -> Say:
    """``say``, whose own failure stops nothing: a terminal that has gone must not keep old values from coming back."""

    def tell(step: str, text: str) -> None:
        with suppress(Exception):
            say(step, text)

    return tell


def _finish_leftovers(journal: Journal) -> None:
    """Close what a killed qtop began and never got to change; Refused where it left half of its values behind.

    A change on top of half a change, or of half an undo, could no longer be undone in one step. A value that somebody
    else has set since is theirs, and in nobody's way.
    """
    for change in journal.in_force():
        knob, reading = _read(change)
        if knob is None or reading.drifted:
            continue
        if reading.all_gone:
            journal.append(change.txn, "gone")
        elif reading.new and (change.state == "open" or reading.old):
            raise Refused(
                f"a change of {change.knob} from {age_text(change)} was left unfinished", "Run `qtop undo` first."
            )
        elif reading.old and change.state == "open":
            knob.restore(change.record)
            journal.append(change.txn, "reverted", why="nothing of it was left")


def _read(change: Change) -> tuple[Knob | None, Reading]:
    """What a change's targets hold now; None for its knob, and why, where this qtop does not understand the record."""
    knob = KNOBS.get(change.knob)
    if knob is not None:
        try:
            return knob, knob.read(change.record)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
    return None, Reading(elsewhere=f"another version of qtop made the change {change.txn}")


def _put_back(knob: Knob, plan: Plan, journal: Journal, txn: str, why: str) -> None:
    """Restore and write that down. Refused when a value of qtop's still stands: the journal stays open for undo."""
    knob.restore(plan.record)
    left = knob.read(plan.record).new
    if left:
        raise Refused(f"{left} values could not be put back", "Run `qtop undo`.")
    journal.append(txn, "reverted", why=why)


def _put_back_after(error: BaseException, knob: Knob, plan: Plan, journal: Journal, txn: str) -> None:
    """Put back because of ``error``, which stays what the user is told, unless old values could not be put back."""
    try:
        _put_back(knob, plan, journal, txn, str(error) or type(error).__name__)
    except QtopError as second:
        if knob.read(plan.record).new:
            raise Refused(
                f"{str(error) or type(error).__name__}; and then: {second.message}", "Run `qtop undo`."
            ) from error


def _verify(knob: Knob, plan: Plan) -> None:
    """Read back: every target must hold the new value or be gone."""
    reading = knob.read(plan.record)
    if reading.all_gone:
        raise Refused("the server ended while the change was being made")
    if reading.drifted or reading.old:
        odd = str(reading.drifted[0]) if reading.drifted else f"{reading.old} threads kept their old value"
        raise Refused(f"the change did not take: {odd}")


@dataclass(frozen=True)
class Undone:
    """What undo did with one change."""

    txn: str
    knob: str
    restored: int
    gone: int
    text: str


def undo(journal: Journal | None = None, txn: str | None = None) -> Undone:
    """Put the latest change back (or the one named): finishes what a killed qtop began.

    A value that is neither the old nor qtop's was changed by somebody else: all three are shown and nothing is touched.
    Changes whose process has ended are closed on the way. Errors: Refused on such a value, or when there is nothing.
    """
    journal = journal or Journal()
    with journal.lock(), OneInterrupt() as signals:
        ended = 0
        elsewhere = ""
        in_force = journal.in_force()
        for position, change in enumerate(in_force):
            if txn is not None and change.txn != txn:
                continue
            knob, reading = _read(change)
            if reading.elsewhere or knob is None:
                elsewhere = elsewhere or reading.elsewhere
                continue
            if reading.all_gone:
                journal.append(change.txn, "gone")
                ended += 1
                continue
            if reading.drifted:
                shown = "; ".join(str(drift) for drift in reading.drifted[:3])
                more = f"; and {len(reading.drifted) - 3} more" if len(reading.drifted) > 3 else ""
                raise Refused(
                    f"somebody else changed this since: {shown}{more}",
                    f"Nothing was touched. `qtop journal` shows {change.txn}.",
                )
            signals.hold()
            knob.restore(change.record)
            after = knob.read(change.record)
            if after.new:
                raise Refused(f"{after.new} values could not be put back", "Run `qtop undo` again.")
            journal.append(change.txn, "undone")
            restored = reading.new
            text = f"undone: {change.knob}, {restored} value{'s' if restored != 1 else ''} put back"
            if reading.gone:
                text += f", {reading.gone} no longer exist"
            if after.drifted:
                text += f"; not all as they were: {after.drifted[0]}"
            earlier = sum(1 for other in in_force[position + 1 :] if _read(other)[1].new)
            if earlier:
                text += f"; {earlier} earlier still in force (`qtop undo` again)"
            return Undone(change.txn, change.knob, restored, reading.gone, text)
    if elsewhere:
        raise Refused(elsewhere, "Nothing was touched: it takes a `qtop undo` there.")
    if txn is not None:
        raise QtopError(f"no change {txn} is in force", "`qtop journal` lists them.")
    if ended:
        return Undone("", "", 0, ended, "nothing to put back: the changed processes have ended")
    return Undone("", "", 0, 0, "nothing to undo")


def age_text(change: Change) -> str:
    """How long ago, in words."""
    seconds = max(0.0, wall() - change.t)
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"
