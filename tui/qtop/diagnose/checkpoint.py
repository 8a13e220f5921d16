"""What is known at one moment, kept so that judging can go on from there: after a jump, or in another process."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from qtop.diagnose.engine import Diagnosis, TrackerState
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Observed, Rule
from qtop.model.derive import Carried, Deriver
from qtop.model.requests import WINDOW_S


class Checkpoint(NamedTuple):
    """What was known right before the sample at Unix second ``t``, as far as no run-up gives it back."""

    t: float
    carried: Carried
    states: tuple[TrackerState, ...]
    held: str | None
    """The rule of the verdict."""


class Start(NamedTuple):
    """Where to begin, so that a later moment is as if all had been played. None: with nothing."""

    frames: Checkpoint | None
    """Frames are derived from the sample of this one on; without any, from ``begin`` on."""
    judging: Checkpoint | None
    """Findings go on from this one; without any, they begin with the frames."""
    begin: float
    """Unix time of the first sample needed, if there is no checkpoint for the frames."""


def resumed(start: Start | None, kept: bool) -> tuple[Deriver, Diagnosis, str | None]:
    """What derives frames (``kept``: as for ``Deriver``) and judges them from this start on, and the rule of the
    verdict before it."""
    deriver, diagnosis, held = Deriver(kept), Diagnosis(RULES), None
    if start is not None and start.frames is not None:
        deriver.resume(start.frames.carried)
    if start is not None and start.judging is not None:
        diagnosis.resume(start.judging.states)
        held = start.judging.held
    return deriver, diagnosis, held


def run_up_s() -> float:
    """Seconds after which one who knew nothing knows all that counts, where nothing is out of the ordinary: twice the
    longest time that any rule looks back, and what frames look back."""
    longest = max(max(rule.clear.seconds, *(enter.of for enter in rule.enter)) for rule in RULES)
    return 2 * longest + WINDOW_S


def same_future(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether the same samples lead to the same findings from both on, but for since when a state stands and how often
    it stood before."""
    if (one.t, one.held) != (other.t, other.held) or _carried(one.t, one.carried) != _carried(one.t, other.carried):
        return False
    return all(
        _state(rule, mine) == _state(rule, theirs)
        for rule, mine, theirs in zip(RULES, one.states, other.states, strict=True)
    )


def _carried(t: float, carried: Carried) -> Carried:
    """Requests look back two minutes: it does not matter when before that they were first seen."""
    requests = carried.requests
    begin = max(requests.begin, t - 2 * WINDOW_S) if requests.begin >= 0 else requests.begin
    return replace(carried, requests=requests._replace(begin=begin))


def _state(rule: Rule, state: TrackerState) -> tuple[object, ...]:
    """What decides over what comes. Counts of seconds matter up to what they are held against, a time not at all."""
    standing = state.over_time
    enough = max(*(enter.seconds for enter in rule.enter), rule.clear.seconds)
    counts = tuple(min(one, enough) for one in (standing.eased, standing.watched, standing.better))
    said = None if state.last is None else (state.last.state, state.last.note)
    return (
        (standing.hits, standing.dt, standing.severity, counts),
        (state.state, state.absent_for, state.forgotten, _observed(state.bad), said),
    )


def _observed(seen: Observed | None) -> tuple[object, ...] | None:
    return None if seen is None else (seen.value, seen.impact, seen.figure, seen.told)
