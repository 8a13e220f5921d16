"""What a view of a GPU needs from more than the last two samples: how long it has been under load, the last two of the
readings that come every few ticks, the errors seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from qtop.model.gpu_link import IDLE, is_loaded
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    GpuSample,
    GpuSection,
    GpuSlow,
    ProcessUse,
    Reading,
    UtilSamples,
    Why,
    Xid,
)

GAP_S = 5.0
"""Sections further apart than this do not belong together."""
UTIL_KEPT_S = 6.5
"""Utilization samples come every fifth tick where GPM is, the use by process always; after this time the last ones are
old."""
XIDS_KEPT = 32
LONG_S = 60.0
"""Load is counted up to here: nothing asks for more, and what counts without end can never be known by a look back."""
DUTY_S = 30.0
"""Span of the longer duty of each clock limit."""


class Track(msgspec.Struct, frozen=True):
    """One GPU, up to a section."""

    loaded_s: Reading[float] = NOT_YET
    """Seconds of unbroken load up to now, at most ``LONG_S``; absent while there is none."""
    slow_old: GpuSlow | None = None
    slow_new: GpuSlow | None = None
    util: UtilSamples | Absent = NOT_YET
    util_at: float = float("-inf")
    use: tuple[ProcessUse, ...] | Absent = NOT_RECORDED
    use_at: float = float("-inf")
    xids: tuple[Xid, ...] = ()
    window: tuple[GpuSample, ...] = ()
    """Samples of the last ``DUTY_S`` seconds, the latest last: counters over that time are the last less the first."""


NO_TRACK = Track()


class Carry(NamedTuple):
    """Of ``Tracks``, what does not fill by itself within a minute."""

    at: float | None
    tracks: Mapping[int, Track]


@dataclass(slots=True)
class Tracks:
    """Feed it sections in order; it remembers a little. The same live and in replay."""

    _by_index: dict[int, Track] = field(default_factory=dict)
    _at: float | None = None

    def clear(self) -> None:
        """After a gap: nothing that spans it counts, but errors stay."""
        self._by_index = {index: Track(xids=track.xids) for index, track in self._by_index.items()}
        self._at = None

    def carried(self) -> Carry:
        """All but the samples of the last half minute."""
        kept = {index: replace(track, window=()) for index, track in self._by_index.items()}
        return Carry(self._at, kept)

    def resume(self, carry: Carry) -> None:
        """Begin with what others have seen before."""
        self._at, self._by_index = carry.at, dict(carry.tracks)

    def push(self, section: GpuSection) -> Mapping[int, Track]:
        """The tracks up to this section, by index; lost GPUs keep theirs."""
        seconds = section.at - self._at if self._at is not None else 0.0
        if not 0.0 <= seconds <= GAP_S:
            self.clear()
            seconds = 0.0
        self._at = section.at
        for gpu in section.gpus:
            self._by_index[gpu.index] = _step(self._by_index.get(gpu.index, NO_TRACK), gpu, seconds)
        for xid in () if isinstance(section.xids, Absent) else section.xids:
            track = self._by_index.get(xid.index, NO_TRACK)
            self._by_index[xid.index] = replace(track, xids=(*track.xids, xid)[-XIDS_KEPT:])
        return dict(self._by_index)


def _step(track: Track, gpu: GpuSample, seconds: float) -> Track:
    loaded = is_loaded(gpu)
    if isinstance(loaded, Absent):
        loaded_s: Reading[float] = loaded
    elif loaded:
        loaded_s = 0.0 if isinstance(track.loaded_s, Absent) else min(LONG_S, track.loaded_s + seconds)
    else:
        loaded_s = IDLE
    old, new = track.slow_old, track.slow_new
    if isinstance(gpu.slow, Absent):
        old = new = None
    elif new is None or gpu.slow.at != new.at:
        old, new = new, gpu.slow
    util, util_at = track.util, track.util_at
    if isinstance(gpu.util_samples, UtilSamples):
        util, util_at = gpu.util_samples, gpu.at
    elif gpu.at - util_at > UTIL_KEPT_S:
        util = gpu.util_samples
    use, use_at = track.use, track.use_at
    if isinstance(gpu.process_use, tuple):
        use, use_at = gpu.process_use, gpu.at
    elif gpu.process_use != NOT_RECORDED or gpu.at - use_at > UTIL_KEPT_S:
        use = gpu.process_use
    window = (*track.window, gpu)
    while len(window) > 2 and gpu.at - window[1].at >= DUTY_S:
        window = window[1:]
    return Track(loaded_s, old, new, util, util_at, use, use_at, track.xids, window)


def lost_with_xids(section: GpuSection, tracks: Mapping[int, Track]) -> dict[str, Absent]:
    """Lost GPUs by index as text, each with the last critical error that was heard of it."""
    told = {}
    for index, why in section.lost.items():
        xids = tracks[int(index)].xids if index.isdigit() and int(index) in tracks else ()
        told[index] = Absent(why.why, f"{why.detail} (Xid {xids[-1].code})") if xids and why.why is Why.LOST else why
    return told
