"""A recording of frames, read: an index without unpacking, then frame by frame, past damage, while it grows."""

from __future__ import annotations

import contextlib
import math
import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from qtop.clock import wall
from qtop.errors import QtopError
from qtop.record.block import Seen, decode_block, decode_events, decode_lines
from qtop.record.frames import BLOCK, ROW, Frame, Seam, scan, unpack
from qtop.record.intern import Interner
from qtop.record.opening import opened
from qtop.sample.codec import EVENT_PREFIX, SAMPLE_PREFIX, decode_event, decode_sample
from qtop.sample.types import Event, Sample

MAX_FRAMES = 1 << 18
"""Frames that are looked at: half a year of minutes. A file of more was made to fill the memory."""
_RECENT = 2.0
"""Seconds in which a file may change without showing it: the times of files are not that fine everywhere."""
_MISSED = 1 << 20
"""A gap in the numbers that is longer is damage in a number."""


class Entry(NamedTuple):
    """A frame and the recording it belongs to, from 0, where several were put one after another."""

    part: int
    frame: Frame

    @property
    def key(self) -> tuple[int, int]:
        """What a record in it is ordered by."""
        return self.part, self.frame.number


class FrameStore:
    """The frames of a file; QtopError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self._keys: list[tuple[int, int]] = []
        self._seams: list[Seam] = []
        self._seen_as: tuple[int, ...] = ()
        """Device, inode, length and time of change of the file when it was looked at."""
        self._settled = (0, 0, 0)
        """Up to where the index stays as it is: offset in the file, entries, seams."""
        self._missing: dict[tuple[int, int], int] = {}
        self._bad: dict[tuple[int, int], int] = {}

    @property
    def skipped(self) -> int:
        """Records that cannot be read: those missing in the file, and those tried in vain."""
        return sum(self._missing.values()) + sum(self._bad.values())

    def marks(self) -> list[tuple[int, float]]:
        """Offset and Unix time of the first sample of every frame that holds one."""
        self._look()
        return [(one.frame.offset, one.frame.first) for one in self._entries if math.isfinite(one.frame.first)]

    def has_samples(self) -> bool:
        """Whether there is any."""
        return bool(self.marks())

    def end(self) -> float:
        """Unix time of the last frame's latest sample; 0 without one."""
        self._look()
        for _, frame in reversed(self._entries):
            if math.isfinite(frame.last):
                return frame.last
        return 0.0

    def records(self, begin: int, samples: bool, events: bool) -> Iterator[Sample | Event]:
        """Records from the frame at offset ``begin`` on (0: from the first), as far as the file goes by then."""
        self._look()
        at = next((one.key for one in self._entries if one.frame.offset >= begin), None)
        seen: Seen = {}
        interner = Interner()
        while at is not None:
            entry = self._holding(at)
            if entry is None:
                return
            part, number = at = max(at, entry.key)
            try:
                found = self._decoded(entry, seen, interner, samples, events)
            except QtopError:
                self._look()
                if _same(self._holding(at), entry):  # it is not that it was being replaced
                    self._bad[entry.key] = entry.frame.records
                    at = (part, entry.frame.end)
                continue
            if entry.frame.number < number and len(found) == entry.frame.records:  # rows before were read one by one
                found = found[number - entry.frame.number :]
            yield from found
            at = (part, entry.frame.end)

    def _decoded(
        self, entry: Entry, seen: Seen, interner: Interner, samples: bool, events: bool
    ) -> list[Sample | Event]:
        frame = entry.frame
        if (frame.events == frame.records and not events) or (frame.events == 0 and not samples):
            return []
        with opened(self._path) as file:
            content = unpack(file, frame)
        found: list[Sample | Event] = []
        if frame.kind == ROW:
            found = [_decoded_line(content.rstrip(b"\n"))]
            self._bad.pop(entry.key, None)
        elif not samples:
            return list(decode_events(content))
        else:
            try:
                found = decode_block(content, seen)
                self._bad.pop(entry.key, None)
            except QtopError:
                found = self._line_by_line(entry, decode_lines(content))
        found = [interner.intern(one) if frame.kind == ROW and isinstance(one, Sample) else one for one in found]
        return found if events else [one for one in found if isinstance(one, Sample)]

    def _line_by_line(self, entry: Entry, lines: list[bytes]) -> list[Sample | Event]:
        """What can be read of a block in which something is no Sample."""
        found: list[Sample | Event] = []
        for line in lines:
            with contextlib.suppress(QtopError):
                found.append(_decoded_line(line))
        if len(found) == len(lines):
            self._bad.pop(entry.key, None)
        else:
            self._bad[entry.key] = len(lines) - len(found)
        return found

    def _holding(self, at: tuple[int, int]) -> Entry | None:
        """The frame with this record, or the first after it; looks at the file again where there is none."""
        for looked in (False, True):
            if looked:
                self._look()
            place = bisect_right(self._keys, at)
            if place and self._entries[place - 1].part == at[0] and self._entries[place - 1].frame.end > at[1]:
                return self._entries[place - 1]
            if place < len(self._keys):
                return self._entries[place]
        return None

    def _look(self) -> None:
        """Find the frames that are there now. What lies before the last block stays as it is; rows may be replaced."""
        with opened(self._path) as file:
            status = os.fstat(file.fileno())
            now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if now == self._seen_as and abs(wall() - status.st_mtime) > _RECENT:
                return
            if now[:2] != self._seen_as[:2] or status.st_size < self._settled[0]:
                self._settled = (0, 0, 0)
            self._seen_as = now
            start, entries, seams = self._settled
            del self._entries[entries:], self._seams[seams:]
            self._read_on(file, start, status.st_size)
        self._keys = [one.key for one in self._entries]
        self._missing = self._gaps()

    def _read_on(self, file: BinaryIO, start: int, size: int) -> None:
        found: list[Entry] = []
        torn = False
        part = self._entries[-1].part if self._entries else 0
        for one in scan(file, start, size):
            if len(self._entries) + len(self._seams) + len(found) >= MAX_FRAMES:
                self._seams.append(Seam(one.offset, False, one.number))
                break
            if isinstance(one, Seam):
                self._seams.append(one)
                part += one.header and bool(found or self._entries)
                torn |= not one.header
                continue
            found.append(Entry(part, one))
        whole = resolved(found)
        self._entries += whole
        if len(whole) == len(found) and not torn:  # else rows may be being replaced at this moment
            while whole and whole[-1].frame.kind == ROW:
                whole.pop()
            if whole:
                last = whole[-1].frame
                rows = len(found) - len(whole)
                self._settled = (last.offset + last.size, len(self._entries) - rows, len(self._seams))

    def _gaps(self) -> dict[tuple[int, int], int]:
        """How many records are missing, by place."""
        torn = [seam for seam in self._seams if not seam.header]
        if not torn and not self._entries:
            return {}
        missing: dict[tuple[int, int], int] = {}
        for (part, before), (later, after) in pairwise(self._entries):
            wanted = before.end if later == part else 0
            if after.number > wanted:
                missing[(later, wanted)] = min(after.number - wanted, _MISSED)
        if not torn:
            return missing
        if not self._entries:
            return {(0, 0): len(torn)}
        first, last = self._entries[0].frame, self._entries[-1].frame
        if first.number and torn[0].offset < first.offset:
            missing[(0, 0)] = min(first.number, _MISSED)
        end = last.offset + last.size
        if torn[-1].offset >= end and not 0 <= torn[-1].number < last.end:
            missing[(self._entries[-1].part, last.end)] = 1  # at least
        return missing


def resolved(found: list[Entry]) -> list[Entry]:
    """Each record once, in order: a block before the rows that it replaces, the later of two copies of a block."""
    blocks = {one.key: one for one in found if one.frame.kind == BLOCK}
    order = sorted(blocks)
    kept = {}
    for one in found:
        if one.frame.kind == BLOCK:
            if blocks[one.key] is one:
                kept[one.key] = one
            continue
        place = bisect_right(order, one.key)
        before = blocks[order[place - 1]] if place else None
        if before is None or before.part != one.part or before.frame.end <= one.frame.number:
            kept[one.key] = one
    return [kept[key] for key in sorted(kept)]


def _same(one: Entry | None, other: Entry) -> bool:
    return one is not None and one.part == other.part and one.frame[:-2] == other.frame[:-2]  # NaN is not even itself


def _decoded_line(line: bytes) -> Sample | Event:
    if line.startswith(SAMPLE_PREFIX):
        return decode_sample(line)
    if line.startswith(EVENT_PREFIX):
        return decode_event(line)
    raise QtopError("damaged record: of no known kind")
