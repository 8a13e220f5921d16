"""Standard output and error made safe to write to: whatever the locale, whoever went away."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from qtop.errors import QtopError
from qtop.locales import wants_ascii

_LOOKALIKES = {
    "–": "-", "—": "-", "·": ".", "●": "*", "○": "o", "→": "->", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "µ": "u",
    "°": " ", "↓": "v", "↑": "^", "Δ": "d",
}  # fmt: skip
_HANDLER = "qtop-lookalike"


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: something alike, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_LOOKALIKES.get(char, "?") for char in error.object[error.start : error.end]), error.end


def person_environ() -> dict[str, str]:
    """The environment as the user set it: under LANG=C Python adds an LC_CTYPE of its own (source: PEP 538)."""
    environ = dict(os.environ)
    if "LC_CTYPE" in environ:
        try:
            first = Path("/proc/self/environ").read_bytes()
        except OSError:
            return environ
        if not any(entry.startswith(b"LC_CTYPE=") for entry in first.split(b"\0")):
            del environ["LC_CTYPE"]
    return environ


def prepare() -> None:
    """Make standard output and error take any text without an error; one that is closed becomes /dev/null."""
    codecs.register_error(_HANDLER, _lookalike)
    plain = wants_ascii(person_environ())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if plain else None, errors=_HANDLER)


def is_plain() -> bool:
    """True when standard output can show ASCII only."""
    try:
        "●".encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return True
    return False


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on standard output."""
    indent = 2 if sys.stdout.isatty() else None
    json.dump(document, sys.stdout, ensure_ascii=is_plain(), indent=indent)
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the person, on standard error; one that nobody can read any more (SSH dropped) is not missed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def must_answer(otherwise: str) -> None:
    """QtopError, with what to do instead, unless somebody can be asked."""
    if not sys.stdin.isatty():
        raise QtopError("there is no terminal to ask on", otherwise)


def asked(question: str, otherwise: str = "Pass --yes to apply, --dry-run to only look.") -> bool:
    """Yes, typed at the terminal; where there is none QtopError, with what to do instead."""
    must_answer(otherwise)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def drop_output() -> None:
    """Nothing more can be written to standard output: what is buffered goes nowhere, and the exit does not complain."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
