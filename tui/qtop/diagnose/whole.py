"""A whole stretch of time diagnosed at once: what ever fired, when, and how much of the time it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from qtop.diagnose.engine import Diagnosis, Finding, Verdict, order
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import State
from qtop.diagnose.verdict import verdict
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Sample


@dataclass(frozen=True, slots=True)
class Turn:
    """A rule took a state at a Unix time."""

    t: float
    rule: str
    state: State


@dataclass
class _Sum:
    weighted: float = 0.0
    fired: list[Finding] = field(default_factory=list)
    first: float | None = None
    last: Finding | None = None
    state: State | None = None
    known: Finding | None = None


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


def diagnose_all(samples: Iterable[Sample]) -> Whole | None:
    """Run all rules over the samples; None when there are none.

    A rule is firing if it ever fired; its evidence is that of a typical moment and its value the share over all time.
    """
    deriver, diagnosis = Deriver(), Diagnosis(RULES)
    sums: dict[str, _Sum] = {rule.id: _Sum() for rule in RULES}
    turns: list[Turn] = []
    begin: float | None = None
    count, span = 0, 0.0
    frame = Frame(0.0, 0.0)
    for sample in samples:
        frame = deriver.push(sample)
        begin = frame.t if begin is None else begin
        count += 1
        span += frame.dt
        for finding in diagnosis.push(frame):
            total = sums[finding.rule]
            total.weighted += finding.value * frame.dt
            total.last = finding
            if finding.state in (State.FIRING, State.CLEAR):
                total.known = finding
            if finding.state is State.FIRING:
                total.first = finding.since if total.first is None else total.first
                total.fired.append(finding)
            if finding.state is not total.state:
                total.state = finding.state
                turns.append(Turn(frame.t, finding.rule, finding.state))
    if begin is None:
        return None
    findings = order(_settle(total, span) for total in sums.values() if total.last is not None)
    firing = [finding for finding in findings if finding.state is State.FIRING]
    said = verdict(frame, findings)
    if firing:
        largest = max(firing, key=lambda finding: finding.value)
        said = Verdict(largest.rule, largest.headline, largest.severity)
    return Whole(begin, frame.t, count, frame, findings, said, tuple(turns))


def _settle(total: _Sum, span: float) -> Finding:
    """What to say of one rule for the whole time."""
    assert total.last is not None
    share = total.weighted / span if span > 0 else 0.0
    if total.fired:
        # The evidence of a typical moment, not of the worst: it stands for the whole time.
        middle = sorted(total.fired, key=lambda finding: finding.value)[len(total.fired) // 2]
        worst = max((finding.severity for finding in total.fired), key=lambda severity: severity.rank)
        return replace(middle, since=total.first, value=share, severity=worst)
    # A rule that could judge at some time and never fired is clear, even if its input was gone at the end.
    return replace(total.known or total.last, value=share)
