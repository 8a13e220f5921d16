"""A whole stretch of time diagnosed at once: what ever fired, when, and how much of the time it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from qtop.diagnose.engine import Finding, Verdict, order
from qtop.diagnose.episodes import Episodes
from qtop.diagnose.parts import Judging, Part, RuleSum, Shown, Turn
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Severity, State
from qtop.diagnose.verdict import verdict
from qtop.model.frame import Frame
from qtop.sample import Sample

MOST = 256
"""Firing moments kept of a rule over all parts."""


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


class Kept(NamedTuple):
    """A firing moment that stands for so many."""

    finding: Finding
    moments: int


class Since(NamedTuple):
    """A state stands since ``was`` by who did not see its beginning, by who did since ``true``; Unix seconds."""

    state: State
    was: float | None
    true: float | None

    def of(self, state: State, since: float | None) -> float | None:
        """Since when this state stands, which is said to since ``since``: of another spell that is so."""
        return self.true if (state, since) == (self.state, self.was) else since


@dataclass
class _Total:
    weighted: float = 0.0
    led: float = 0.0
    seconds_led: float = 0.0
    worst: Severity | None = None
    kept: list[Kept] = field(default_factory=list)
    episodes: Episodes = field(default_factory=Episodes)
    last: Finding | None = None
    known: Finding | None = None

    def add(self, part: RuleSum, since: Since | None) -> None:
        self.weighted += part.weighted
        self.led += part.led
        self.seconds_led += part.seconds_led
        if part.worst is not None and (self.worst is None or part.worst.rank > self.worst.rank):
            self.worst = part.worst
        self.kept += [Kept(one, part.stride) for one in part.fired]
        while len(self.kept) > MOST:
            pairs = zip(self.kept[::2], [*self.kept[1::2], Kept(self.kept[-1].finding, 0)], strict=False)
            self.kept = [Kept(one.finding, one.moments + other.moments) for one, other in pairs]
        for t, begun in part.pushed:
            self.episodes.push(t, begun)
        self.last = _since(part.last, since) or self.last
        self.known = _since(part.known, since) or self.known

    def typical(self) -> Finding:
        """The moment in the middle by its value: the evidence of the worst would not stand for the whole time."""
        ordered = sorted(self.kept, key=lambda one: one.finding.value)
        half = sum(one.moments for one in ordered) / 2
        for one in ordered:
            half -= one.moments
            if half < 0:
                return one.finding
        return ordered[-1].finding


def _since(finding: Finding | None, since: Since | None) -> Finding | None:
    if finding is None or since is None:
        return finding
    return replace(finding, since=since.of(finding.state, finding.since))


class Sum:
    """Parts in their order, put together."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._end = self._seconds = 0.0
        self._samples = 0
        self._totals = [_Total() for _ in RULES]
        self._turns: list[Turn] = []

    def add(self, part: Part, since: Mapping[str, Since] | None = None) -> None:
        """The next one. ``since``: by rule, for who judged the part without having seen what came before."""
        self._begin = part.begin if self._begin is None else self._begin
        self._end = part.end
        self._samples += part.samples
        self._seconds += part.seconds
        for rule, total, one in zip(RULES, self._totals, part.rules, strict=True):
            total.add(one, since.get(rule.id) if since is not None else None)
        self._turns += part.turns

    def whole(self, frame: Frame) -> Whole | None:
        """What there is to say, ``frame`` being the last one; None without a sample.

        A rule is firing if it ever fired; its evidence is that of a typical moment and its value the mean over all
        time. The verdict is of what explained most of the requests' time in all: a cause leads at the moments at
        which it fires, whatever else does.
        """
        if self._begin is None:
            return None
        findings = order(_settled(total, self._seconds) for total in self._totals if total.last is not None)
        said = verdict(frame, findings)
        leaders = {rule.id: one for rule, one in zip(RULES, self._totals, strict=True) if one.seconds_led > 0}
        if leaders:
            rule = max(leaders, key=lambda one: (leaders[one].led, leaders[one].seconds_led))
            chosen = next(one for one in findings if one.rule == rule)
            said = Verdict(rule, chosen.headline, chosen.severity)
        return Whole(self._begin, self._end, self._samples, frame, findings, said, tuple(self._turns))


def diagnose_all(samples: Iterable[Sample], shown: Shown | None = None) -> Whole | None:
    """Run all rules over the samples, one after another; None when there are none. ``shown`` is called for each."""
    judging: Judging | None = None
    total = Sum()
    for sample in samples:
        if judging is None:
            judging = Judging(sample.t)
        if judging.full(sample.t):
            if judging.part is not None:
                total.add(judging.part)
            judging.next_part(sample.t)
        judging.push(sample, shown)
    if judging is None or judging.part is None:
        return None
    total.add(judging.part)
    return total.whole(judging.frame)


def _settled(total: _Total, seconds: float) -> Finding:
    """What to say of one rule for the whole time."""
    assert total.last is not None
    share = total.weighted / seconds if seconds > 0 else 0.0
    if total.kept:
        typical, record = total.typical(), total.episodes.record
        severity = total.worst or typical.severity
        return replace(typical, value=share, since=record.first, severity=severity, record=record)
    # A rule that could judge at some time and never fired is clear, even if its input was gone at the end.
    return replace(total.known or total.last, value=share)
