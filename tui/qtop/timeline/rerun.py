"""Samples derived and diagnosed again, from anywhere in a recording, to the same findings as from its beginning."""

from __future__ import annotations

from typing import NamedTuple

from qtop.diagnose.checkpoint import Checkpoint, Start, resumed
from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.verdict import verdict
from qtop.model.frame import Frame
from qtop.sample import Sample


class Moment(NamedTuple):
    """A sample, derived and diagnosed."""

    frame: Frame
    findings: tuple[Finding, ...]
    """() while the frames are still filling their windows, before findings go on."""
    verdict: Verdict | None


class Rerun:
    """Feed it the samples from the start on, in order: ``deriver`` and ``diagnosis`` are then as after playing."""

    def __init__(self, start: Start | None = None, kept: bool = True) -> None:
        self.deriver, self.diagnosis, self._held = resumed(start, kept)
        self._from: float | None = None
        """Samples are diagnosed from this time on; None: all."""
        self._begin: float | None = None
        """And looked at at all from this one on."""
        if start is not None and start.frames is not None:
            self._begin = start.frames.t
        if start is not None and start.judging is not None:
            self._from = start.judging.t

    def push(self, sample: Sample) -> Moment | None:
        """The moment of this sample; None for one that lies before the start."""
        if self._begin is not None and sample.t < self._begin:
            return None
        self._begin = None  # from here on all count, also those after the clock was set back
        frame = self.deriver.push(sample)
        if self._from is not None and sample.t < self._from:
            return Moment(frame, (), None)
        self._from = None
        findings = self.diagnosis.push(frame)
        said = verdict(frame, findings, self._held)
        self._held = said.rule
        return Moment(frame, findings, said)

    def checkpoint(self, t: float) -> Checkpoint:
        """As things stand before the sample at ``t``, the next."""
        return Checkpoint(t, self.deriver.carried(), self.diagnosis.state(), self._held)
