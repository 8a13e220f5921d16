"""For how long of the last ten seconds something held a GPU's clock down. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from qtop.sample import NOT_YET, Absent, GpuSample, Reading

SECONDS = 10.0
BITS = {"power_cap": 0x4, "sw_thermal": 0x20, "hw_thermal": 0x40, "power_brake": 0x80, "hw_slowdown": 0x8}
"""Clock event reasons (source: nvml.h 13.5); "hw_slowdown" is heat or brake, without a counter of its own."""


def held(window: Sequence[GpuSample]) -> dict[str, Reading[float]]:
    """Seconds of the last ten by limit: by the driver's ns counters where it has them (exact), else by reason bits, of
    which only those count that stood at two neighbouring readings. ``window`` ends with the sample of now."""
    if len(window) < 2:
        return dict.fromkeys(BITS, NOT_YET)
    new = window[-1]
    place = len(window) - 1
    while place > 0 and new.at - window[place - 1].at <= SECONDS + 0.5:
        place -= 1
    first = window[place]
    if first is new:
        return dict.fromkeys(BITS, NOT_YET)
    longest = new.at - first.at
    by_bits: dict[str, Reading[float]] | None = None
    found: dict[str, Reading[float]] = {}
    for name in BITS:
        now, then = new.reason_ns.get(name), first.reason_ns.get(name)
        if isinstance(now, int) and isinstance(then, int) and now >= then:
            found[name] = min(longest, (now - then) / 1e9)
            continue
        if by_bits is None:
            by_bits = _by_bits(window[place:])
        found[name] = by_bits[name]
    return found


def _by_bits(window: Sequence[GpuSample]) -> dict[str, Reading[float]]:
    last = window[-1].reasons
    if isinstance(last, Absent):
        return dict.fromkeys(BITS, last)
    seconds = dict.fromkeys(BITS, 0.0)
    for old, new in pairwise(window):
        both = 0 if isinstance(old.reasons, Absent) or isinstance(new.reasons, Absent) else old.reasons & new.reasons
        if both & ~1:  # more than "idle"
            for name, bit in BITS.items():
                if both & bit:
                    seconds[name] += new.at - old.at
    return dict(seconds)
