"""Bars, sparklines and areas drawn with characters: pure functions from numbers to text.

None and NaN stand for a value that could not be had and leave a blank; zero leaves the lowest mark, so that nobody
takes one for the other. Each function draws with plain ASCII where the terminal has no more (``ascii=True``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

_EIGHTHS_ACROSS = " ▏▎▍▌▋▊▉█"
_HALVES_ACROSS = " -#"
_EIGHTHS_UP = " ▁▂▃▄▅▆▇█"
_STEPS_UP = " _.-=*#"
_THIRDS_UP = " .:#"
_LEFT_DOTS = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT_DOTS = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_BRAILLE = tuple(tuple(chr(0x2800 + left + right) for right in _RIGHT_DOTS) for left in _LEFT_DOTS)


def bar(value: float, width: int, *, ascii: bool = False) -> str:
    """Draw a horizontal bar of ``width`` cells, ``value`` of it filled (0 to 1, clamped; NaN draws nothing)."""
    if width <= 0:
        return ""
    if math.isnan(value):
        return " " * width
    marks = _HALVES_ACROSS if ascii else _EIGHTHS_ACROSS
    steps = len(marks) - 1
    filled = round(min(max(value, 0.0), 1.0) * width * steps)
    whole, part = divmod(filled, steps)
    return (marks[-1] * whole + (marks[part] if part else "")).ljust(width)


def spark(values: Sequence[float | None], width: int, top: float | None, *, ascii: bool = False) -> str:
    """Draw the last ``width`` values, a cell each with the newest on the right, on a scale from 0 to ``top``.

    Without ``top`` the largest value drawn is the top. Larger values fill their cell; negative ones are drawn as zero.
    """
    if width <= 0:
        return ""
    shown = values[-width:]
    if top is None:
        top = peak(shown)
    marks = _STEPS_UP if ascii else _EIGHTHS_UP
    return "".join(marks[_level(value, top, len(marks) - 1)] for value in shown).rjust(width)


def area(
    values: Sequence[float | None], width: int, height: int, top: float | None, *, ascii: bool = False
) -> list[str]:
    """Draw an area chart of ``width`` × ``height`` cells, uppermost row first, on a scale from 0 to ``top``.

    A cell holds two values side by side, four dots high each; in ASCII it shows the larger of the two in thirds. The
    last ``2 * width`` values are drawn, the newest on the right. Without ``top`` the largest value drawn is the top.
    """
    if width <= 0 or height <= 0:
        return [""] * max(height, 0)
    shown: list[float | None] = [None] * max(2 * width - len(values), 0)
    shown += values[-2 * width :]
    if top is None:
        top = peak(shown)
    steps = 3 if ascii else 4
    levels = [_level(value, top, steps * height) for value in shown]
    columns = [_column(a, b, height, ascii) for a, b in zip(levels[::2], levels[1::2], strict=True)]
    return ["".join(row) for row in zip(*columns, strict=True)]


@lru_cache(maxsize=4096)
def _column(left: int, right: int, height: int, ascii: bool) -> tuple[str, ...]:
    """The cells, uppermost first, of one column of an area in which two values have these levels."""
    steps = 3 if ascii else 4
    cells = []
    for floor in range(steps * (height - 1), -1, -steps):
        a, b = min(max(left - floor, 0), steps), min(max(right - floor, 0), steps)
        cells.append(_THIRDS_UP[max(a, b)] if ascii else _BRAILLE[a][b] if a or b else " ")
    return tuple(cells)


def peak(values: Sequence[float | None]) -> float:
    """Return the largest finite value, or 0 if none is larger."""
    return max([0.0, *(value for value in values if value is not None and math.isfinite(value))])


def nice_top(value: float) -> float:
    """Return the least of 1, 2, 5 × 10ⁿ that is not below the value; 1 for a value that is not positive and finite."""
    if not value > 0 or math.isinf(value):
        return 1.0
    exponent = math.floor(math.log10(value))
    for factor in (1, 2, 5, 10):
        # Through the decimal notation, so that 0.1, not 0.1 and a rounding error, is the top of 0.1.
        top = float(f"{factor}e{exponent}")
        if top >= value:
            return top
    return value


def _level(value: float | None, top: float, levels: int) -> int:
    """Return 0 for no value, else 1 … levels."""
    if value is None or math.isnan(value):
        return 0
    if value <= 0:
        return 1
    if value >= top:
        return levels
    return max(1, round(value / top * levels))
