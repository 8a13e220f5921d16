"""Files that only their owner may read, written to the last byte or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from qtop.errors import QtopError


def check_new(path: Path, overwrite: bool = False, recording: Path | None = None) -> None:
    """QtopError where ``create_private`` would refuse what is there now, or it is the ``recording`` that it is made of:
    for work that takes a while before."""
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
        if recording is not None and recording.exists() and path.samefile(recording):
            raise QtopError(f"{path} is the recording itself: choose another name")


def create_private(path: Path, overwrite: bool = False) -> int:
    """A descriptor of a new file that only its owner may read (0600); QtopError if that cannot be had.

    ``overwrite`` replaces a plain file, and nothing else, by a new one; whoever reads the old one keeps it.
    """
    check_new(path, overwrite)
    try:
        if overwrite:
            path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise QtopError(f"{path} exists: choose another name or pass --force") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise QtopError(f"cannot create {path}: {reason}") from None
    with contextlib.suppress(OSError):  # a filesystem without modes keeps what the mount gives
        os.fchmod(fd, 0o600)
    return fd


def write_new(path: Path, content: bytes, overwrite: bool = False) -> None:
    """A new file with this in it, for its owner only; QtopError where that cannot be had, and then no file is left."""
    fd = create_private(path, overwrite)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise QtopError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from None


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write every byte at this offset or raise OSError; a full disk may take a part first."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
