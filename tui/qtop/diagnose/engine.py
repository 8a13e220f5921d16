"""Rules over time: a finding enters, stays and clears by seconds observed, whatever the interval between frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from qtop.diagnose.episodes import NEVER, Episodes, Record
from qtop.diagnose.hysteresis import Hysteresis, Standing
from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Evidence,
    Observed,
    Remedy,
    Rule,
    Severity,
    State,
)
from qtop.model.frame import Frame

FORGET_S = 3.0
"""Input absent for longer than this forgets what was observed before."""


class Finding(msgspec.Struct, frozen=True):
    """What qtop says of one rule at one moment. A struct, because fifty are made every tick."""

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


class Verdict(msgspec.Struct, frozen=True):
    """The one line: the finding that explains most, or that there is none."""

    rule: str | None
    headline: str
    severity: Severity | None = None


class TrackerState(NamedTuple):
    """What a ``Tracker`` knows; its fields are those of it."""

    over_time: Standing
    state: State
    since: float | None
    absent_for: float
    forgotten: bool
    bad: Observed | None
    episodes: tuple[Record, float | None, float]
    last: Finding | None


class Tracker:
    """One rule over time."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._default = max((enter.severity for enter in rule.enter), key=lambda one: one.rank)
        self._over_time = Hysteresis(rule.enter, rule.clear)
        self._state = State.CANNOT_TELL
        self._since: float | None = None
        self._absent_for = 0.0
        self._forgotten = True
        """Nothing observed is remembered."""
        self._bad: Observed | None = None
        self._episodes = Episodes()
        self._last: Finding | None = None
        self._told: TrackerState | None = None
        """Its state when it was last asked for: that of most rules never changes, and is kept once."""

    def state(self) -> TrackerState:
        """All that it knows, as something that stays as it is and holds on to no frame."""
        if self._bad is not None:
            _ = self._bad.told
        last = self._last if self._last is not None and self._last.seen is None else None
        state = TrackerState(
            self._over_time.state(),
            self._state,
            self._since,
            self._absent_for,
            self._forgotten,
            self._bad,
            self._episodes.state(),
            last,
        )
        if self._told is None or self._told != state:
            self._told = state
        return self._told

    def resume(self, state: TrackerState) -> None:
        """Know what another one of the same rule knew."""
        self._over_time.resume(state.over_time)
        self._state, self._since = state.state, state.since
        self._absent_for, self._forgotten, self._bad = state.absent_for, state.forgotten, state.bad
        self._episodes.resume(state.episodes)
        self._last = state.last

    def push(self, frame: Frame) -> Finding:
        """Take a frame and say what stands."""
        answer: Answer = self.rule.look(frame)
        if isinstance(answer, Observed):
            return self._observe(frame, answer)
        applies = isinstance(answer, CannotTell)
        if not self._forgotten:
            self._absent_for += frame.dt
            if self._absent_for > FORGET_S or not applies:
                self._over_time.forget()
                self._bad, self._forgotten = None, True
        state = State.CANNOT_TELL if applies else State.NOT_APPLICABLE
        last = self._last
        if last is not None and last.state is state and last.note == answer.reason and last.seen is None:
            return last  # the same in every way: most rules that do not apply never will
        return self._finding(frame, state, note=answer.reason)

    def _observe(self, frame: Frame, seen: Observed) -> Finding:
        self._absent_for, self._forgotten = 0.0, False
        over_time, value = self._over_time, seen.value
        over_time.push(frame.t, frame.dt, value)
        severity = over_time.severity
        if severity is not None:
            better = over_time.better
            if better > 0 and self._bad is not None:
                # It stands until it has cleared: what it said while it was bad, not "0 % of the time".
                note = f"better for {better:.0f} s; clears after {self.rule.clear.seconds:.0f} s"
                return self._finding(frame, State.FIRING, value, self._bad, note, severity)
            self._bad = seen
            return self._finding(frame, State.FIRING, value, seen, severity=severity)
        self._bad = None
        if not over_time.may_clear:
            note = f"watching: {over_time.watched:.0f} s so far"
            return self._finding(frame, State.CANNOT_TELL, 0.0, seen, note, watching=True)
        return self._finding(frame, State.CLEAR, value, seen)

    def _finding(
        self,
        frame: Frame,
        state: State,
        value: float = 0.0,
        seen: Observed | None = None,
        note: str = "",
        severity: Severity | None = None,
        watching: bool = False,
    ) -> Finding:
        firing = state is State.FIRING
        if state is not self._state or self._since is None:
            self._state, self._since = state, frame.t - (frame.dt if firing else 0.0)
        self._episodes.push(frame.t, self._since if firing else None)
        rule = self.rule
        self._last = Finding(
            rule.id,
            rule.title,
            state,
            severity or self._default,
            value,
            self._since,
            seen,
            note,
            watching,
            self._episodes.record,
        )
        return self._last


class Diagnosis:
    """All rules over one stream of frames."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._trackers = [Tracker(rule) for rule in rules]

    def push(self, frame: Frame) -> tuple[Finding, ...]:
        """Every rule's finding, firing ones first, the worst and largest on top."""
        return order(self.by_rule(frame))

    def by_rule(self, frame: Frame) -> list[Finding]:
        """The same in the order of the rules."""
        return [tracker.push(frame) for tracker in self._trackers]

    def state(self) -> tuple[TrackerState, ...]:
        """All that it knows, in the order of the rules: for ``resume``."""
        return tuple(tracker.state() for tracker in self._trackers)

    def resume(self, states: Iterable[TrackerState]) -> None:
        """Go on from where another one of the same rules was."""
        for tracker, state in zip(self._trackers, states, strict=True):
            tracker.resume(state)


_STATES = {state: at for at, state in enumerate((State.FIRING, State.CLEAR, State.CANNOT_TELL, State.NOT_APPLICABLE))}


def order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Firing ones first: what matters more, then what explains more; the rest by state, each in the order given."""
    by_state: tuple[list[Finding], ...] = ([], [], [], [])
    for finding in findings:
        by_state[_STATES[finding.state]].append(finding)
    firing = by_state[0]
    if len(firing) > 1:
        firing.sort(key=_key)
    return (*firing, *by_state[1], *by_state[2], *by_state[3])


def _key(finding: Finding) -> tuple[int, float, str]:
    return (-finding.severity.rank, -finding.impact, finding.rule)
