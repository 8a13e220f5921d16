"""What the memory modules could carry, by what the firmware says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qtop.model.cpu import MemoryView
from qtop.sample import Absent, Dimm, Reading, Why

CHANNEL_BYTES = 8
"""A channel is 64 bits wide (two of 32 on DDR5), whatever error correction adds."""
# "P0 CHANNEL A", "Controller1-ChannelB-DIMM0", "P1_Node0_Channel2_Dimm0"; "DIMM_A1", "CPU1_DIMM_C2", "P2-DIMMH1", "A1".
_NAMED = re.compile(r"^(.*)chan(?:nel)?[\s_-]*([A-Z]|\d{1,2})(?![A-Z0-9])", re.IGNORECASE)
_LETTERED = re.compile(r"^(.*?)(?:DIMM[\s_-]?|[\s_-]|^)([A-P])[\s_-]?(\d)$", re.IGNORECASE)


def memory_view(dimms: tuple[Dimm, ...] | Absent, slots: Reading[int]) -> MemoryView | Absent:
    """The modules together; the slowest counts, because all run at its pace."""
    if isinstance(dimms, Absent):
        return dimms
    if not dimms:
        return Absent(Why.UNSUPPORTED, "the firmware lists no memory module")
    channels = _channels(dimms)
    configured = _slowest(dimm.configured_mts for dimm in dimms)
    peak: Reading[float]
    if isinstance(channels, Absent):
        peak = channels
    elif isinstance(configured, Absent):
        peak = configured
    else:
        peak = channels * configured * 1e6 * CHANNEL_BYTES
    return MemoryView(
        modules=len(dimms),
        slots=slots,
        kind="/".join(sorted({dimm.kind for dimm in dimms if dimm.kind})),
        channels=channels,
        rated_mts=_slowest(dimm.rated_mts for dimm in dimms),
        configured_mts=configured,
        peak_bytes_s=peak,
    )


def _channels(dimms: Iterable[Dimm]) -> Reading[int]:
    """Different channels that the names tell; absent unless every module names its own."""
    found = set()
    for dimm in dimms:
        # A bank may name the channel and the slot the socket, or the other way round.
        match = _NAMED.match(dimm.bank) or _NAMED.match(dimm.locator)
        if match is not None:
            socket = match[1] if _NAMED.match(dimm.bank) is None else match[1] + _socket(dimm.locator)
        else:
            match = _LETTERED.match(dimm.locator)
            if match is None:
                return Absent(Why.UNSUPPORTED, "the board's names for its slots do not tell their channels")
            socket = match[1]
        found.add((socket.upper(), match[2].upper()))
    return len(found)


def _socket(locator: str) -> str:
    """The processor that a slot's name begins with ("P1-DIMMA1", "CPU0_DIMM_A1"), or ""."""
    found = re.match(r"(?:P|CPU|PROC|NODE)[\s_-]?\d+", locator, re.IGNORECASE)
    return found[0] if found else ""


def _slowest(speeds: Iterable[Reading[int]]) -> Reading[int]:
    slowest: int | None = None
    for speed in speeds:
        if isinstance(speed, Absent):
            return speed
        slowest = speed if slowest is None else min(slowest, speed)
    return slowest if slowest is not None else Absent(Why.UNSUPPORTED, "no module")
