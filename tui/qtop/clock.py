"""The two clocks: wall time for files and people, monotonic time for every difference."""

from __future__ import annotations

import time
from pathlib import Path


def wall() -> float:
    """Unix time in seconds."""
    return time.time()


def mono() -> float:
    """Seconds on a clock that never steps; only differences mean anything."""
    return time.monotonic()


def boot_id() -> str:
    """The kernel's id of this boot (source: /proc/sys/kernel/random/boot_id), or "" where it cannot be read."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
