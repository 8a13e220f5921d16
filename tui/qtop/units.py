"""Numbers as people read them, always with their unit; an absent reading is a dash, never a zero."""

from __future__ import annotations

import re
from typing import Any

NONE = "–"
GIB = float(1 << 30)
"""Bytes of a GiB."""
_MOST = 1e30
"""What is beyond it, infinite or NaN is no figure."""
_MIB = 1 << 20


def is_number(reading: Any) -> bool:
    """True for a reading that is there; absent ones are no numbers."""
    return isinstance(reading, (int, float)) and not isinstance(reading, bool) and -_MOST < reading < _MOST


def percent(share: Any, width: int = 0) -> str:
    """A share 0–1 as "31 %"; below 0.5 % as "0 %"."""
    text = f"{share * 100:.0f} %" if is_number(share) else NONE
    return text.rjust(width)


def span_seconds(text: str) -> float | None:
    """Seconds out of "90", "90s", "15m", "2h" or "1d"; None for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]] if found else None


def number(value: Any, width: int = 0) -> str:
    """A count or rate with a thin grouping: 1 225; one decimal below 10."""
    if not is_number(value):
        text = NONE
    elif abs(value) < 10 and value != int(value):
        text = f"{value:.1f}"
    else:
        text = f"{value:,.0f}".replace(",", " ")
    return text.rjust(width)


def milliseconds(value: Any) -> str:
    """ms with sensible digits, seconds from 10 s up."""
    if not is_number(value):
        return NONE
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{number(round(value))} ms" if value >= 100 else f"{value:.1f} ms"


def gib(size: Any) -> str:
    """Bytes as GiB with one decimal, no unit."""
    return f"{size / GIB:.1f}" if is_number(size) else NONE


def size(value: Any) -> str:
    """Bytes with a binary unit."""
    if not is_number(value):
        return NONE
    if value >= GIB:
        return f"{value / GIB:.1f} GiB"
    return f"{value / _MIB:.0f} MiB" if value >= _MIB else f"{value / 1024:.0f} KiB"


def rate_bytes(value: Any) -> str:
    """Bytes a second with a decimal unit."""
    if not is_number(value):
        return NONE
    if value >= 1e6:
        return f"{value / 1e6:.1f} MB/s"
    return f"{value / 1e3:.1f} kB/s" if value >= 1000 else f"{value:.0f} B/s"


def plural(count: int, noun: str) -> str:
    """ "1 sample", "12 samples"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """ "12 s", "3 min", "2h14m", "3d 4h"."""
    whole = int(max(0.0, seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"


def clock(seconds: float) -> str:
    """mm:ss, or h:mm:ss from an hour up."""
    whole = int(max(0.0, seconds))
    minutes, rest = divmod(whole, 60)
    return f"{minutes:02d}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
