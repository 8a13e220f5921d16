"""A recording judged from sample to sample, a quarter of an hour to a part.

What is said of the whole is put together from the parts (``whole``), whoever judged them: a sum of sums, so that one
process and several come to the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from qtop.diagnose.checkpoint import Checkpoint, Start, resumed
from qtop.diagnose.engine import Finding, order
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Severity, State
from qtop.diagnose.verdict import leading
from qtop.model.frame import Frame
from qtop.sample import Sample

PART_S = 900.0
KEPT = 64
"""Firing moments kept of a rule in a part, evenly spread, to find a typical one among."""

Shown = Callable[[Sample, Frame, Finding | None], None]
"""Is shown every sample with its frame and the finding that leads the verdict at that moment."""


def part_begin(begin: float, number: int) -> float:
    """Unix time from which a sample belongs into the part of this number, or a later one: never summed up."""
    return begin + number * PART_S


class Turn(msgspec.Struct, frozen=True):
    """A rule took a state at a Unix time."""

    t: float
    rule: str
    state: State


@dataclass(slots=True)
class RuleSum:
    """One rule over a part."""

    weighted: float = 0.0
    """Seconds × value."""
    led: float = 0.0
    """Seconds × impact for which it led the verdict."""
    seconds_led: float = 0.0
    worst: Severity | None = None
    fired: list[Finding] = field(default_factory=list)
    stride: int = 1
    """Each of ``fired`` stands for so many moments."""
    seen: int = 0
    pushed: list[tuple[float, float | None]] = field(default_factory=list)
    """(Unix time, firing since), the latest of each time that it fired, and (Unix time, None) where that ended: what
    counts its episodes."""
    last: Finding | None = None
    known: Finding | None = None
    """The last one that could judge."""

    def fire(self, t: float, finding: Finding) -> None:
        """A moment at which it fires; every ``stride``-th is kept."""
        if self.worst is None or finding.severity.rank > self.worst.rank:
            self.worst = finding.severity
        if self.pushed and self.pushed[-1][1] == finding.since:
            self.pushed.pop()
        self.pushed.append((t, finding.since))
        if self.seen % self.stride == 0:
            self.fired.append(finding)
            if len(self.fired) > KEPT:
                self.fired, self.stride = self.fired[::2], self.stride * 2
        self.seen += 1


@dataclass(slots=True)
class Part:
    """The samples of a quarter of an hour."""

    begin: float
    end: float = 0.0
    """Unix times of its first and last sample."""
    samples: int = 0
    seconds: float = 0.0
    """For which its samples speak."""
    rules: list[RuleSum] = field(default_factory=lambda: [RuleSum() for _ in RULES])
    turns: list[Turn] = field(default_factory=list)

    def settle(self) -> None:
        """Put what was kept into words, so that it holds on to no frame."""
        for one in self.rules:
            for finding in (*one.fired, one.last, one.known):
                if finding is not None and finding.seen is not None:
                    _ = finding.seen.told


class Judging:
    """Feed it the samples in order. ``part`` is the one that is being filled; who wants it takes it when it is full."""

    def __init__(self, begin: float, start: Start | None = None) -> None:
        """``begin``: Unix time from which parts are counted, that of the recording's first sample. ``start``: where
        to go on; nothing counts before its checkpoint for findings."""
        self.deriver, self.diagnosis, self.held = resumed(start, kept=False)
        self.frame = Frame(0.0, 0.0)
        self.part: Part | None = None
        self._begin = self.part_end = begin
        self._states: list[State | None] = [None for _ in RULES]
        if start is not None and start.judging is not None:
            self._states = [one.state for one in start.judging.states]

    def run_up(self, sample: Sample) -> None:
        """A sample that fills the windows and is not judged."""
        self.frame = self.deriver.push(sample)

    def full(self, t: float) -> bool:
        """Whether a sample at Unix second ``t`` belongs into the next part."""
        return t >= self.part_end

    def next_part(self, t: float) -> None:
        """Begin the part that Unix second ``t`` lies in."""
        if self.part is not None:
            self.part.settle()
        number = int((t - self._begin) // PART_S)
        while t >= self.part_end:
            self.part_end = part_begin(self._begin, number := number + 1)
        self.part = Part(t)

    def checkpoint(self, t: float) -> Checkpoint:
        """As things stand before the sample at ``t``, the next."""
        return Checkpoint(t, self.deriver.carried(), self.diagnosis.state(), self.held)

    def push(self, sample: Sample, shown: Shown | None = None) -> None:
        """Judge a sample."""
        frame = self.frame = self.deriver.push(sample)
        t, dt, part = frame.t, frame.dt, self.part
        assert part is not None
        part.end = t
        part.samples += 1
        part.seconds += dt
        states = self._states
        firing: list[Finding] = []
        turned: list[Finding] = []
        for at, finding in enumerate(self.diagnosis.by_rule(frame)):
            total = part.rules[at]
            if finding is total.last:
                continue  # what cannot be told, or does not apply, is the same object as long as it lasts
            state = finding.state
            total.weighted += finding.value * dt
            total.last = finding
            if state is State.FIRING or state is State.CLEAR:
                total.known = finding
            if state is not states[at]:
                if states[at] is State.FIRING:
                    total.pushed.append((t, None))
                states[at] = state
                turned.append(finding)
            if state is State.FIRING:
                total.fire(t, finding)
                firing.append(finding)
        if turned:
            part.turns += [Turn(t, one.rule, one.state) for one in order(turned)]
        first = leading(firing, self.held)
        self.held = first.rule if first is not None else None
        if shown is not None:
            shown(sample, frame, first)
        if first is not None:
            total = part.rules[_PLACES[first.rule]]
            total.led += first.impact * dt
            total.seconds_led += dt


_PLACES = {rule.id: at for at, rule in enumerate(RULES)}
