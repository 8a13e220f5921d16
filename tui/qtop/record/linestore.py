"""A recording of gzip members of JSON lines, read: what qtop wrote before blocks (see ``frames``)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qtop.errors import QtopError
from qtop.record.inflate import find_member, read_lines, read_member
from qtop.record.intern import Interner
from qtop.record.opening import opened
from qtop.record.settings import Filler
from qtop.sample.codec import (
    EVENT_PREFIX,
    SAMPLE_PREFIX,
    Stamp,
    decode_event,
    decode_header,
    decode_sample,
    decode_stamp,
)
from qtop.sample.types import Event, Sample


class LineStore:
    """The members of a file; QtopError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bad: set[tuple[int, int]] = set()
        self._marks: list[tuple[int, float]] = []
        self._indexed = 0

    @property
    def skipped(self) -> int:
        """Places that could not be read, among those that were tried: a cut end, a damaged member or record."""
        return len(self._bad)

    def marks(self) -> list[tuple[int, float]]:
        """Offset and Unix time of the first sample of every member that holds one."""
        for _ in self._new_marks():
            pass
        return self._marks

    def has_samples(self) -> bool:
        """Whether there is any; looks no further than the first."""
        return bool(self._marks) or next(self._new_marks(), None) is not None

    def end(self) -> float:
        """Unix time of the last member's latest sample; 0 without one."""
        marks = self.marks()
        if not marks:
            return 0.0
        offset, first = marks[-1]
        return max((stamp.t for stamp in self._stamps(offset) if stamp.k == "s"), default=first)

    def records(self, begin: int, samples: bool, events: bool) -> Iterator[Sample | Event]:
        """Records from the member at offset ``begin`` on, as far as the file goes by then."""
        filler, interner = Filler(), Interner()
        for place, line in self._lines(begin):
            try:
                if line.startswith(SAMPLE_PREFIX):
                    record: Sample | Event | None = decode_sample(line) if samples else None
                elif line.startswith(EVENT_PREFIX):
                    record = decode_event(line) if events else None
                else:
                    record = _foreign(line, samples, events)
            except QtopError:
                self._bad.add(place)
                continue
            self._bad.discard(place)  # it may have been torn when it was looked at while being written
            if record is not None:
                yield interner.intern(filler.fill(record)) if isinstance(record, Sample) else record

    def _new_marks(self) -> Iterator[tuple[int, float]]:
        """The members that no look has found before, as they are found; the next look goes on from there."""
        with opened(self._path) as file:
            offset = (
                find_member(file, self._indexed) if self._indexed else 0
            )  # another gzip may have rewritten the first
            while offset is not None:
                t = _first_time(file, offset)
                following = find_member(file, offset + 1)
                if t is None and following is None:
                    return  # may still be growing: look again next time
                self._indexed = offset + 1
                if t is not None:
                    self._marks.append((offset, t))
                    yield self._marks[-1]
                offset = following

    def _stamps(self, start: int) -> Iterator[Stamp]:
        for _, line in self._lines(start):
            with contextlib.suppress(QtopError):
                yield decode_stamp(line)

    def _lines(self, start: int) -> Iterator[tuple[tuple[int, int], bytes]]:
        with opened(self._path) as file:
            for line in read_lines(file, start):
                place = (line.member, line.number)
                if line.data is None:
                    self._bad.add(place)
                elif line.data:
                    yield place, line.data


def _first_time(file: BinaryIO, offset: int) -> float | None:
    """Time of the first sample of the member at ``offset``; None if it has none, or is no member."""
    for line in read_member(file, offset):
        if line.data is None:
            return None
        try:
            stamp = decode_stamp(line.data)
        except QtopError:
            continue
        if stamp.k == "s" and math.isfinite(stamp.t):
            return stamp.t
    return None


def _foreign(line: bytes, samples: bool, events: bool) -> Sample | Event | None:
    """A line that was not written by this codec byte for byte (spaces, another order of keys); None for other kinds."""
    kind = decode_stamp(line).k
    if kind == "s":
        return decode_sample(line) if samples else None
    if kind == "e":
        return decode_event(line) if events else None
    if not kind:
        decode_header(line)  # of a second recording appended to the first; refused if newer
    return None
