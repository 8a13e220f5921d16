"""What a change does step by step, put into the recording that is being made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtop.session import Session

if TYPE_CHECKING:
    from qtop.act.tuning import Step

NOTED = {"apply": "applied", "revert": "reverted"}
"""Steps of a transaction that a recording marks, and the kinds of their events."""


def note_tried(session: Session, step: Step) -> None:
    """What came of one of several that are tried."""
    if step.outcome is not None:
        told = {"knob": step.knob, "kept": step.kept, "told": f"{step.knob} {step.outcome.text}"}
        session.note("change", told)


def noting(session: Session, knob: str, say: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """``say``, which takes the steps of a transaction and what is told of them; each time it comes to one of NOTED the
    recording is told as well. A step may tell several things: the first is what it is about. An undo has its own
    event."""
    before = ""
    if knob == "undo":
        return say

    def heard(step: str, text: str) -> None:
        nonlocal before
        if step != before and step in NOTED:
            session.note(NOTED[step], {"knob": knob, "told": text})
        before = step
        say(step, text)

    return heard
