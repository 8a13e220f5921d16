"""Absence is typed: a reading that could not be had says why, and never passes for a number."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar, Union

import msgspec


class Why(StrEnum):
    """Why a reading is absent."""

    UNSUPPORTED = "unsupported"
    """The device, kernel or server does not offer it."""
    DENIED = "denied"
    """No permission."""
    LOST = "lost"
    """It was there and went away (GPU fell off the bus, process ended, server stopped)."""
    STALE = "stale"
    """The collector has not delivered for several periods."""
    FAILED = "failed"
    """Reading it failed in a way that is not one of the others; ``detail`` says how."""
    NOT_HERE = "not_here"
    """The thing lives on another host or in a namespace out of reach."""
    NOT_RECORDED = "not_recorded"
    """The recording does not hold it."""
    NOT_YET = "not_yet"
    """Nothing read so far; a rate needs two readings."""


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """The reason that stands in place of a reading; ``detail`` is one short clause for a person."""

    why: Why
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or self.why.replace("_", " ")

    def __bool__(self) -> bool:
        raise TypeError("an absent reading has no truth value; test with isinstance(…, Absent)")


T = TypeVar("T")
Reading = Union[T, Absent]  # noqa: UP007 - a generic alias needs the subscriptable form on 3.11

NOT_YET = Absent(Why.NOT_YET)
NOT_RECORDED = Absent(Why.NOT_RECORDED)


_SILENT = "did not answer"
"""In the detail of a reading for which a connection was taken and nothing came back."""


def unanswered(absent: Absent) -> bool:
    """Whether a server gave no answer at all: no connection, one that it closed, or one that stayed silent. An HTTP
    answer of any status is an answer."""
    return absent.why is Why.LOST or (absent.why is Why.FAILED and _SILENT in absent.detail)


def known(reading: Reading[T], default: T) -> T:
    """The value, or ``default`` where it is absent (for drawing and sorting, never for arithmetic that is shown)."""
    return default if isinstance(reading, Absent) else reading


def first_absent(*readings: object) -> Absent | None:
    """The first absent one among readings, or None if all are there."""
    for reading in readings:
        if isinstance(reading, Absent):
            return reading
    return None
