"""The file format, written: gzip members of at most 60 JSON lines, flushed after every line.

After kill -9 everything but a torn last line can be read, by qtop and by zcat. A member restarts the compressor, so a
reader can begin at any of them; 60 lines cost about 2 % in size against one long stream.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from pathlib import Path
from typing import Protocol

from qtop.errors import QtopError
from qtop.sample.codec import Header, encode_header

MAGIC = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
"""How every member begins: gzip, deflate, no flags, no time (source: RFC 1952 §2.3; zlib writes it so)."""
MEMBER_RECORDS = 60
LEVEL = 6
"""Of zlib: 0.6 ms and 6 kB for a sample of 50 kB; level 9 takes three times as long for 5 % less."""
GZIP_WBITS = 31


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


def create_private(path: Path, overwrite: bool = False) -> int:
    """A descriptor of a new file that only its owner may read (0600); QtopError if that cannot be had.

    ``overwrite`` replaces a plain file, and nothing else, by a new one; whoever reads the old one keeps it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise QtopError(f"cannot create {path}: {os.strerror(error.errno or 0)}") from None
    else:
        if stat.S_ISDIR(mode):
            raise QtopError(f"{path} is a folder: name a file in it")
        if not overwrite:
            raise QtopError(f"{path} exists: choose another name or pass --force")
        if not stat.S_ISREG(mode):
            raise QtopError(f"{path} is not a plain file: choose another name")
    try:
        if overwrite:
            path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise QtopError(f"{path} exists: choose another name or pass --force") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise QtopError(f"cannot create {path}: {reason}") from None
    with contextlib.suppress(OSError):  # a filesystem without modes keeps what the mount gives
        os.fchmod(fd, 0o600)
    return fd


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
            self.append(encode_header(header))
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
