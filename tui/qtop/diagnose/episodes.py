"""A finding that comes and goes, counted: how often, when last, how long in all."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True):
    """What has been seen of one rule since qtop looks. Times are Unix seconds."""

    times: int = 0
    """How often it fired, now included."""
    seconds: float = 0.0
    """For how long in all."""
    first: float | None = None
    last_begin: float | None = None
    last_end: float | None = None
    """None while it fires, or if it never did."""


NEVER = Record()


class Episodes:
    """Counts; needs the same memory however often it comes and goes."""

    def __init__(self) -> None:
        self.record = NEVER
        self._begin: float | None = None
        self._before = 0.0

    def state(self) -> tuple[Record, float | None, float]:
        """All that it knows."""
        return self.record, self._begin, self._before

    def resume(self, state: tuple[Record, float | None, float]) -> None:
        """Know what another one knew."""
        self.record, self._begin, self._before = state

    def push(self, t: float, since: float | None) -> None:
        """A tick at ``t``: firing since ``since``, None where it is not."""
        old = self.record
        if since is None:
            if self._begin is not None:
                self._begin = None
                self.record = Record(old.times, old.seconds, old.first, old.last_begin, t)
            return
        if self._begin is None:
            self._begin, self._before = since, old.seconds
            old = Record(old.times + 1, old.seconds, since if old.first is None else old.first, since)
        self.record = Record(old.times, self._before + max(0.0, t - self._begin), old.first, self._begin)
