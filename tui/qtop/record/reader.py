"""Recordings, read: lazily, past torn places, while they may still be written, in flat memory; those of every qtop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from qtop.errors import QtopError
from qtop.record.frames import MAGIC as FRAME_MAGIC
from qtop.record.framestore import FrameStore
from qtop.record.inflate import CHUNK, MAGIC, find_member, read_member
from qtop.record.linestore import LineStore
from qtop.record.opening import opened
from qtop.sample.codec import CONTAINER, Header, decode_header
from qtop.sample.types import Event, Sample

DAMAGED_HEADER = "the header of this recording is damaged: where it comes from is not known"


class Mark(NamedTuple):
    """A place to begin reading: offset in the file and Unix time of the first sample there."""

    offset: int
    t: float


class _Store(Protocol):
    @property
    def skipped(self) -> int: ...
    def marks(self) -> list[tuple[int, float]]: ...
    def has_samples(self) -> bool: ...
    def end(self) -> float: ...
    def records(self, begin: int, samples: bool, events: bool) -> Iterator[Sample | Event]: ...


class Recording:
    """A ``.qtop`` file. QtopError, one line, when it is not one, is newer than this qtop, or holds no sample.

    ``allow_empty`` takes one without samples too. Every iterator sees what is written by the time it gets there.
    """

    def __init__(self, path: Path, *, allow_empty: bool = False) -> None:
        self.path = path
        self.header: Header = self._read_header()
        self._store: _Store = FrameStore(path) if self.header.qtop == CONTAINER else LineStore(path)
        if not allow_empty and not self._store.has_samples():
            raise QtopError(f"{path} is empty: it holds no sample")

    @property
    def skipped(self) -> int:
        """What could not be read, among what was tried: records of the file, or, in files of an older qtop, places."""
        return self._store.skipped

    @property
    def indexed(self) -> bool:
        """Whether the places in it are found without reading all of it: files of an older qtop have no index."""
        return isinstance(self._store, FrameStore)

    @property
    def index(self) -> tuple[Mark, ...]:
        """The places that hold samples, in file order; a look at the file finds those added since the last look."""
        return tuple(Mark(offset, t) for offset, t in self._store.marks())

    @property
    def start(self) -> float:
        """Unix time of the first sample; 0 without one."""
        marks = self._store.marks()
        return marks[0][1] if marks else 0.0

    @property
    def end(self) -> float:
        """Unix time of the last sample; 0 without one."""
        return self._store.end()

    @property
    def duration(self) -> float:
        """Seconds from the first to the last sample."""
        return max(0.0, self.end - self.start)

    def samples(self) -> Iterator[Sample]:
        """All samples, in file order."""
        return self._samples(0)

    def events(self) -> Iterator[Event]:
        """All events, in file order; samples are passed over without decoding."""
        for record in self._store.records(0, samples=False, events=True):
            if isinstance(record, Event):
                yield record

    def records(self) -> Iterator[Sample | Event]:
        """Samples and events as they lie in the file."""
        return self._store.records(0, samples=True, events=True)

    def seek(self, t: float) -> Iterator[Sample]:
        """Samples from the last one at or before Unix time ``t`` on; from the first when all are later."""
        begin = 0
        for offset, first in self._store.marks():
            if first > t:
                break
            begin = offset
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

    def _samples(self, begin: int) -> Iterator[Sample]:
        for record in self._store.records(begin, samples=True, events=False):
            if isinstance(record, Sample):
                yield record

    def _read_header(self) -> Header:
        with opened(self.path) as file:
            begin = file.read(len(MAGIC))
            try:
                first = next(read_member(file, 0)) if begin.startswith(MAGIC[:3]) else None
            except StopIteration:
                first = None
            size = file.seek(0, os.SEEK_END)
            header = decode_header(first.data) if first is not None and first.data is not None else None
            framed = header is None and find_member(file, 0, FRAME_MAGIC) is not None
        if not begin:
            raise QtopError(f"{self.path} is empty: it holds no sample")
        if header is not None:
            return header
        if framed:
            return Header(created=0.0, qtop_version="", note=DAMAGED_HEADER, truncated=True)
        if (first is None or first.data is None) and MAGIC.startswith(begin) and size < CHUNK:
            raise QtopError(f"{self.path} is cut off before its first line: nothing of it can be read")
        raise QtopError(f"{self.path} is not a qtop recording")
