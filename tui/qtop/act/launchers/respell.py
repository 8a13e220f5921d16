"""New words, written into what a manager of servers keeps: the command of a unit, of a container. Pure.

A process shows what became of a command: an interpreter before a script, variables filled in, an entrypoint that went
away. Its words end with those of the command, so what changes is looked up from the end; what does not change stays
as it is written, with its variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from qtop.errors import Refused


@dataclass(frozen=True)
class Token:
    """One word as it is written, and the words that it becomes: none or several where it is a variable."""

    raw: str
    words: tuple[str | re.Pattern[str], ...]
    """A pattern where only the manager knows what stands there."""


def literal(word: str) -> Token:
    """A word that means itself."""
    return Token(word, (word,))


def _is(found: str | re.Pattern[str], word: str) -> bool:
    return found == word if isinstance(found, str) else found.fullmatch(word) is not None


def common(tokens: Sequence[Token], argv: Sequence[str]) -> int:
    """How many words at the end of the process's are those at the end of the command's; whole tokens only."""
    words = list(argv)
    taken = 0
    for token in reversed(tokens):
        size = len(token.words)
        here = words[len(words) - taken - size : len(words) - taken]
        if len(here) != size or not all(map(_is, token.words, here)):
            break
        taken += size
    return taken


def respelled(
    tokens: Sequence[Token], old: Sequence[str], new: Sequence[str], own: int, quote: Callable[[str], str], what: str
) -> list[str]:
    """The command, as it is written, that makes of the process's ``old`` words the ``new`` ones.

    ``own`` is the place in ``old`` of the server's first own word (behind interpreter and program); ``what`` is how a
    person calls the place where the command is written. Errors: Refused where the words come from elsewhere.
    """
    tail = common(tokens, old)
    begin = len(old) - tail
    total = sum(len(token.words) for token in tokens)
    if (begin > own and tail < max(1, total - 1)) or list(new[:begin]) != list(old[:begin]):
        raise Refused(
            f"{what} does not hold the words to change: it starts the server through a script or a shell",
            "Change them there, then restart it.",
        )
    head, rest = _split(tokens, tail)
    kept = _kept(list(old[begin:]), list(new[begin:]))
    written = [token.raw for token in head]
    at = done = 0
    for token in rest:
        size = len(token.words)
        places = kept[at : at + size]
        if size and not _together(places):
            at += size  # it changes: what stands there is written below, before what comes next
            continue
        if size:
            first = places[0]
            assert first is not None
            written += [quote(word) for word in new[begin + done : begin + first]]
            done = first + size
        written.append(token.raw)
        at += size
    return written + [quote(word) for word in new[begin + done :]]


def _together(places: Sequence[int | None]) -> bool:
    """Whether all stay, one behind the other."""
    kept = [place for place in places if place is not None]
    return len(kept) == len(places) and all(b == a + 1 for a, b in pairwise(kept))


def _split(tokens: Sequence[Token], tail: int) -> tuple[list[Token], list[Token]]:
    """Those before the last ``tail`` words, and those that make these words."""
    at, left = len(tokens), tail
    while left > 0:
        at -= 1
        left -= len(tokens[at].words)
    return list(tokens[:at]), list(tokens[at:])


def _kept(old: list[str], new: list[str]) -> list[int | None]:
    """For each old word the place in the new ones where it stays, None where it goes."""
    places: list[int | None] = [None] * len(old)
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            places[block.a + step] = block.b + step
    return places
