"""Putting a change back, also one that a killed qtop began."""

from __future__ import annotations

from dataclasses import dataclass

from qtop.act.change import Reading, Work
from qtop.act.hands import Hands, using
from qtop.act.journal import Change, Journal
from qtop.act.knobs import KNOBS
from qtop.act.signals import OneInterrupt
from qtop.act.transaction import Say, standing
from qtop.errors import QtopError, Refused
from qtop.units import plural


@dataclass(frozen=True)
class Undone:
    """What undo did with one change."""

    txn: str
    knob: str
    restored: int
    gone: int
    text: str


def undo(
    journal: Journal | None = None, txn: str | None = None, hands: Hands | None = None, say: Say | None = None
) -> Undone:
    """Put the latest change back (or the one named): finishes what a killed qtop began.

    A value that is neither the old nor qtop's was changed by somebody else: all three are shown and nothing is touched.
    Changes whose process has ended are closed on the way. Errors: Refused on such a value, or where root is wanted and
    not to be had.
    """
    journal = journal or Journal()
    with journal.lock(), OneInterrupt() as signals, using(hands) as making:
        ended = 0
        elsewhere = ""
        in_force = journal.in_force()
        for position, change in enumerate(in_force):
            if txn is not None and change.txn != txn:
                continue
            reading = standing(change)
            if reading.elsewhere:
                elsewhere = elsewhere or reading.elsewhere
                continue
            if reading.all_gone:
                journal.append(change.txn, "gone")
                ended += 1
                continue
            _refuse_others(change, reading)
            if reading.new and any(part.root for part in change.parts):
                making.ready()
            signals.hold()
            return _put_back(change, reading, journal, making, in_force[position + 1 :], say)
    if elsewhere:
        raise Refused(elsewhere, "Nothing was touched: it takes a `qtop undo` there.")
    if txn is not None and not ended:
        raise QtopError(f"no change {txn} is in force", "`qtop journal` lists them.")
    if ended:
        return Undone("", "", 0, ended, "nothing to put back: what was changed is gone")
    return Undone("", "", 0, 0, "nothing to undo")


def undo_all(journal: Journal | None = None, hands: Hands | None = None, say: Say | None = None) -> list[Undone]:
    """Put every change back, the latest first; what cannot be is told at the end, after all others.

    Errors: Refused with what could not be put back.
    """
    journal = journal or Journal()
    done: list[Undone] = []
    failed: list[str] = []
    with using(hands) as making:
        for change in journal.in_force():
            try:
                one = undo(journal, change.txn, making, say)
            except QtopError as error:
                failed.append(f"{change.knob}: {error.message}")
                continue
            done.append(one)
    if failed:
        what = f"{len(done)} put back, {len(failed)} not: {'; '.join(failed[:3])}"
        raise Refused(what, "`qtop journal` shows them.")
    return done


def _refuse_others(change: Change, reading: Reading) -> None:
    if reading.drifted:
        shown = "; ".join(str(drift) for drift in reading.drifted[:3])
        more = f"; and {len(reading.drifted) - 3} more" if len(reading.drifted) > 3 else ""
        raise Refused(
            f"somebody else changed this since: {shown}{more}",
            f"Nothing was touched. `qtop journal` shows {change.txn}.",
        )


def _put_back(
    change: Change, reading: Reading, journal: Journal, hands: Hands, earlier: list[Change], say: Say | None
) -> Undone:
    """Restore each part, the last first."""
    for number in reversed(range(len(change.parts))):
        part = change.parts[number]

        def save(number: int = number) -> None:
            journal.append(change.txn, "extended", part=number, record=change.parts[number].record)

        work = Work(save, lambda text: say("revert", text) if say is not None else None)
        hands.restore(KNOBS[part.knob], part.record, part.root and reading.new > 0, work)
    after = standing(change)
    if after.new:
        raise Refused(f"{after.new} values could not be put back", "Run `qtop undo` again.")
    journal.append(change.txn, "undone")
    restored = reading.new
    text = f"undone: {change.knob}, {plural(restored, 'value')} put back"
    if reading.gone:
        text += f", {reading.gone} no longer exist"
    if after.drifted:
        text += f"; not all as they were: {after.drifted[0]}"
    left = sum(1 for other in earlier if standing(other).new)
    if left:
        text += f"; {left} earlier still in force (`qtop undo` again)"
    return Undone(change.txn, change.knob, restored, reading.gone, text)
