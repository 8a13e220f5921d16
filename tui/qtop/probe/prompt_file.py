"""A prompt from a file: text, and not too much of it."""

from __future__ import annotations

import stat
from pathlib import Path

from qtop.errors import QtopError

MOST_BYTES = 4 << 20


def read_prompt(path: str) -> str:
    """The text of a file; QtopError with one line where it cannot be read, is not text, or is above 4 MiB."""
    try:
        file = Path(path).expanduser()
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe or a device would be waited for
            raise QtopError(f"{path} is no file")
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise QtopError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise QtopError(f"{path} is larger than 4 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise QtopError(f"{path} is not text (UTF-8)") from None
    if "\0" in text:
        raise QtopError(f"{path} is not text")
    if not text.strip():
        raise QtopError(f"{path} is empty")
    return text
