"""Recordings, read: lazily, past torn places, while they may still be written, in flat memory."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from qtop.errors import QtopError
from qtop.record.inflate import CHUNK, find_member, read_lines, read_member
from qtop.record.intern import Interner
from qtop.record.members import MAGIC
from qtop.record.settings import Filler
from qtop.sample.codec import (
    EVENT_PREFIX,
    SAMPLE_PREFIX,
    Header,
    Stamp,
    decode_event,
    decode_header,
    decode_sample,
    decode_stamp,
)
from qtop.sample.types import Event, Sample


class Mark(NamedTuple):
    """A place to begin reading: offset of a member and Unix time of its first sample."""

    offset: int
    t: float


class Recording:
    """A ``.qtop`` file. QtopError, one line, when it is not one, is newer than this qtop, or holds no sample.

    ``allow_empty`` takes one without samples too. Every iterator opens the file anew and sees what is written by then.
    """

    def __init__(self, path: Path, *, allow_empty: bool = False) -> None:
        self.path = path
        self._bad: set[tuple[int, int]] = set()
        self._marks: list[Mark] = []
        self._indexed = 0
        self.header: Header = self._read_header()
        if not allow_empty and next(self._new_marks(), None) is None:
            raise QtopError(f"{path} is empty: it holds no sample")

    @property
    def skipped(self) -> int:
        """Places that could not be read, among those that were tried: a cut end, a damaged member or record."""
        return len(self._bad)

    @property
    def index(self) -> tuple[Mark, ...]:
        """The members that hold samples, in file order; a look at the file finds those added since the last look."""
        for _ in self._new_marks():
            pass
        return tuple(self._marks)

    @property
    def start(self) -> float:
        """Unix time of the first sample; 0 without one."""
        marks = self.index
        return marks[0].t if marks else 0.0

    @property
    def end(self) -> float:
        """Unix time of the last sample; 0 without one."""
        marks = self.index
        if not marks:
            return 0.0
        return max((stamp.t for stamp in self._stamps(marks[-1].offset) if stamp.k == "s"), default=marks[-1].t)

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the last."""
        return max(0.0, self.end - self.start)

    def samples(self) -> Iterator[Sample]:
        """All samples, in file order."""
        return self._samples(0)

    def events(self) -> Iterator[Event]:
        """All events, in file order; samples are passed over without decoding."""
        for record in self._records(0, samples=False):
            if isinstance(record, Event):
                yield record

    def records(self) -> Iterator[Sample | Event]:
        """Samples and events as they lie in the file."""
        return self._records(0)

    def seek(self, t: float) -> Iterator[Sample]:
        """Samples from the last one at or before Unix time ``t`` on; from the first when all are later."""
        begin = 0
        for mark in self.index:
            if mark.t > t:
                break
            begin = mark.offset
        held: Sample | None = None
        rest = self._samples(begin)
        for sample in rest:
            if sample.t > t:
                if held is not None:
                    yield held
                yield sample
                yield from rest
                return
            held = sample
        if held is not None:
            yield held

    def _new_marks(self) -> Iterator[Mark]:
        """The members that no look has found before, as they are found; the next look goes on from there."""
        with self._open() as file:
            offset = (
                find_member(file, self._indexed) if self._indexed else 0
            )  # another gzip may have rewritten the first
            while offset is not None:
                t = self._first_time(file, offset)
                following = find_member(file, offset + 1)
                if t is None and following is None:
                    return  # may still be growing: look again next time
                self._indexed = offset + 1
                if t is not None:
                    self._marks.append(Mark(offset, t))
                    yield self._marks[-1]
                offset = following

    def _samples(self, start: int) -> Iterator[Sample]:
        for record in self._records(start, events=False):
            if isinstance(record, Sample):
                yield record

    def _records(self, start: int, samples: bool = True, events: bool = True) -> Iterator[Sample | Event]:
        filler, interner = Filler(), Interner()
        for place, line in self._lines(start):
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

    def _stamps(self, start: int) -> Iterator[Stamp]:
        for _, line in self._lines(start):
            with contextlib.suppress(QtopError):
                yield decode_stamp(line)

    def _lines(self, start: int) -> Iterator[tuple[tuple[int, int], bytes]]:
        with self._open() as file:
            try:
                for line in read_lines(file, start):
                    place = (line.member, line.number)
                    if line.data is None:
                        self._bad.add(place)
                    elif line.data:
                        yield place, line.data
            except OSError as error:
                raise QtopError(f"cannot read {self.path}: {os.strerror(error.errno or 0)}") from None

    @contextlib.contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # opening a pipe would wait for ever
                raise QtopError(f"{self.path} is not a plain file")
            file = self.path.open("rb")
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise QtopError(f"cannot read {self.path}: {reason}") from None
        with file:
            yield file

    def _read_header(self) -> Header:
        with self._open() as file:
            try:
                begin = file.read(len(MAGIC))
                first = next(read_member(file, 0)) if begin.startswith(MAGIC[:3]) else None
            except OSError as error:
                raise QtopError(f"cannot read {self.path}: {os.strerror(error.errno or 0)}") from None
            except StopIteration:
                first = None
            size = file.seek(0, os.SEEK_END)
        if not begin:
            raise QtopError(f"{self.path} is empty: it holds no sample")
        header = decode_header(first.data) if first is not None and first.data is not None else None
        if header is not None:
            return header
        if (first is None or first.data is None) and MAGIC.startswith(begin) and size < CHUNK:
            raise QtopError(f"{self.path} is cut off before its first line: nothing of it can be read")
        raise QtopError(f"{self.path} is not a qtop recording")

    def _first_time(self, file: BinaryIO, offset: int) -> float | None:
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
