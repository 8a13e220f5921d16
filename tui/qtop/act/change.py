"""What a knob is: something that can be read, proposed, applied, read back and put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from qtop.model.frame import Frame

Save = Callable[[], None]
"""Writes the record to the journal once more; when it returns, the targets added to the record are on disk."""


@dataclass(frozen=True)
class Plan:
    """A change that could be made now: what it would do, in words, and the record that the journal keeps."""

    knob: str
    value: str
    """The value asked for or proposed, as a user would write it."""
    summary: str
    preview: tuple[str, ...]
    """One line each: what changes from what to what, for how many."""
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drift:
    """A value that is neither the old one nor the one qtop wrote: somebody else changed it."""

    what: str
    old: str
    written: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: before qtop {self.old}, qtop wrote {self.written}, now {self.now}"


@dataclass
class Reading:
    """What a record's targets read now."""

    targets: int = 0
    new: int = 0
    """Targets that hold the value qtop wrote."""
    old: int = 0
    """Targets that hold the value from before."""
    gone: int = 0
    """Targets that no longer exist."""
    drifted: list[Drift] = field(default_factory=list)
    elsewhere: str = ""
    """Why the targets cannot be seen from here although they may exist, one clause; else ""."""

    @property
    def all_gone(self) -> bool:
        """Nothing is left to restore."""
        return self.targets == self.gone and not self.elsewhere


class Knob(Protocol):
    """One setting of the server or the host. Everything in a record is JSON."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def needs(self) -> str:
        """The right it takes, in words."""
        ...

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """What a change to ``value`` (None: what qtop proposes) would do; Refused when it cannot or need not be
        done."""
        ...

    def apply(self, record: dict[str, Any], save: Save) -> None:
        """Make the change; OSError or Refused when it fails part-way (the transaction then restores).

        A target found only now is added to the record, and ``save`` called, before it is touched.
        """
        ...

    def read(self, record: dict[str, Any]) -> Reading:
        """What the targets hold now."""
        ...

    def restore(self, record: dict[str, Any]) -> None:
        """Put each target that holds qtop's value back to its old one; Refused, after all others, if one cannot be."""
        ...
