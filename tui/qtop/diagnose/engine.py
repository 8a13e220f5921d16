"""Rules over time: a finding enters, stays and clears by seconds observed, whatever the interval between frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qtop.diagnose.episodes import NEVER, Episodes, Record
from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Enter,
    Evidence,
    NotApplicable,
    Observed,
    Remedy,
    Rule,
    Severity,
    State,
)
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
    value: float
    """What the thresholds are held against; 0 when nothing was observed."""
    since: float | None
    """Unix time since when the state stands."""
    seen: Observed | None = None
    """What stands behind it; while it clears, what it was while it was bad."""
    note: str = ""
    """Why qtop cannot tell, why the rule does not apply, or how far it has cleared."""
    watching: bool = False
    """Nothing stands against judging but that too little time has been seen."""
    record: Record = NEVER
    """How often and for how long it has fired since qtop looks."""

    @property
    def impact(self) -> float:
        """Share of a request's time that it explains, 0–1."""
        return self.seen.impact if self.seen is not None else 0.0

    @property
    def figure(self) -> str | None:
        """How its value reads: None for a share of time, "" for a plain fact."""
        return self.seen.figure if self.seen is not None else None

    @property
    def headline(self) -> str:
        """One line; the title where nothing was observed."""
        return (self.seen.told.headline if self.seen is not None else "") or self.title

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The signals."""
        return self.seen.told.evidence if self.seen is not None else ()

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What can be done at a key; offered by firing findings only."""
        return self.seen.told.remedies if self.seen is not None and self.state is State.FIRING else ()

    @property
    def reason(self) -> str:
        """What else to know."""
        return self.note or (self.seen.told.reason if self.seen is not None else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one line: the finding that explains most, or that there is none."""

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
        self._default = max((enter.severity for enter in rule.enter), key=lambda one: one.rank)
        self._severity: Severity | None = None
        self._state = State.CANNOT_TELL
        self._since: float | None = None
        self._absent_for = 0.0
        self._bad: Observed | None = None
        self._episodes = Episodes()

    def push(self, frame: Frame) -> Finding:
        """Take a frame and say what stands."""
        answer: Answer = self.rule.look(frame)
        finding = self._observe(frame, answer) if isinstance(answer, Observed) else self._absent(frame, answer)
        if finding.state != self._state or self._since is None:
            self._state, self._since = finding.state, frame.t - (frame.dt if finding.state is State.FIRING else 0.0)
        self._episodes.push(frame.t, self._since if finding.state is State.FIRING else None)
        return replace(finding, since=self._since, record=self._episodes.record)

    def _absent(self, frame: Frame, answer: CannotTell | NotApplicable) -> Finding:
        self._absent_for += frame.dt
        if self._absent_for > FORGET_S or isinstance(answer, NotApplicable):
            self._observed.clear()
            self._severity = self._bad = None
        state = State.CANNOT_TELL if isinstance(answer, CannotTell) else State.NOT_APPLICABLE
        return self._finding(state, note=answer.reason)

    def _observe(self, frame: Frame, seen: Observed) -> Finding:
        self._absent_for = 0.0
        observed, value = self._observed, seen.value
        observed.append((frame.t, min(frame.dt, MAX_WEIGHT_S), value))
        # A frame speaks for the dt before it: keep it until its own beginning has left the span.
        while observed and observed[0][0] <= frame.t - self._span - 1e-6:
            observed.popleft()
        self._enter_or_clear(frame.t, value)
        if self._severity is not None:
            better = self._below_for(self.rule.clear.below)
            if better > 0 and self._bad is not None:
                # It stands until it has cleared: what it said while it was bad, not "0 % of the time".
                note = f"better for {better:.0f} s; clears after {self.rule.clear.seconds:.0f} s"
                return self._finding(State.FIRING, value, self._bad, note, self._severity)
            self._bad = seen
            return self._finding(State.FIRING, value, seen, severity=self._severity)
        self._bad = None
        watched = sum(seconds for _, seconds, _ in observed)
        if watched < self._least * 0.95:
            note = f"watching: {watched:.0f} s so far"
            return replace(self._finding(State.CANNOT_TELL, 0.0, seen, note), watching=True)
        return self._finding(State.CLEAR, value, seen)

    def _enter_or_clear(self, now: float, value: float) -> None:
        """Raise the severity to what holds now; let go of it once it has been better for long enough."""
        worst: Severity | None = None
        for enter in self.rule.enter:
            if (worst is None or enter.severity.rank > worst.rank) and self._holds(now, enter):
                worst = enter.severity
        if worst is not None:
            ease = self.rule.clear.ease
            eased = ease is not None and self._below_for(ease) >= self.rule.clear.seconds - 1e-6
            if self._severity is None or worst.rank > self._severity.rank or eased:
                self._severity = worst
        elif (
            self._severity is not None
            and value < self.rule.clear.below
            and self._below_for(self.rule.clear.below) >= self.rule.clear.seconds - 1e-6
        ):
            self._severity = None

    def _holds(self, now: float, enter: Enter) -> bool:
        begin = now - enter.of - 1e-6
        total = 0.0
        for t, weight, value in reversed(self._observed):
            if t <= begin:
                break
            if value >= enter.at:
                total += weight
        # Half a tick of slack: eight ticks of 0.99 s are eight seconds to anybody but a machine.
        return total > 0 and total >= enter.seconds * 0.95

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
        value: float = 0.0,
        seen: Observed | None = None,
        note: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        return Finding(
            self.rule.id, self.rule.title, state, severity or self._default, value, None, seen=seen, note=note
        )


class Diagnosis:
    """All rules over one stream of frames."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._trackers = [Tracker(rule) for rule in rules]

    def push(self, frame: Frame) -> tuple[Finding, ...]:
        """Every rule's finding, firing ones first, the worst and largest on top."""
        return order(tracker.push(frame) for tracker in self._trackers)


_STATES = (State.FIRING, State.CLEAR, State.CANNOT_TELL, State.NOT_APPLICABLE)


def order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Firing ones first: what matters more, then what explains more; the rest by state and id."""
    return tuple(sorted(findings, key=_key))


def _key(finding: Finding) -> tuple[int, int, float, str]:
    if finding.state is State.FIRING:
        return (0, -finding.severity.rank, -finding.impact, finding.rule)
    return (1 + _STATES.index(finding.state), 0, 0.0, finding.rule)
