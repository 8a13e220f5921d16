"""What a server's own command line says, read the way its parser reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def flag(argv: Sequence[str], *names: str) -> str | None:
    """The value of the last of these flags, "" if it stands there without one, None if it is not there.

    Understands "--a b", "--a=b" and underscores for dashes (as vLLM's parser does); nothing after a bare "--" counts.
    """
    wanted = {_spelled(x) for x in names}
    found: str | None = None
    for place, word in enumerate(argv):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if not name.startswith("-") or _spelled(name) not in wanted:
            continue
        if equals:
            found = value
        else:
            following = argv[place + 1] if place + 1 < len(argv) else "-"
            found = following if is_value(following) else ""
    return found


def integer(argv: Sequence[str], *names: str) -> int | None:
    """The flag's value as a number, None if it is absent or no number ("auto").

    vLLM writes counts as "32k" (32 000), "32K" (32 768) or "25.6k" (source: human_readable_int of its arg_utils).
    """
    match = re.fullmatch(r"(-?\d{1,15}(?:\.\d{1,9})?)([kmgtKMGT]?)", flag(argv, *names) or "")
    if match is None:
        return None
    number, unit = match.groups()
    if unit in _DECIMAL:
        return round(float(number) * _DECIMAL[unit])
    if "." in number:
        return None
    return int(number) * _BINARY.get(unit, 1)


def served_model(argv: Sequence[str]) -> str | None:
    """The name the model is served under: the first --served-model-name, else --model, else what follows "serve"."""
    named = flag(argv, "--served-model-name") or flag(argv, "--model")
    if named:
        return named
    words = list(argv)
    if "serve" not in words:
        return None
    following = words[words.index("serve") + 1 :]
    return following[0] if following and is_value(following[0]) else None


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def is_value(word: str) -> bool:
    """Whether a word is a value rather than a flag: negative numbers are values."""
    return not word.startswith("-") or re.fullmatch(r"-\d+(\.\d+)?", word) is not None
