"""The words of a server's command line, edited: a flag set, turned off or left out, everything else as it was. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from qtop.collect.config_in_force.command_line import spans
from qtop.collect.config_in_force.names import canonical
from qtop.collect.discover.servers import program
from qtop.collect.engine.argv import is_value
from qtop.errors import QtopError
from qtop.sample.secrets import is_secret_name, is_text_name

LEAVE_OUT = "default"
"""As a value: the flag is left out, and the server's own default holds."""
HOW = "Write it like --max-num-seqs=128 --no-enforce-eager; --flag=default leaves a flag out."
_FLAG = re.compile(r"--?[A-Za-z][\w.+-]*")
_NUMBER = re.compile(r"-\d+(\.\d+)?")


@dataclass(frozen=True)
class Edit:
    """One flag as it is wanted: as it is written, with its values; ``drop``: not there at all."""

    flag: str
    values: tuple[str, ...] = ()
    drop: bool = False

    @property
    def text(self) -> str:
        """As a person would write it."""
        if self.drop:
            return f"{self.flag}={LEAVE_OUT}"
        return " ".join([self.flag, *map(shlex.quote, self.values)])


def wanted(text: str) -> tuple[Edit, ...]:
    """What ``--flag=value --flag value --no-flag --flag=default`` asks for; QtopError where it cannot be meant."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise QtopError(f"not flags of a command line: {error}", HOW) from None
    edits: list[Edit] = []
    at = 0
    while at < len(words):
        flag, equals, value = words[at].partition("=")
        at += 1
        if not _FLAG.fullmatch(flag):
            raise QtopError(f"not a flag: {flag[:40]!r}", HOW)
        if is_secret_name(flag) or is_text_name(flag):
            raise QtopError(f"{flag} holds a key or somebody's text: qtop does not set it")
        values = [value] if equals else []
        while not equals and at < len(words) and is_value(words[at]):
            values.append(words[at])
            at += 1
        edits.append(Edit(flag, tuple(values), values == [LEAVE_OUT]))
    if not edits:
        raise QtopError("no flag is named", HOW)
    return tuple(edits)


def name_of(engine: str, flag: str) -> str:
    """The setting that a flag is about, whichever way it turns it: "--no-enforce-eager" is "enforce_eager"."""
    return canonical(engine, flag).removeprefix("no_")


def words_begin(argv: Sequence[str]) -> int:
    """The place of the first word that is the server's own: behind the interpreter, its options and the program."""
    rest = program(argv)[2]
    return len(argv) - len(rest)


def values_now(argv: Sequence[str], engine: str, name: str) -> list[list[str]]:
    """Each place where a setting is set, as the words that stand there."""
    begin = words_begin(argv)
    words = list(argv[begin:])
    return [words[a:b] for a, b, flag, _ in _spans(words, engine) if name_of(engine, flag) == name]


def edited(argv: Sequence[str], engine: str, edits: Sequence[Edit]) -> list[str]:
    """The command line with these flags: each where it stood first, else at the end, before a bare ``--``."""
    begin = words_begin(argv)
    head, words = list(argv[:begin]), list(argv[begin:])
    for edit in edits:
        words = _with(words, engine, edit)
    return head + words


def _with(words: list[str], engine: str, edit: Edit) -> list[str]:
    name = name_of(engine, edit.flag)
    found = [span for span in _spans(words, engine) if name_of(engine, span[2]) == name]
    if not found:
        if edit.drop:
            return words
        end = words.index("--") if "--" in words else len(words)
        return [*words[:end], *_written(edit, edit.flag, False), *words[end:]]
    first = found[0]
    attached = "=" in words[first[0]]
    # As it was spelled, underscores and short forms too, unless it is the other way round now.
    same = canonical(engine, first[2]) == canonical(engine, edit.flag)
    new = [] if edit.drop else _written(edit, first[2] if same else edit.flag, attached and same)
    out = list(words)
    for begin, end, *_ in reversed(found[1:]):
        del out[begin:end]
    out[first[0] : first[1]] = new
    return out


def _written(edit: Edit, flag: str, attached: bool) -> list[str]:
    """As words. A value that looks like a flag (a negative number does not) has to be attached."""
    if attached and len(edit.values) == 1:
        return [f"{flag}={edit.values[0]}"]
    if len(edit.values) == 1 and edit.values[0].startswith("-") and not _NUMBER.fullmatch(edit.values[0]):
        return [f"{flag}={edit.values[0]}"]
    return [flag, *edit.values]


def _spans(words: list[str], engine: str) -> list[tuple[int, int, str, list[str]]]:
    """The flags with their places, less a model that stands behind the last value of one (vllm serve -tp 2 MODEL)."""
    found = list(spans(words, engine))
    if engine != "vllm" or words[:1] != ["serve"] or (len(words) > 1 and is_value(words[1])):
        return found
    if any(canonical(engine, flag) == "model" for _, _, flag, _ in found):
        return found
    return [
        (a, a + 2, flag, values[:1]) if len(values) > 1 and b - a > 2 else (a, b, flag, values)
        for a, b, flag, values in found
    ]
