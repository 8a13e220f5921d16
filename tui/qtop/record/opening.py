"""Opening a recording to read it, with one clear line when that fails."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qtop.errors import QtopError


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, for the body to read; QtopError when it cannot be opened or read, or is not a plain file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise QtopError(f"{path} is not a plain file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise QtopError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    except ValueError as error:  # a path with a NUL in it
        raise QtopError(f"cannot read {path}: {error}") from None
