"""Which prompt somebody means: a preset's name, ``@FILE``, or the text itself."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from qtop.errors import QtopError
from qtop.probe.prompts import BY_NAME

MOST_BYTES = 4 * 2**20
"""Of a file: more than a million tokens, which no server takes."""
MARGIN = 64
"""Tokens left free of a full context: the tag, and what a chat template adds."""


@dataclass(frozen=True)
class Choice:
    """A prompt to send."""

    text: str
    name: str = ""
    """"" for a text of the user's."""
    fill: int = 0
    """Tokens it is to be lengthened to."""


def chosen(words: str, max_tokens: int, context: int | None) -> Choice:
    """The prompt that ``words`` name. ``context`` is what the server takes, prompt and answer together, in tokens, or
    None. QtopError for a file that cannot be read or a length that does not fit."""
    try:
        words.encode()
    except UnicodeEncodeError:
        raise QtopError("the prompt is not text in UTF-8", "Give it in a file: @FILE.") from None
    if words.startswith("@"):
        return Choice(read_prompt(words[1:]))
    preset = BY_NAME.get(words)
    if preset is None:
        if not words.strip():
            raise QtopError("the prompt is empty", f"Give a text, @FILE, or one of {', '.join(BY_NAME)}.")
        return Choice(words)
    if not preset.fits and not preset.fill:
        return Choice(preset.text, preset.name)
    room = None if context is None else context - max_tokens - MARGIN
    if preset.fits:
        if room is None:
            raise QtopError("this server does not say how long a prompt may be", "Choose 1k, 8k or 32k.")
        if room < MARGIN:
            raise QtopError(
                f"{max_tokens} tokens of answer leave no room for a prompt in a context of {context}",
                "Ask for a shorter answer.",
            )
        return Choice(preset.text, preset.name, room)
    if room is not None and preset.fill > room:
        raise QtopError(
            f"a prompt of {preset.fill} tokens and {max_tokens} of answer do not fit: this server takes {context}",
            "Choose a shorter one, or max for as much as fits.",
        )
    return Choice(preset.text, preset.name, preset.fill)


def read_prompt(name: str) -> str:
    """The text of a file; QtopError with one line where it cannot be read, is not text, or is above 4 MiB."""
    try:
        path = Path(name).expanduser()
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would be waited for
            raise QtopError(f"the prompt {name} is no file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise QtopError(f"cannot read the prompt {name}: {why}") from error
    if len(data) > MOST_BYTES:
        raise QtopError(f"the prompt {name} is larger than {MOST_BYTES // 2**20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QtopError(f"the prompt {name} is not text in UTF-8") from error
    if "\0" in text:
        raise QtopError(f"the prompt {name} is not text")
    if not text.strip():
        raise QtopError(f"the prompt {name} is empty")
    return text
