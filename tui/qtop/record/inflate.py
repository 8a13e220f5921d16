"""Lines out of gzip members, past whatever is torn, in flat memory: recordings as they were before blocks (see
``frames``).

A member holds at most 60 lines, flushed after every line; the first line of the file is its header."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

MAGIC = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
"""How a member begins: gzip, deflate, no flags, no time (source: RFC 1952 §2.3; zlib writes it so)."""
GZIP_WBITS = 31
CHUNK = 1 << 16
MAX_OUT = 1 << 20
"""Bytes inflated at a time, so that a hostile file cannot fill the memory."""
MAX_LINE = 1 << 25
"""A longer line (32 MiB) is no record."""
_FLUSHED = b"\x00\x00\xff\xff"
"""How the compressed data ends after a sync flush (source: RFC 1951 §3.2.4, zlib manual)."""


class Line(NamedTuple):
    """One line of a member; ``data`` is None where the file is torn or damaged."""

    member: int
    """Offset of the member in the file, bytes."""
    number: int
    """From 0 within the member."""
    data: bytes | None


def read_lines(file: BinaryIO, start: int = 0) -> Iterator[Line]:
    """All complete lines from the member at offset ``start`` on; at a damaged place one Line without data."""
    member: int | None = start
    while member is not None:
        end = yield from read_member(file, member)
        if end is None:  # damaged: go on at the next member, if there is one
            member = find_member(file, member + 1)
            continue
        file.seek(end)
        member = end if file.read(1) else None


def read_member(file: BinaryIO, offset: int) -> Generator[Line, None, int | None]:
    """The complete lines of one member; returns where it ends, or None if it is damaged.

    A member that ends with the file, flushed but not finished, is whole: it is being written, or its writer was killed.
    """
    file.seek(offset)
    inflater = zlib.decompressobj(GZIP_WBITS)
    position, number, tail, last, skipping = offset, 0, b"", b"", False
    while not inflater.eof:
        chunk = file.read(CHUNK)
        if not chunk:
            if tail or (position > offset and last != _FLUSHED):
                yield Line(offset, number, None)
            return position
        position += len(chunk)
        last = (last + chunk)[-4:]
        while True:
            before, damaged = inflater.copy(), False
            try:
                text = inflater.decompress(chunk, MAX_OUT)
            except zlib.error:  # it keeps what it had inflated to itself
                text, damaged = _salvage(before, chunk), True
            chunk = inflater.unconsumed_tail
            *lines, tail = (tail + text).split(b"\n") if b"\n" in text else [tail + text]
            for line in lines:
                yield Line(offset, number, None if skipping else line)
                number, skipping = number + 1, False
            if damaged:
                yield Line(offset, number, None)
                return None
            if len(tail) > MAX_LINE:
                tail, skipping = b"", True
            if inflater.eof or (not chunk and len(text) < MAX_OUT):
                break
    if tail:
        yield Line(offset, number, None)
    return position - len(inflater.unused_data)


def _salvage(inflater: zlib._Decompress, chunk: bytes) -> bytes:
    """What can be inflated of a chunk before the damage, byte by byte."""
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(len(chunk)):
            out += inflater.decompress(chunk[at : at + 1], MAX_OUT)
    return bytes(out)


def find_member(file: BinaryIO, start: int, magic: bytes = MAGIC) -> int | None:
    """Offset of the next place at or after ``start`` that looks like the beginning of a member."""
    file.seek(start)
    base, window = start, b""
    while chunk := file.read(CHUNK):
        window += chunk
        found = window.find(magic)
        if found >= 0:
            return base + found
        keep = len(magic) - 1
        base += max(0, len(window) - keep)
        window = window[-keep:]
    return None
