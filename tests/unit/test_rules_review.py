"""What rules must not say: after a gap or a clock that was set back, of a symptom beside its cause, in odd figures."""

from __future__ import annotations

import pytest

from qtop.diagnose.hysteresis import Hysteresis
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Clear, Enter, Severity

ENTER = (Enter(Severity.WARNING, at=1.0, seconds=8.0, of=10.0),)


def test_a_clock_that_is_set_back_holds_no_finding_up() -> None:
    """Ten minutes back: what was seen before must not stand for ten minutes more."""
    over_time = Hysteresis(ENTER, Clear(below=0.5, seconds=10.0))
    for second in range(1, 11):
        over_time.push(1000.0 + second, 1.0, 1.0)
    assert over_time.severity is Severity.WARNING
    over_time.push(410.0, 0.0, 0.0)
    for second in range(1, 11):
        over_time.push(410.0 + second, 1.0, 0.0)
    assert over_time.severity is None


@pytest.mark.parametrize("rule", ["QT303", "QT305", "QT310"])
def test_one_reading_after_a_long_gap_is_no_finding(rule: str) -> None:
    """A laptop wakes up and its network is not there yet: one failed request is not five seconds of silence."""
    over_time = Hysteresis(BY_ID[rule].enter, BY_ID[rule].clear)
    for second in range(1, 11):
        over_time.push(float(second), 1.0, 0.0)
    over_time.push(3610.0, 3600.0, 1.0)
    assert over_time.severity is None
    for second in range(1, 12):
        over_time.push(3610.0 + second, 1.0, 1.0)
    assert over_time.severity is not None


def test_a_longer_interval_is_taken_from_its_second_frame_on() -> None:
    over_time = Hysteresis(ENTER, Clear(below=0.5, seconds=10.0))
    over_time.push(1.0, 1.0, 0.0)
    over_time.push(31.0, 30.0, 1.0)
    assert over_time.severity is None
    over_time.push(61.0, 30.0, 1.0)
    assert over_time.severity is Severity.WARNING
