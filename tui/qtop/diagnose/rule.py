"""What a rule is: a question to one frame, with thresholds, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from qtop.model.frame import Frame


class Severity(StrEnum):
    """How much a finding matters; doctor exits 1 from WARNING up."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info, 2 for critical."""
        return list(Severity).index(self)


class State(StrEnum):
    """What qtop says of a rule now."""

    FIRING = "firing"
    CLEAR = "clear"
    CANNOT_TELL = "cannot_tell"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signal behind a finding: its value in its unit, the threshold it is held against, and where that comes
    from."""

    signal: str
    value: float | str | None
    unit: str
    threshold: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change that a finding offers: the knob to turn and what for. Which value, the knob proposes."""

    knob: str
    label: str


@dataclass(frozen=True, slots=True)
class Observed:
    """The rule's input was there. ``value`` is a share of time, 0–1, that the thresholds are held against."""

    value: float
    headline: str
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...] = ()
    reason: str = ""
    """Why it is below its threshold although something looks wrong, or what else to know."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The rule's input is absent: why, and how to get it."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule has no meaning for this server or host."""

    reason: str


Answer = Observed | CannotTell | NotApplicable


@dataclass(frozen=True, slots=True)
class Enter:
    """Fires at ``severity`` when value ≥ ``at`` for ``seconds`` out of the last ``of`` seconds."""

    severity: Severity
    at: float
    seconds: float
    of: float


@dataclass(frozen=True, slots=True)
class Clear:
    """Clears when value < ``below`` for ``seconds`` without a gap."""

    below: float
    seconds: float


class Rule(Protocol):
    """One rule, one module and one page. ``id`` is permanent."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def enter(self) -> tuple[Enter, ...]: ...
    @property
    def clear(self) -> Clear: ...
    def look(self, frame: Frame) -> Answer:
        """What this frame says; pure."""
        ...
