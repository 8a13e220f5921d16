"""A whole stretch of time diagnosed at once: what ever fired, when, and how much of the time it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from qtop.diagnose.engine import Diagnosis, Finding, Verdict, order
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Severity, State
from qtop.diagnose.verdict import leading, verdict
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Sample

KEPT = 64
"""Firing moments kept of a rule, evenly spread, to find a typical one among: a day may have a hundred thousand."""


class Turn(msgspec.Struct, frozen=True):
    """A rule took a state at a Unix time."""

    t: float
    rule: str
    state: State


@dataclass
class _Sum:
    weighted: float = 0.0
    led: float = 0.0
    """Seconds × impact for which it led the verdict."""
    seconds_led: float = 0.0
    fired: list[Finding] = field(default_factory=list)
    seen: int = 0
    stride: int = 1
    first: float | None = None
    worst: Severity | None = None
    last: Finding | None = None
    state: State | None = None
    known: Finding | None = None

    def fire(self, finding: Finding) -> None:
        """A moment at which it fires; every ``stride``-th is kept."""
        self.first = finding.since if self.first is None else self.first
        if self.worst is None or finding.severity.rank > self.worst.rank:
            self.worst = finding.severity
        if self.seen % self.stride == 0:
            self.fired.append(finding)
            assert finding.seen is not None
            _ = finding.seen.told  # put into words now, so that it holds on to no frame
            if len(self.fired) > KEPT:
                self.fired, self.stride = self.fired[::2], self.stride * 2
        self.seen += 1


@dataclass(frozen=True)
class Whole:
    """The diagnosis of a recording."""

    begin: float
    end: float
    samples: int
    frame: Frame
    """The last one."""
    findings: tuple[Finding, ...]
    verdict: Verdict
    timeline: tuple[Turn, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self.end - self.begin


Shown = Callable[[Sample, Frame, Finding | None], None]
"""Is shown every sample with its frame and the finding that leads the verdict at that moment."""


def diagnose_all(samples: Iterable[Sample], shown: Shown | None = None) -> Whole | None:
    """Run all rules over the samples; None when there are none. ``shown`` is called once for each.

    A rule is firing if it ever fired; its evidence is that of a typical moment and its value the mean over all time.
    The verdict is of what explained most of the requests' time in all: a cause leads at the moments at which it fires,
    whatever else does.
    """
    deriver, diagnosis = Deriver(kept=False), Diagnosis(RULES)
    every = [_Sum() for _ in RULES]
    sums = {rule.id: total for rule, total in zip(RULES, every, strict=True)}
    turns: list[Turn] = []
    begin: float | None = None
    held: str | None = None
    count, span = 0, 0.0
    frame = Frame(0.0, 0.0)
    for sample in samples:
        frame = deriver.push(sample)
        begin = frame.t if begin is None else begin
        count += 1
        span += frame.dt
        firing: list[Finding] = []
        turned: list[Finding] = []
        for total, finding in zip(every, diagnosis.by_rule(frame), strict=True):
            if finding is total.last:
                continue  # what cannot be told, or does not apply, is the same object as long as it lasts
            state = finding.state
            total.weighted += finding.value * frame.dt
            total.last = finding
            if state is State.FIRING or state is State.CLEAR:
                total.known = finding
            if state is State.FIRING:
                total.fire(finding)
                firing.append(finding)
            if state is not total.state:
                total.state = state
                turned.append(finding)
        turns += [Turn(frame.t, one.rule, one.state) for one in order(turned)]
        first = leading(firing, held)
        held = first.rule if first is not None else None
        if shown is not None:
            shown(sample, frame, first)
        if first is not None:
            sums[first.rule].led += first.impact * frame.dt
            sums[first.rule].seconds_led += frame.dt
    if begin is None:
        return None
    findings = order(_settle(total, span) for total in sums.values() if total.last is not None)
    said = verdict(frame, findings)
    leaders = {rule: total for rule, total in sums.items() if total.seconds_led > 0}
    if leaders:
        rule = max(leaders, key=lambda one: (leaders[one].led, leaders[one].seconds_led))
        chosen = next(one for one in findings if one.rule == rule)
        said = Verdict(rule, chosen.headline, chosen.severity)
    return Whole(begin, frame.t, count, frame, findings, said, tuple(turns))


def _settle(total: _Sum, span: float) -> Finding:
    """What to say of one rule for the whole time."""
    assert total.last is not None
    share = total.weighted / span if span > 0 else 0.0
    if total.fired:
        # The evidence of a typical moment, not of the worst: it stands for the whole time.
        middle = sorted(total.fired, key=lambda finding: finding.value)[len(total.fired) // 2]
        return replace(
            middle,
            value=share,
            since=total.first,
            severity=total.worst or middle.severity,
            record=total.last.record,
        )
    # A rule that could judge at some time and never fired is clear, even if its input was gone at the end.
    return replace(total.known or total.last, value=share)
