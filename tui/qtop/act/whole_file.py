"""A file of text, replaced whole or not at all, and on disk when the call returns."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def spare_of(path: Path) -> Path:
    """What the file is called until it is whole: one name, so that what a killed qtop left is found again, and one that
    no program reads (source: sysctl.d(5), tmpfiles.d(5))."""
    return path.with_name(f".{path.name}.new")


def replace_whole(path: Path, text: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Give ``path`` this text (bytes that are no UTF-8 as surrogates), these permissions, and this user and group;
    OSError where that cannot be."""
    spare = spare_of(path)
    fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(fd, mode)
            if owner is not None:
                os.fchown(fd, *owner)
            data = text.encode(errors="surrogateescape")
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        spare.rename(path)
    except BaseException:
        with suppress(OSError):
            spare.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A name is on disk only once its folder is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
