"""Recordings as qtop wrote them before blocks: gzip members of at most 60 JSON lines, flushed after every line.

Such files open for ever: the tests make them with this.

After kill -9 everything but a torn last line can be read, by qtop and by zcat. A member restarts the compressor, so a
reader can begin at any of them; 60 lines cost about 2 % in size against one long stream.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import Protocol

import msgspec

from qtop.errors import QtopError
from qtop.record.files import create_private
from qtop.record.inflate import GZIP_WBITS
from qtop.sample import NOT_RECORDED, Absent, Sample, ServerInfo
from qtop.sample.codec import Header, encode_header

MEMBER_RECORDS = 60
LEVEL = 6
"""Of zlib: 0.6 ms and 6 kB for a sample of 50 kB; level 9 takes three times as long for 5 % less."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


def write_all(fd: int, data: bytes) -> None:
    """Write every byte or raise OSError; a full disk may take a part first."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class MemberFile:
    """A recording being written, one line at a time, in the caller's thread. OSError from ``append`` ends it.

    What a failing write left half done is cut off again, so the file keeps every line that was appended before.
    """

    def __init__(self, path: Path, header: Header, overwrite: bool = False) -> None:
        self.path = path
        self.bytes = 0
        """Length of the file so far."""
        self._records = 0
        self._compressor: _Compressor | None = None
        self._fd = create_private(path, overwrite)
        try:
            self.append(encode_header(msgspec.structs.replace(header, qtop=1)))
        except OSError as error:
            self.abandon()
            path.unlink(missing_ok=True)
            raise QtopError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from None

    def append(self, line: bytes) -> None:
        """Compress, flush and write one line (without its newline)."""
        if self._compressor is None:
            self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_WBITS)
            self._records = 0
        data = self._compressor.compress(line + b"\n") + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._records += 1
        if self._records >= MEMBER_RECORDS:
            data += self._compressor.flush(zlib.Z_FINISH)
            self._compressor = None
        self._write(data)

    @property
    def begins_member(self) -> bool:
        """True when the next line begins a member."""
        return self._compressor is None

    def unlinked(self) -> bool:
        """True when the file was removed while it was being written."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """End the last member and bring the file to the disk; OSError if that fails (all lines are still there)."""
        if self._fd < 0:
            return
        try:
            if self._compressor is not None:
                self._write(self._compressor.flush(zlib.Z_FINISH))
            with contextlib.suppress(OSError):  # EINVAL: a filesystem that cannot
                os.fsync(self._fd)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptor and write nothing more."""
        self._compressor = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.bytes)
            raise
        self.bytes += len(data)


class Thinner:
    """Leaves out what the sample before had too."""

    def __init__(self) -> None:
        self._last: ServerInfo | None = None
        self._thin: ServerInfo | None = None

    def thin(self, sample: Sample, begins_member: bool) -> Sample:
        """The sample as it is to be written."""
        server = sample.server
        if isinstance(server, Absent) or server.settings == NOT_RECORDED:
            return sample
        if begins_member or self._last is None or (server is not self._last and not _same(self._last, server)):
            self._last, self._thin = server, None
            return sample
        if self._thin is None or server is not self._last:
            self._last = server
            self._thin = msgspec.structs.replace(server, settings=NOT_RECORDED, settings_missing={})
        return msgspec.structs.replace(sample, server=self._thin)


def _same(one: ServerInfo, other: ServerInfo) -> bool:
    return (
        one.settings == other.settings
        and one.settings_missing == other.settings_missing
        and _identity(one) == _identity(other)
    )


def _identity(server: ServerInfo) -> tuple[object, ...]:
    return server.url, server.engine, server.pid, server.started
