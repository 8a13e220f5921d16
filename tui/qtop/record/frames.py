"""The container: a gzip member with the header line, then frames, each a gzip member that says what it holds.

A frame is a row (one line as it was recorded) or a block (see ``block``) of some dozens of them. It carries its length
in the extra field of its gzip header, as BGZF does (source: SAM specification §4.1; RFC 1952 §2.3.1.1), so that a
reader goes from frame to frame without unpacking any; ``gzip -t`` checks a whole file, and an older qtop finds a header
that it understands: "recorded by a newer qtop". Records are numbered through: what is missing can be counted, and a row
is known to be in a block too.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from qtop.errors import QtopError
from qtop.record.block import MAX_RECORDS
from qtop.record.inflate import CHUNK, read_member
from qtop.record.inflate import MAGIC as HEADER_MAGIC
from qtop.sample.codec import decode_header

ROW, BLOCK = 1, 2
LEVELS = {ROW: 1, BLOCK: 6}
"""Of zlib. A block at level 6 takes 2 ms a minute, as small as zstd makes it; lzma saves 17 % and takes four times as
long to read. A row is replaced by a block within a minute."""
MAX_SIZE = 1 << 25
"""Bytes of a frame, unpacked (32 MiB): a longer one is not read."""
_FIELDS = struct.Struct("<BBHHIQdd")
"""Version, kind, records, events among them, bytes of the frame, number of the first record, Unix time of the first
sample and of the latest (NaN without samples)."""
_CHECK = struct.Struct("<I")
_TAG = b"QT"
_FIXED = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
"""gzip, deflate, with an extra field, no time, no system (source: RFC 1952 §2.3)."""
_EXTRA = _FIELDS.size + _CHECK.size
MAGIC = _FIXED + struct.pack("<H", 4 + _EXTRA) + _TAG + struct.pack("<H", _EXTRA)
"""How every frame begins."""
HEAD = len(MAGIC) + _EXTRA
MAX_HEADERS = 1000
"""Of recordings put one after another that are looked for, as each try unpacks."""
_BEGINNING = re.compile(re.escape(MAGIC) + b"|" + re.escape(HEADER_MAGIC))
VERSION = 1


class Frame(NamedTuple):
    """Where a frame is and what it holds."""

    offset: int
    size: int
    kind: int
    number: int
    """Of its first record, from 0 in a recording."""
    records: int
    events: int
    first: float
    """Unix time of its first sample; NaN if it has none."""
    last: float
    """Of the latest."""

    @property
    def end(self) -> int:
        """The number of the record after its last."""
        return self.number + self.records


class Seam(NamedTuple):
    """Not a frame: a header (recordings put one after another), or a place that cannot be read."""

    offset: int
    header: bool
    number: int = -1
    """The record that is cut off here, if its frame still tells."""


def make_frame(kind: int, content: bytes, number: int, count: int, events: int, times: list[float]) -> bytes:
    """A frame of ``count`` records from ``number`` on, of which ``events`` are events and the others samples at these
    Unix times."""
    packer = zlib.compressobj(LEVELS[kind], zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    tail = struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    first, last = (times[0], max(times)) if times else (math.nan, math.nan)
    size = HEAD + len(packed) + len(tail)
    fields = _FIELDS.pack(VERSION, kind, count, events, size, number, first, last)
    return b"".join((MAGIC, fields, _CHECK.pack(zlib.crc32(fields)), packed, tail))


def scan(file: BinaryIO, start: int, end: int) -> Iterator[Frame | Seam]:
    """What lies in the file from ``start`` on, without unpacking; bytes from ``end`` on are not looked at."""
    offset: int | None = start
    searched = start
    headers = 0
    while offset is not None and offset < end:
        frame = _head(file, offset)
        if frame is not None and offset + frame.size <= end:
            yield frame
            searched = offset + HEAD
            offset += frame.size
            continue
        behind = None
        if frame is None and headers < MAX_HEADERS:
            behind = _header_end(file, offset)
            headers += 1
        yield Seam(offset, behind is not None, -1 if frame is None else frame.number)
        # A frame that ends where none begins may be cut off itself: what follows it may lie within.
        offset = behind if behind is not None else _find(file, searched if searched < offset else offset + 1)
        searched = offset or end


def unpack(file: BinaryIO, frame: Frame) -> bytes:
    """What a frame holds. QtopError if it is damaged, or is no longer where it was."""
    file.seek(frame.offset)
    data = file.read(frame.size)
    there = _parsed(data[:HEAD], frame.offset)
    if there is None or there[:-2] != frame[:-2]:  # without the times: NaN is not even itself
        raise QtopError("a frame is gone")
    inflater = zlib.decompressobj(31)
    try:
        content = inflater.decompress(data, MAX_SIZE)
    except zlib.error as error:
        raise QtopError(f"a frame is damaged: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise QtopError("a frame is damaged")
    return content


def _find(file: BinaryIO, start: int) -> int | None:
    """Offset of the next place at or after ``start`` that looks like the beginning of a frame or a header."""
    file.seek(start)
    base, window = start, b""
    while chunk := file.read(CHUNK):
        window += chunk
        found = _BEGINNING.search(window)
        if found:
            return base + found.start()
        base += max(0, len(window) - len(MAGIC) + 1)
        window = window[-len(MAGIC) + 1 :]
    return None


def _head(file: BinaryIO, offset: int) -> Frame | None:
    file.seek(offset)
    return _parsed(file.read(HEAD), offset)


def _parsed(head: bytes, offset: int) -> Frame | None:
    if len(head) < HEAD or not head.startswith(MAGIC):
        return None
    fields = head[len(MAGIC) : -_CHECK.size]
    version, kind, count, events, size, number, first, last = _FIELDS.unpack(fields)
    if _CHECK.pack(zlib.crc32(fields)) != head[-_CHECK.size :] or version > VERSION or size < HEAD or not count:
        return None
    if kind not in LEVELS or events > count or count > MAX_RECORDS or number >= 1 << 62:
        return None
    return Frame(offset, size, kind, number, count, events, first, last)


def _header_end(file: BinaryIO, offset: int) -> int | None:
    """Where the header at this offset ends; None if there is none."""
    file.seek(offset)
    if file.read(len(HEADER_MAGIC)) != HEADER_MAGIC:
        return None
    lines = read_member(file, offset)
    try:
        data = next(lines).data
        if data is None or decode_header(data) is None:
            return None
        while next(lines).data is not None:
            pass
    except StopIteration as stop:
        return stop.value if isinstance(stop.value, int) else None
    except QtopError:  # of a newer qtop
        return None
    return None
