"""A recording and what goes with it in one file that can be attached to a bug report."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from qtop.errors import QtopError
from qtop.record.files import check_new, create_private
from qtop.record.reader import Recording

TRIES = 5
"""Of copying the recording without a change meanwhile; it changes once a second."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def bundle(recording: Path, out: Path, extra: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write ``out``, a .tar.gz with the recording and the ``extra`` files (name to content), for its owner only (0600).

    Entries carry no user name and no time but the recording's. One that is being written goes in as far as it is.
    QtopError when the recording is none, ``out`` exists, a name is not a plain file name, or the disk is full.
    """
    check_new(out, overwrite, recording)
    created = int(Recording(recording, allow_empty=True).header.created)
    folder = _stem(out.name)
    for name in extra:
        if not _NAME.fullmatch(name) or name == recording.name:
            raise QtopError(f"{name!r} cannot be a file in a bundle")
    fd = create_private(out, overwrite)
    try:
        with os.fdopen(fd, "wb") as target, tarfile.open(fileobj=target, mode="w:gz") as tar:
            with _still(recording) as source:
                size = source.seek(0, os.SEEK_END)
                source.seek(0)
                tar.addfile(_entry(f"{folder}/{recording.name}", size, created), source)
            for name, content in extra.items():
                tar.addfile(_entry(f"{folder}/{name}", len(content), created), io.BytesIO(content))
    except (OSError, tarfile.TarError) as error:
        out.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise QtopError(f"cannot write {out}: {reason}") from None


def _still(path: Path) -> BinaryIO:
    """A copy of the file, which may be growing: rows at its end are replaced by blocks, so what was copied while it
    changed is copied again."""
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    for _ in range(TRIES):
        copy.seek(0)
        copy.truncate()
        with path.open("rb") as source:
            before = os.fstat(source.fileno())
            shutil.copyfileobj(source, copy)
            after = os.fstat(source.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            break
    return copy


def _entry(name: str, size: int, mtime: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, mtime, 0o600
    return entry


def _stem(name: str) -> str:
    for suffix in (".tar.gz", ".tgz"):
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-") or "qtop"
