"""What a claim of the guide is, and what a check may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from qtop.diagnose.engine import Finding
from qtop.guide.seen import Seen, State, Stop
from qtop.model.frame import Frame


class Known(StrEnum):
    """How it is known what is true instead."""

    SOURCE = "source code read"
    TESTED = "tested on a running vLLM"
    MEASURED = "measured"
    DOCUMENTED = "documented"
    COMPUTED = "computed"
    UNSOURCED = "field knowledge, no source"


@dataclass(frozen=True, slots=True)
class Checked:
    """What this machine says of a claim.

    ``measured`` is the value here, in words and with its unit. ``action`` takes the place of the claim's own, where it
    depends on what was seen ("": nothing to do here).
    """

    state: State
    measured: str
    note: str = ""
    worked: tuple[str, ...] = ()
    """The arithmetic, a line each."""
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, in our words."""

    id: str
    section: str
    """Of the guide: its number, and what it is about."""
    title: str
    """At most 30 characters."""
    says: str
    truth: str
    known: tuple[Known, ...]
    look: Callable[[Seen], Checked]
    action: str = ""
    rules: tuple[str, ...] = ()
    """Rules that watch the same thing all the time."""

    def check(self, frame: Frame, findings: tuple[Finding, ...] = ()) -> Checked:
        """What this frame says of it."""
        return self.check_seen(Seen(frame, findings))

    def check_seen(self, seen: Seen) -> Checked:
        """The same, where several claims look at one frame."""
        try:
            return self.look(seen)
        except Stop as stop:
            return Checked(stop.state, stop.measured, stop.why)

    def action_for(self, checked: Checked) -> str:
        """What to do, "" if nothing."""
        return self.action if checked.action is None else checked.action


def holds(measured: str, note: str = "", worked: tuple[str, ...] = (), action: str | None = None) -> Checked:
    """It is so on this machine."""
    return Checked(State.HOLDS, measured, note, worked, action)


def wrong(measured: str, note: str = "", worked: tuple[str, ...] = (), action: str | None = None) -> Checked:
    """It is not so on this machine."""
    return Checked(State.DOES_NOT_HOLD, measured, note, worked, action)


def untold(measured: str, note: str = "", worked: tuple[str, ...] = (), action: str | None = None) -> Checked:
    """Nothing here shows it; ``measured`` is what was seen all the same."""
    return Checked(State.CANNOT_TELL, measured, note, worked, action)


def elsewhere(measured: str, note: str = "", worked: tuple[str, ...] = (), action: str | None = None) -> Checked:
    """It is about something that this machine is not."""
    return Checked(State.NOT_APPLICABLE, measured, note, worked, action)
