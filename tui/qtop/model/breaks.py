"""Where time did not simply go on in a recording: nobody looked for a while, the clock was set, the server was another
one afterwards."""

from __future__ import annotations

from typing import Literal

import msgspec

from qtop.model.derive import identity_of, restarted
from qtop.sample import EngineSample, Sample

GAP_TICKS = 2.5
"""So many intervals without a sample are a hole in the recording."""

Why = Literal["gap", "clock", "restart"]


class Break(msgspec.Struct, frozen=True):
    """Between two samples, Unix seconds. Where the clock was set back ``end`` lies before ``begin``."""

    begin: float
    end: float
    why: Why


class Breaks:
    """Feed it samples in order. ``interval``: seconds between them, as the recording's header says."""

    def __init__(self, interval: float) -> None:
        self._longest = GAP_TICKS * interval
        self._t: float | None = None
        self._identity: tuple[object, ...] = ()
        self._known_at = 0.0
        self._engine: EngineSample | None = None

    def push(self, sample: Sample) -> Break | None:
        """The break before this sample, if there is one. A server that was gone for a while and came back as itself is
        none; one that was started anew is, from when it was last seen."""
        before, self._t = self._t, sample.t
        restart = self._restart(sample, before or sample.t)
        if before is None:
            return None
        passed = sample.t - before
        if passed < 0:
            return Break(before, sample.t, "clock")
        return Break(before, sample.t, "gap") if passed > self._longest else restart

    def _restart(self, sample: Sample, before: float) -> Break | None:
        found: Break | None = None
        identity = identity_of(sample.server)
        if identity:
            if self._identity not in ((), identity):
                found = Break(self._known_at, sample.t, "restart")
                self._engine = None  # the counters of another server say nothing
            self._identity, self._known_at = identity, sample.t
        engine = sample.engine
        if isinstance(engine, EngineSample) and (self._engine is None or engine.at != self._engine.at):
            if self._engine is not None and restarted(self._engine, engine):
                found = Break(before, sample.t, "restart")
            self._engine = engine
        return found
