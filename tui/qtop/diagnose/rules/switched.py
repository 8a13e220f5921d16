"""Rules about something that is on by default and was turned off: a fact, and a fault where its cost is seen."""

from __future__ import annotations

from typing import ClassVar

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Memo, settings_of, unreadable
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import Setting

SET, COSTS = 1.0, 2.0


class TurnedOff(Rule):
    """2: it is off and its cost is seen; 1: it is off."""

    enter = (
        Enter(Severity.INFO, at=SET, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=COSTS, seconds=8.0, of=10.0),
    )
    clear = Clear(below=SET / 2, seconds=2.0)
    least: ClassVar[float]
    """A cost below this is not laid at its door."""
    on: ClassVar[str]
    """What to say where it is as it should be."""

    def __init__(self) -> None:
        self._found: Memo[SettingsView, Setting | None] = Memo(self.find)

    def find(self, view: SettingsView) -> Setting | None:
        """The setting that turned it off, if one did."""
        raise NotImplementedError

    def beside(self, frame: Frame) -> CannotTell | NotApplicable | None:
        """Why the rule cannot be judged although the settings are known; None where it can."""
        return None

    def cost(self, frame: Frame) -> float:
        """Share of the time, 0–1, that it is seen to cost."""
        raise NotImplementedError

    def impact(self, frame: Frame, cost: float) -> float:
        """Share of a request's time that the cost is."""
        return cost

    def told(self, one: Setting, cost: float, shown: bool) -> Told:
        """In words; ``shown``: the cost is not below ``least``."""
        raise NotImplementedError

    def look(self, frame: Frame) -> Answer:
        """Whether it is off, and what is seen meanwhile."""
        view = settings_of(frame)
        if not isinstance(view, SettingsView):
            return view
        if (why := self.beside(frame)) is not None:
            return why
        one = self._found(view)
        if one is None:
            return unreadable(frame, view) or Observed(0.0, lambda: Told(self.on, ()), figure="")
        cost = self.cost(frame)
        shown = cost >= self.least
        impact = self.impact(frame, cost) if shown else 0.0
        return Observed(COSTS if shown else SET, lambda: self.told(one, cost, shown), impact=impact, figure="")
