"""Rules over time: a finding enters, stays and clears by seconds observed, whatever the interval between frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qtop.diagnose.rule import CannotTell, Evidence, NotApplicable, Observed, Remedy, Rule, Severity, State
from qtop.model.frame import Frame

MAX_WEIGHT_S = 10.0
"""One frame speaks for at most so long: after a gap (suspended laptop, stopped qtop) its mean says nothing of the
moments."""
FORGET_S = 3.0
"""Input absent for longer than this forgets what was observed before."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What qtop says of one rule at one moment."""

    rule: str
    title: str
    state: State
    severity: Severity
    headline: str
    value: float
    """Share of time, 0–1; 0 when nothing was observed."""
    since: float | None
    """Unix time since when the state stands."""
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one line: the worst finding, or that there is none."""

    rule: str | None
    headline: str
    severity: Severity | None = None


class Tracker:
    """Hysteresis of one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._observed: deque[tuple[float, float, float]] = deque()
        """(t, seconds it speaks for, value)"""
        self._span = max([enter.of for enter in rule.enter] + [rule.clear.seconds])
        self._least = min(enter.seconds for enter in rule.enter)
        self._severity: Severity | None = None
        self._state = State.CANNOT_TELL
        self._since: float | None = None
        self._absent_for = 0.0
        self._bad: Observed | None = None

    def push(self, frame: Frame) -> Finding:
        """Take a frame and say what stands."""
        answer = self.rule.look(frame)
        finding = self._observe(frame, answer) if isinstance(answer, Observed) else self._absent(frame, answer)
        if finding.state != self._state or self._since is None:
            self._state, self._since = finding.state, frame.t - (frame.dt if finding.state is State.FIRING else 0.0)
        return replace(finding, since=self._since)

    def _absent(self, frame: Frame, answer: CannotTell | NotApplicable) -> Finding:
        self._absent_for += frame.dt
        if self._absent_for > FORGET_S or isinstance(answer, NotApplicable):
            self._observed.clear()
            self._severity = None
        state = State.CANNOT_TELL if isinstance(answer, CannotTell) else State.NOT_APPLICABLE
        return self._finding(state, reason=answer.reason)

    def _observe(self, frame: Frame, seen: Observed) -> Finding:
        self._absent_for = 0.0
        self._observed.append((frame.t, min(frame.dt, MAX_WEIGHT_S), seen.value))
        # A frame speaks for the dt before it: keep it until its own beginning has left the span.
        while self._observed and self._observed[0][0] <= frame.t - self._span - 1e-6:
            self._observed.popleft()
        entered = [
            enter.severity for enter in self.rule.enter if self._holds(frame.t, enter.at, enter.seconds, enter.of)
        ]
        if entered:
            worst = max(entered, key=lambda severity: severity.rank)
            if self._severity is None or worst.rank > self._severity.rank:
                self._severity = worst
        elif self._severity is not None and self._below_for(self.rule.clear.below) >= self.rule.clear.seconds - 1e-6:
            self._severity = None
        if self._severity is not None:
            reason, value = seen.reason, seen.value
            better = self._below_for(self.rule.clear.below)
            if better > 0 and self._bad is not None:
                # It stands until it has cleared: what it said while it was bad, not "0 % of the time".
                seen = self._bad
                reason = f"better for {better:.0f} s; clears after {self.rule.clear.seconds:.0f} s"
            else:
                self._bad = seen
            return self._finding(
                State.FIRING, seen.headline, value, seen.evidence, reason, seen.remedies, self._severity
            )
        self._bad = None
        watched = sum(seconds for _, seconds, _ in self._observed)
        if watched < self._least - 1e-6:
            return self._finding(State.CANNOT_TELL, evidence=seen.evidence, reason=f"watching: {watched:.0f} s so far")
        return self._finding(State.CLEAR, seen.headline, seen.value, seen.evidence, seen.reason)

    def _holds(self, now: float, at: float, seconds: float, of: float) -> bool:
        total = sum(weight for t, weight, value in self._observed if t > now - of - 1e-6 and value >= at)
        # Half a tick of slack: eight ticks of 0.99 s are eight seconds to anybody but a machine.
        return total >= seconds * 0.95

    def _below_for(self, below: float) -> float:
        total = 0.0
        for _, weight, value in reversed(self._observed):
            if value >= below:
                break
            total += weight
        return total

    def _finding(
        self,
        state: State,
        headline: str = "",
        value: float = 0.0,
        evidence: tuple[Evidence, ...] = (),
        reason: str = "",
        remedies: tuple[Remedy, ...] = (),
        severity: Severity | None = None,
    ) -> Finding:
        default = max((enter.severity for enter in self.rule.enter), key=lambda one: one.rank)
        return Finding(
            rule=self.rule.id,
            title=self.rule.title,
            state=state,
            severity=severity or default,
            headline=headline or self.rule.title,
            value=value,
            since=None,
            evidence=evidence,
            reason=reason,
            remedies=remedies,
        )


class Diagnosis:
    """All rules over one stream of frames."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._trackers = [Tracker(rule) for rule in rules]

    def push(self, frame: Frame) -> tuple[Finding, ...]:
        """Every rule's finding, firing ones first, the worst and largest on top."""
        return order(tracker.push(frame) for tracker in self._trackers)


_STATES = (State.FIRING, State.CLEAR, State.CANNOT_TELL, State.NOT_APPLICABLE)


def order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Firing ones first, the worst and largest on top; else by id."""
    return tuple(sorted(findings, key=_key))


def _key(finding: Finding) -> tuple[int, int, float, str]:
    if finding.state is State.FIRING:
        return (0, -finding.severity.rank, -finding.value, finding.rule)
    return (1 + _STATES.index(finding.state), 0, 0.0, finding.rule)
