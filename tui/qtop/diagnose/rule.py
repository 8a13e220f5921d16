"""What a rule is: a question to one frame, with thresholds, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

import msgspec

from qtop.model.frame import Frame


class Severity(StrEnum):
    """How much a finding matters; doctor exits 1 from WARNING up. Only those lead the verdict."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info, 2 for critical."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class State(StrEnum):
    """What qtop says of a rule now."""

    FIRING = "firing"
    CLEAR = "clear"
    CANNOT_TELL = "cannot_tell"
    NOT_APPLICABLE = "not_applicable"


class Evidence(msgspec.Struct, frozen=True):
    """One signal behind a finding: its value in its unit, the threshold it is held against, and where that comes
    from. A unit that begins with "of " is a share, 0–1, and shown in percent."""

    signal: str
    value: float | str | None
    unit: str
    threshold: float | None = None
    source: str = ""


class Remedy(msgspec.Struct, frozen=True):
    """A change that a finding offers: the knob to turn and what for. Which value, the knob proposes."""

    knob: str
    label: str


class Told(msgspec.Struct, frozen=True):
    """A finding in words: made only for those who read it."""

    headline: str
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...] = ()
    reason: str = ""
    """Why it is below its threshold although something looks wrong, or what else to know."""


class Observed:
    """The rule's input was there.

    ``value`` is what the thresholds are held against, larger being worse: a share 0–1 where nothing else is said.
    ``impact`` is the share of a request's time, 0–1, that it explains now: the verdict takes the largest; 0 for what
    slows nothing by itself. ``figure`` is how the value reads, None for a share of time, "" for a plain fact.
    ``tell`` puts it into words; called at most once, when somebody reads it.
    """

    __slots__ = ("_tell", "_told", "figure", "impact", "value")

    def __init__(self, value: float, tell: Callable[[], Told], impact: float = 0.0, figure: str | None = None) -> None:
        self.value, self.figure = value, figure
        self.impact = impact if 0.0 < impact < 1.0 else float(impact >= 1.0)
        self._tell: Callable[[], Told] | None = tell
        self._told: Told | None = None

    @property
    def told(self) -> Told:
        """The words, made when first asked for."""
        if self._told is None:
            assert self._tell is not None
            self._told, self._tell = self._tell(), None
        return self._told

    def __reduce__(self) -> tuple[Callable[..., Observed], tuple[object, ...]]:
        """For another process: in words, since what puts it into words stays in this one."""
        return _of_words, (self.value, self.told, self.impact, self.figure)


def _of_words(value: float, told: Told, impact: float, figure: str | None) -> Observed:
    return Observed(value, lambda: told, impact, figure)


class CannotTell(msgspec.Struct, frozen=True):
    """The rule's input is absent: why, and how to get it."""

    reason: str


class NotApplicable(msgspec.Struct, frozen=True):
    """The rule has no meaning for this server or host."""

    reason: str


Answer = Observed | CannotTell | NotApplicable


class Enter(msgspec.Struct, frozen=True):
    """Fires at ``severity`` when value ≥ ``at`` for ``seconds`` out of the last ``of`` seconds."""

    severity: Severity
    at: float
    seconds: float
    of: float


class Clear(msgspec.Struct, frozen=True):
    """Clears when value < ``below`` for ``seconds`` without a gap."""

    below: float
    seconds: float
    ease: float | None = None
    """For a rule whose lesser severity may stand for good: below this for ``seconds`` the greater one is let go of."""


class Rule:
    """One rule, one module with its only instance as ``RULE``, and one page. ``id`` is permanent.

    Plain classes, not dataclasses: there are many, and every start of qtop makes them all.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    """A few words, in the plain case."""
    enter: ClassVar[tuple[Enter, ...]]
    clear: ClassVar[Clear]
    explains: ClassVar[tuple[str, ...]] = ()
    """Rules whose findings are consequences of this one's: where both fire, the verdict is this one."""
    limit: ClassVar[bool] = False
    """What it finds is no fault but what bounds the server when all is well: said in a verdict without findings."""

    def look(self, frame: Frame) -> Answer:
        """What this frame says; pure, and cheap: words belong into ``Observed.tell``."""
        raise NotImplementedError
