"""Values of a trace, of which nothing is certain: numbers may be text, null, NaN or missing."""

from __future__ import annotations

import math
from typing import Final

MISSING: Final = object()
"""Stands for a key that is not there, where null means something else."""
_LIMIT = 2**63


def number(value: object) -> float | None:
    """A finite number, also from text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def integer(value: object) -> int | None:
    """A whole number that fits 64 bits, also from text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() and abs(value) < _LIMIT else None
    if isinstance(value, str):
        text = value.strip()
        if len(text) > 20 or not text.removeprefix("-").isdecimal():
            return None
        value = int(text)
    return value if isinstance(value, int) and -_LIMIT <= value < _LIMIT else None


def mapping(value: object) -> dict[str, object]:
    """The object, or an empty one where it is something else."""
    return value if isinstance(value, dict) else {}
