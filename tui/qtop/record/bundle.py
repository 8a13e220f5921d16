"""A recording and what goes with it in one file that can be attached to a bug report."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from qtop.errors import QtopError
from qtop.record.files import create_private
from qtop.record.reader import Recording

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def bundle(recording: Path, out: Path, extra: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write ``out``, a .tar.gz with the recording and the ``extra`` files (name to content), for its owner only (0600).

    Entries carry no user name and no time but the recording's. One that is being written goes in as far as it is.
    QtopError when the recording is none, ``out`` exists, a name is not a plain file name, or the disk is full.
    """
    created = int(Recording(recording, allow_empty=True).header.created)
    folder = _stem(out.name)
    for name in extra:
        if not _NAME.fullmatch(name) or name == recording.name:
            raise QtopError(f"{name!r} cannot be a file in a bundle")
    if out.exists() and out.samefile(recording):
        raise QtopError(f"{out} is the recording itself: choose another name")
    fd = create_private(out, overwrite)
    try:
        with os.fdopen(fd, "wb") as target, tarfile.open(fileobj=target, mode="w:gz") as tar:
            with recording.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                tar.addfile(_entry(f"{folder}/{recording.name}", size, created), source)
            for name, content in extra.items():
                tar.addfile(_entry(f"{folder}/{name}", len(content), created), io.BytesIO(content))
    except (OSError, tarfile.TarError) as error:
        out.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise QtopError(f"cannot write {out}: {reason}") from None


def _entry(name: str, size: int, mtime: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, mtime, 0o600
    return entry


def _stem(name: str) -> str:
    for suffix in (".tar.gz", ".tgz"):
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-") or "qtop"
