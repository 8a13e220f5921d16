"""When findings began and ended, while a recording is being diagnosed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from qtop.diagnose.engine import Finding
from qtop.diagnose.parts import Turn
from qtop.diagnose.rule import Severity, State


class Stretch(msgspec.Struct):
    """A finding fires from ``begin`` to ``end``, Unix seconds, at one severity. One that fires still grows."""

    rule: str
    severity: Severity
    begin: float
    end: float


class Stretches:
    """Feed it the findings of each moment in order. Both lists only grow; another thread may read them meanwhile."""

    def __init__(self) -> None:
        self.all: list[Stretch] = []
        """In the order in which they began."""
        self.turns: list[Turn] = []
        """Firing begun, and ended, with the state that came after it."""
        self._open: dict[str, Stretch] = {}

    def push(self, t: float, findings: Iterable[Finding]) -> None:
        """The findings at ``t``."""
        standing = self._open
        firing: dict[str, Severity] = {}
        for one in findings:
            if one.state is State.FIRING:
                firing[one.rule] = one.severity
            elif one.rule in standing:
                del standing[one.rule]
                self.turns.append(Turn(t, one.rule, one.state))
        for rule, severity in firing.items():
            held = standing.get(rule)
            if held is None:
                self.turns.append(Turn(t, rule, State.FIRING))
            elif held.begin <= t:  # else the clock was set back
                held.end = t
                if held.severity is severity:
                    continue
            standing[rule] = Stretch(rule, severity, t, t)
            self.all.append(standing[rule])
