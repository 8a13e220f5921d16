"""A recording being written: each record at once as a row, and every minute of rows replaced by one block.

After kill -9 at any instant every record that was appended can be read from the file alone: the block is written behind
the rows first, then over them, and then the file ends after it. Nothing but this file is needed, no lock and no log; a
copy of its beginning is a recording. SQLite with the same rows and blocks (``scripts/bench_containers.py``) takes as
much CPU and bears a flipped byte as well, but writes four to six times as much, reads less of a file that was cut off
(39 % of the samples against 55 %, cut anywhere), with its log lacks up to a minute in the main file alone, and with its
journal must be locked, which network file systems may hang in.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec

from qtop.errors import QtopError
from qtop.record.block import encode_block
from qtop.record.files import create_private, write_at
from qtop.record.frames import BLOCK, ROW, make_frame
from qtop.record.inflate import GZIP_WBITS
from qtop.sample.codec import CONTAINER, SAMPLE_PREFIX, Header, decode_stamp, encode_header

BLOCK_RECORDS = 60
BLOCK_BYTES = 1 << 23
"""A block is made before 60 records where they are longer than this together (8 MiB), so that it can be read in bounded
memory."""
DROP_SHARE = 0.25
"""Of the blocks at least, or old ones stay: what is left has to be copied."""
_COPY = 1 << 20


class _Block(NamedTuple):
    """A block, or the rows that stayed in its place."""

    offset: int
    last: float
    """Unix time of its latest sample; of its latest event without samples."""


class BlockFile:
    """Appends records in the caller's thread. OSError from ``append`` ends it.

    What a failing write left half done is cut off again, so the file keeps every record that was appended before.
    """

    def __init__(self, path: Path, header: Header, overwrite: bool = False) -> None:
        self.path = path
        self.bytes = 0
        """Length of the file so far."""
        self._lines: list[bytes] = []
        """Of the rows at the end of the file."""
        self._times: list[float] = []
        """Unix times of the samples among them."""
        self._rows_at = 0
        self._held = 0
        """Bytes of these lines."""
        self._number = 0
        self._latest = 0.0
        self._blocks: deque[_Block] = deque()
        self._fd = create_private(path, overwrite)
        own = msgspec.structs.replace(header, qtop=CONTAINER)  # it may come from an older recording
        packer = zlib.compressobj(9, zlib.DEFLATED, GZIP_WBITS)
        self._header = packer.compress(encode_header(own) + b"\n") + packer.flush()
        try:
            self._write(self._header)
        except OSError as error:
            self.abandon()
            path.unlink(missing_ok=True)
            raise QtopError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from None

    def append(self, line: bytes) -> None:
        """Compress and write one encoded sample or event."""
        if not self._lines:
            self._rows_at, self._held = self.bytes, 0
        is_sample = line.startswith(SAMPLE_PREFIX)
        self._latest = t = decode_stamp(line).t
        times = [t] if is_sample else []
        self._write(make_frame(ROW, line + b"\n", self._number, 1, 1 - len(times), times))
        self._number += 1
        self._lines.append(line)
        self._times += times
        self._held += len(line)
        if len(self._lines) >= BLOCK_RECORDS or self._held >= BLOCK_BYTES:
            self._compact()

    def unlinked(self) -> bool:
        """True when the file was removed while it was being written."""
        return os.fstat(self._fd).st_nlink == 0

    def drop_before(self, t: float) -> bool:
        """Let blocks go that ended before Unix time ``t``, if they are a fourth of all or more; whether any went.

        A file without them takes the place of this one, so it costs a copy of what stays: nearly nothing, once in a
        while. Whoever reads the old file keeps it. OSError where there is no room for the copy; the old one stays then.
        """
        gone = 0
        while gone < len(self._blocks) and self._blocks[gone].last < t:
            gone += 1
        return self._drop(gone)

    def drop_to(self, most: int) -> bool:
        """Let the oldest blocks go where the file is longer than ``most`` bytes, until it is a fourth shorter than
        that; whether any went. As ``drop_before``, with OSError where there is no room for the copy."""
        gone, end = 0, self._end_of_blocks()
        if self.bytes <= most:
            return False
        while gone < len(self._blocks):
            gone += 1
            begin = self._blocks[gone].offset if gone < len(self._blocks) else end
            if self.bytes - (begin - len(self._header)) <= most * (1 - DROP_SHARE):
                break
        return self._drop(gone)

    def _drop(self, gone: int) -> bool:
        """So many of the oldest blocks."""
        if not gone:
            return False
        begin = self._blocks[gone].offset if gone < len(self._blocks) else self._end_of_blocks()
        freed = begin - len(self._header)
        if freed < DROP_SHARE * self._end_of_blocks() or not self._in_place():
            return False
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            fd = create_private(part, overwrite=True)
        except QtopError as error:
            raise OSError(0, str(error)) from None
        try:
            write_at(fd, self._header, 0)
            for at in range(begin, self.bytes, _COPY):
                write_at(fd, os.pread(self._fd, min(_COPY, self.bytes - at), at), at - freed)
            os.fsync(fd)
            part.replace(self.path)
        except OSError:
            os.close(fd)
            part.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd, self.bytes, self._rows_at = fd, self.bytes - freed, self._rows_at - freed
        self._blocks = deque(block._replace(offset=block.offset - freed) for block in list(self._blocks)[gone:])
        return True

    def close(self) -> None:
        """Make the last block and bring the file to the disk; OSError if that fails (all records are still there)."""
        if self._fd < 0:
            return
        try:
            self._compact()
            self._sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptor and write nothing more."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def _compact(self) -> None:
        """Put one block in the place of the rows. Where that would not be smaller, or fails, they stay."""
        lines, times, end = self._lines, self._times, self.bytes
        if not lines:
            return
        self._lines, self._times = [], []
        self._blocks.append(_Block(self._rows_at, max(times, default=self._latest)))
        content = encode_block(lines)
        if content is None:
            return
        events = len(lines) - len(times)
        block = make_frame(BLOCK, content, self._number - len(lines), len(lines), events, times)
        if len(block) > end - self._rows_at:
            return
        with contextlib.suppress(OSError):  # every record can be read, whichever step failed; the next append tells
            self._write(block)
            self._sync()  # before the rows go: after a crash of the machine one of the two is there
            write_at(self._fd, block, self._rows_at)
            os.ftruncate(self._fd, self._rows_at + len(block))
            self.bytes = self._rows_at + len(block)

    def _end_of_blocks(self) -> int:
        return self._rows_at if self._lines else self.bytes

    def _in_place(self) -> bool:
        """Whether the file is still the one under its name."""
        with contextlib.suppress(OSError):
            return os.path.samestat(self.path.lstat(), os.fstat(self._fd))
        return False

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # EINVAL: a filesystem that cannot
            os.fdatasync(self._fd)

    def _write(self, data: bytes) -> None:
        try:
            write_at(self._fd, data, self.bytes)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.bytes)
            raise
        self.bytes += len(data)
