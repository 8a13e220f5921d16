"""Columns of numbers, one for each place in the samples of a minute that changes, as bytes that compress well, and back
at the speed of C.

Counters become differences, each as wide as the widest of its column needs; differences of about the same size become
what they exceed the least of them by. Columns as wide lie together, the lowest bytes of all their values first: what is
left is mostly zeros and repeats. Floats that are whole, or have few decimals, go as integers; others as they are, whose
upper bytes repeat (differences of bit patterns took 15 % less room in looped traces, nothing less in recordings of a
server, and half as long again to read). Exact for every value, -0.0 too.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise, repeat
from operator import add
from typing import Any, NamedTuple

Numbers = list[int] | list[float]

INT, WHOLE, RAW = 0, 1, 2
"""Kinds of a column: integers, floats that are whole, floats as they are. A kind of DECIMAL + d holds floats that are
integers over 10 ** d."""
DECIMAL = 16
_DECIMALS = (1, 2, 3, 4, 6, 9)
_SUMS = 64
"""Added to the kind where differences are stored, not values."""
_ABOVE = 128
"""Added to the kind where what is stored is above the least of them, which the head has."""
_CODES = "bBhHiIqQd"
"""How the stored values of a column are typed: its place in here; as in the module ``array``, sizes as on Linux."""
_FLOAT = _CODES.index("d")
_HEAD = struct.Struct("<II")
"""Number of columns, number of columns with a least value."""
_HALF = 1 << 63
_EXACT = 1 << 53
"""Integers up to here are floats without loss."""
_LITTLE = sys.byteorder == "little"


class Unfit(ValueError):
    """These numbers have no column, or these bytes are none."""


class Packed(NamedTuple):
    """A column ready to be written."""

    kind: int
    code: str
    rows: int
    first: int
    least: int
    stored: Sequence[Any]
    """Integers, or floats as they are."""


class Columns(NamedTuple):
    """What was read."""

    columns: list[Numbers]
    signed_zero: bool
    """There may be a -0.0 among them."""


def pack(values: Sequence[Any]) -> Packed:
    """A column of numbers that are all of one type, int or float; Unfit if one does not fit into 64 bits."""
    if type(values[0]) is int:
        return _integers(INT, values)
    if not all(map(math.isfinite, values)):
        raise Unfit("not a finite number")
    whole = _scaled(values, 1)
    if whole is not None:
        return _integers(WHOLE, whole)
    for digits in _DECIMALS:
        scaled = _scaled(values, 10**digits)
        if scaled is not None:
            return _integers(DECIMAL + digits, scaled)
    return Packed(RAW, "d", len(values), 0, 0, values)


def write(columns: Sequence[Packed]) -> bytes:
    """All columns of a block."""
    above = [column.least for column in columns if column.kind & _ABOVE]
    parts = [
        _HEAD.pack(len(columns), len(above)),
        bytes(column.kind for column in columns),
        bytes(_CODES.index(column.code) for column in columns),
        _planes(array("I", [column.rows for column in columns])),
        _planes(array("q", [column.first for column in columns])),
        _planes(array("q", above)),
    ]
    for code in _CODES:
        together = array(code)
        for column in columns:
            if column.code == code:
                together.extend(array(code, column.stored))
        parts.append(_planes(together))
    return b"".join(parts)


def read(data: memoryview, most: int) -> Columns:
    """All columns of a block; Unfit if these bytes are none, or hold more than ``most`` values."""
    try:
        number, above = _HEAD.unpack_from(data)
    except struct.error:
        raise Unfit("the columns are cut off") from None
    if 14 * number > len(data) or above > number:  # bytes a column in the tables
        raise Unfit("the columns are cut off")
    at = _HEAD.size
    kinds, codes = bytes(data[at : at + number]), bytes(data[at + number : at + 2 * number])
    at += 2 * number
    counts, at = _gathered(data, at, "I", number)
    firsts, at = _gathered(data, at, "q", number)
    least, at = _gathered(data, at, "q", above)
    leasts = iter(least)
    if sum(counts) > most or not all(counts) or max(codes, default=0) >= len(_CODES):
        raise Unfit("the columns are damaged")
    sizes = [0] * len(_CODES)
    for kind, code, count in zip(kinds, codes, counts, strict=True):
        sizes[code] += count - 1 if kind & _SUMS else count
    stored: list[array[int]] = []
    for letter, size in zip(_CODES, sizes, strict=True):
        together, at = _gathered(data, at, letter, size)
        stored.append(together)
    places = [0] * len(_CODES)
    columns: list[Numbers] = []
    signed_zero = False
    for kind, code, count, first in zip(kinds, codes, counts, firsts, strict=True):
        begin = places[code]
        low = next(leasts, 0) if kind & _ABOVE else 0
        end = places[code] = begin + count - 1 if kind & _SUMS else begin + count
        values: Iterable[int] = (plain := stored[code][begin:end])
        if kind & _SUMS:
            values = accumulate(values, initial=first)
            if low:
                values = map(add, values, range(0, low * count, low))
        elif low:
            values = map(add, values, repeat(low))
        kind &= ~(_SUMS | _ABOVE)
        if (kind == RAW) != (code == _FLOAT) or (kind == RAW and values is not plain):
            raise Unfit("a column is damaged")
        column = _typed(kind, values)
        signed_zero = signed_zero or (kind == RAW and 0.0 in column)
        columns.append(column)
    return Columns(columns, signed_zero)


def _typed(kind: int, values: Iterable[int]) -> Numbers:
    if kind in (INT, RAW):
        return values.tolist() if isinstance(values, array) else list(values)
    try:
        if kind == WHOLE:
            return list(map(float, values))
        if kind - DECIMAL in _DECIMALS:
            scale = 10 ** (kind - DECIMAL)
            return [value / scale for value in values]
    except OverflowError:
        pass
    raise Unfit("a column is damaged")


def _scaled(values: Sequence[float], scale: int) -> list[int] | None:
    """The values times ``scale`` as integers, if dividing gives every one of them back, bit for bit."""
    out = []
    for value in values:
        if abs(value) >= _EXACT / scale:
            return None
        number = round(value * scale)
        if number / scale != value or (number == 0 and math.copysign(1.0, value) < 0):
            return None
        out.append(number)
    return out


def _integers(kind: int, values: Sequence[int]) -> Packed:
    if min(values) < -_HALF or max(values) >= 2 * _HALF or values[0] >= _HALF:
        raise Unfit("an integer beyond 64 bits")
    steps = [after - before for before, after in pairwise(values)]
    plain, sums = _narrow(kind, 0, values), _narrow(kind | _SUMS, values[0], steps)
    if sums is None or (plain is not None and _bits(plain) <= _bits(sums)):
        sums = plain
    if sums is None:
        raise Unfit("the differences need more than 64 bits")
    return sums._replace(rows=len(values))


def _bits(column: Packed) -> int:
    return sum(map(int.bit_length, column.stored))


def _narrow(kind: int, first: int, values: Sequence[int]) -> Packed | None:
    """The values as they are, or above the least of them where that is narrower."""
    low, high = min(values, default=0), max(values, default=0)
    code, size = _fitting(low, high)
    above, smaller = _fitting(0, high - low)
    if size <= smaller and code:
        return Packed(kind, code, 0, first, 0, values)
    if not above or not -_HALF <= low < _HALF:
        return None
    return Packed(kind | _ABOVE, above, 0, first, low, [value - low for value in values])


def _fitting(low: int, high: int) -> tuple[str, int]:
    """The code of the narrowest type for this range, and its bytes; "" if none is wide enough."""
    for size, signed, unsigned in ((1, "b", "B"), (2, "h", "H"), (4, "i", "I"), (8, "q", "Q")):
        if low >= 0 and high < 1 << (8 * size):
            return unsigned, size
        if low >= -(1 << (8 * size - 1)) and high < 1 << (8 * size - 1):
            return signed, size
    return "", 16


def _planes(values: array[int]) -> bytes:
    """The lowest bytes of all values, then the next ones, …"""
    data, width = values.tobytes(), values.itemsize
    order = range(width) if _LITTLE else range(width - 1, -1, -1)
    return b"".join(data[at::width] for at in order)


def _gathered(data: memoryview, offset: int, code: str, count: int) -> tuple[array[int], int]:
    """``count`` values from the planes at ``offset``, and the offset after them."""
    values = array(code)
    width = values.itemsize
    end = offset + count * width
    if end > len(data):
        raise Unfit("the columns are cut off")
    out = bytearray(count * width)
    for at in range(width):
        out[at if _LITTLE else width - 1 - at :: width] = data[offset + at * count : offset + (at + 1) * count]
    values.frombytes(out)
    return values, end
