"""Times that a person names in a recording."""

from __future__ import annotations

from datetime import UTC, datetime

from qtop.errors import QtopError
from qtop.units import span_seconds

UNIX = 1e9
"""A number from here on is Unix time, below it seconds after the start."""


def moment(text: str, option: str, start: float) -> float:
    """Unix time out of "90", "5m" after the start, Unix or ISO 8601 time; without a zone it is UTC. QtopError where it
    is none of them."""
    text = text.strip()
    value = span_seconds(text.removeprefix("+"))
    if value is not None:
        return value if value >= UNIX and text[-1].isdigit() else start + value
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise QtopError(f"{option} is no time: {text}", "Give 90, 5m, Unix time or 2026-01-31T12:00:00Z.") from None
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
