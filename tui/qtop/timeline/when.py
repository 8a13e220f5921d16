"""A time in a recording, as a person types it and as it is told."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from qtop.errors import QtopError
from qtop.units import NONE, clock, span_seconds

FORMS = "12:30:05 of the day   00:12 into it   +90s or -5m from here"
MOST_DAYS = 366
"""Of a recording, searched for a time of day."""
_CLOCK = re.compile(r"(\d{1,3}):([0-5]?\d)(?::([0-5]?\d))?")


def told(t: float, begin: float) -> str:
    """A moment as its time of day here, and how far into the recording that begins at ``begin`` it lies."""
    return f"{_of_day(t)} ({clock(t - begin)})"


def parse(text: str, now: float, begin: float, end: float) -> float:
    """The Unix second meant by ``text`` in a recording from ``begin`` to ``end`` that shows ``now``; QtopError, one
    line, where there is none.

    With a sign it counts from ``now``. ``h:m:s`` is a time of day, else how far into the recording; ``m:s`` is how far
    into it, else a time of day ``h:m``; a number, with a unit or without, is how far into it. Of a time of day that
    comes several times it is the next.
    """
    sign = text[:1]
    rest = text[1:].strip() if sign in "+-" else text
    found = _CLOCK.fullmatch(rest)
    seconds = _seconds(found) if found else span_seconds(rest)
    if not text or seconds is None:
        raise QtopError(f"{text or 'nothing'} is no time: 12:30:05, 00:12, +90s or -5m")
    if sign and sign in "+-":
        return _within(text, now + seconds if sign == "+" else now - seconds, begin, end, near=True)
    into = begin + seconds
    if found is None:
        return _within(text, into, begin, end)
    of_day = _next_of_day(found, now, begin, end)
    first, second = (of_day, into) if found[3] is not None else (into, of_day)
    for one in (first, second):
        if one is not None and begin <= one <= end + 1:
            return min(one, end)
    raise _outside(text, begin, end)


def _seconds(found: re.Match[str]) -> float:
    """Of h:m:s or m:s."""
    one, two, three = int(found[1]), int(found[2]), found[3]
    return float(one * 60 + two) if three is None else float(one * 3600 + two * 60 + int(three))


def _within(text: str, t: float, begin: float, end: float, near: bool = False) -> float:
    """``t`` where it lies in the recording; steps from here (``near``) end at its ends."""
    if near:
        return max(begin, min(end, t))
    if t > end + 1:
        raise _outside(text, begin, end)
    return min(t, end)


def _next_of_day(found: re.Match[str], now: float, begin: float, end: float) -> float | None:
    """The next time in the recording at which a clock here shows it; the first where none comes any more."""
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if hour > 23:
        return None
    times = []
    try:
        day = datetime.fromtimestamp(begin).replace(hour=hour, minute=minute, second=second, microsecond=0)
        for _ in range(MOST_DAYS):
            t = day.timestamp()
            if begin <= t <= end:
                times.append(t)
            day += timedelta(days=1)
    except (OverflowError, ValueError, OSError):  # a clock that is beyond every calendar
        pass
    return next((t for t in times if t > now), times[0] if times else None)


def _outside(text: str, begin: float, end: float) -> QtopError:
    return QtopError(f"{text} is not in it: from {_of_day(begin)} to {_of_day(end)}, {clock(end - begin)} long")


def _of_day(t: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(t))
    except (OverflowError, ValueError, OSError):
        return NONE
