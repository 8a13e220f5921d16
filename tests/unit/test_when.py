"""Times in a recording as they are typed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.errors import QtopError
from qtop.timeline.when import parse, told

NOON = 1_790_078_400.0 - 1_790_078_400.0 % 86_400 + 43_200.0
"""Of a day, UTC."""


@pytest.fixture(autouse=True, scope="module")
def utc() -> Iterator[None]:
    """Times of day are the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "into"),
    [
        ("00:12", 12.0),
        ("10:00", 600.0),
        ("0", 0.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("15m", 900.0),
        ("+90s", 390.0),
        ("+1:30", 390.0),
        ("-5m", 0.0),
        ("- 10", 290.0),
        ("+2h", 3600.0),
        ("-2h", 0.0),
        ("12:30:05", 1805.0),
        ("00:30:05", 1805.0),
        ("1:00:00", 3600.0),
        ("13:00:00", 3600.0),
        ("12:45", 765.0),  # minutes and seconds, as the row above counts
    ],
)
def test_what_is_meant(text: str, into: float) -> None:
    assert parse(text, NOON + 300.0, NOON, NOON + 3600.0) == NOON + into


def test_an_hour_and_minute_where_the_recording_is_shorter_than_that() -> None:
    assert parse("12:05", NOON, NOON, NOON + 600.0) == NOON + 300.0


NONE = ("", "soon", "12:", "1:2:3:4", "-", "+", "12:75", "9999:00", "5x", "++5", "1e9", "\x00")


@pytest.mark.parametrize("text", NONE)
def test_what_is_none(text: str) -> None:
    with pytest.raises(QtopError, match="is no time: 12:30:05") as caught:
        parse(text, NOON, NOON, NOON + 3600.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["11:00:00", "59m59.5s", "2h", "99:99:99", "61:01", "25:00:00"])
def test_what_lies_outside(text: str) -> None:
    with pytest.raises(QtopError):
        parse(text, NOON, NOON, NOON + 3600.0)


def test_outside_says_what_there_is() -> None:
    with pytest.raises(QtopError, match=r"11:00:00 is not in it: from 12:00:00 to 13:00:00, 1:00:00 long"):
        parse("11:00:00", NOON, NOON, NOON + 3600.0)


def test_of_several_days_the_next_is_meant() -> None:
    begin, end = NOON, NOON + 3 * 86_400
    assert parse("12:30:05", NOON + 86_400, begin, end) == NOON + 86_400 + 1805
    assert parse("12:30:05", NOON + 2 * 86_400 + 7200, begin, end) == NOON + 1805


@given(st.text(max_size=12), st.floats(0, 90_000), st.floats(1, 90_000))
def test_any_text_gives_a_time_of_the_recording_or_one_line(text: str, now: float, length: float) -> None:
    try:
        t = parse(text, NOON + min(now, length), NOON, NOON + length)
    except QtopError as error:
        assert "\n" not in str(error).replace(text, "")
    else:
        assert NOON <= t <= NOON + length


def test_how_a_moment_is_told() -> None:
    assert told(NOON + 75, NOON) == "12:01:15 (01:15)"
