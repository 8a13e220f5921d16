"""What was shown moment by moment, kept for stepping back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtop.diagnose.engine import Finding, Verdict
from qtop.model.frame import Frame

if TYPE_CHECKING:
    from qtop.timeline.rerun import Moment

KEEP = 900
"""Snapshots kept for stepping back: fifteen minutes at 1 Hz."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a screen shows of one moment. Immutable; made on the source's thread."""

    seq: int
    frame: Frame
    findings: tuple[Finding, ...]
    verdict: Verdict
    jump: int = 0
    """How often a replay has gone to another time before this one."""


class Snapshots:
    """The latest ``KEEP``, in order. Only the source's thread changes them; others may read at any time."""

    def __init__(self) -> None:
        self._all: list[Snapshot] = []

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def first(self) -> Snapshot | None:
        """The oldest."""
        return self._all[0] if self._all else None

    def add(self, snapshot: Snapshot) -> None:
        """One more; those that are not earlier go: the clock was set back."""
        kept = self._all
        while kept and kept[-1].frame.t >= snapshot.frame.t:
            kept.pop()
        kept.append(snapshot)
        if len(kept) > KEEP * 1.1:
            self._all = kept[-KEEP:]

    def begin(self, moments: Sequence[Moment], last: int, jump: int) -> Snapshot | None:
        """These and nothing else, the last of them with number ``last``; gives that one."""
        self._all = _numbered(moments, last, jump)
        return self._all[-1] if self._all else None

    def prepend(self, moments: Sequence[Moment]) -> None:
        """These before all that is kept."""
        if self._all:
            first = self._all[0]
            self._all = [*_numbered(moments, first.seq - 1, first.jump), *self._all]

    def back(self, steps: int) -> Snapshot | None:
        """The one ``steps`` before the latest (the oldest kept, if there are fewer)."""
        kept = self._all
        return kept[max(0, len(kept) - 1 - steps)] if kept else None

    def index_of(self, snapshot: Snapshot) -> int:
        """How many steps before the latest this one lies."""
        kept = self._all
        return next((steps for steps, one in enumerate(reversed(kept)) if one.seq <= snapshot.seq), len(kept) - 1)


def _numbered(moments: Sequence[Moment], last: int, jump: int) -> list[Snapshot]:
    """At most ``KEEP`` of those that were diagnosed, the last of them with number ``last``."""
    told = [(one.frame, one.findings, one.verdict) for one in moments if one.verdict is not None][-KEEP:]
    return [
        Snapshot(number, frame, findings, said, jump)
        for number, (frame, findings, said) in enumerate(told, last + 1 - len(told))
        if said is not None
    ]
