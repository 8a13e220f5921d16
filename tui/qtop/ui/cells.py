"""Text measured in terminal cells: made clean, cut, wrapped. Pure functions; East Asian wide characters take two."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len

_JOINERS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: printable by their class, and without a cell of their own."""


def clean(text: str) -> str:
    """Text from elsewhere, such that its cells can be counted: a control character is a blank, and what has no cell of
    its own (joiners, selectors, marks that turn the direction of writing) is left out."""
    if text.isprintable() and (text.isascii() or not _JOINERS.search(text)):
        return text
    return "".join(_clean(char) for char in text)


def _clean(char: str) -> str:
    if char.isprintable():
        return "" if _JOINERS.match(char) else char
    return "" if unicodedata.category(char) == "Cf" else " "


def width_of(text: str) -> int:
    """Cells a text takes once it is clean; East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    return _width_of_one(text) if len(text) == 1 else cell_len(clean(text))


@lru_cache(8192)
def _width_of_one(char: str) -> int:
    """An answer in Chinese is wrapped character by character, ten times a second."""
    return cell_len(clean(char))


def fit(text: str, width: int) -> str:
    """The text clean and cut to ``width`` cells, with … where something was cut."""
    text = clean(text)
    if width_of(text) <= width:
        return text
    return _head(text, width - 1) + "…" if width > 0 else ""


def _head(text: str, width: int) -> str:
    """As much of a clean text's beginning as takes at most ``width`` cells."""
    used = 0
    for at, char in enumerate(text):
        used += width_of(char)
        if used > width:
            return text[:at]
    return text


def fit_middle(text: str, width: int) -> str:
    """The text clean and cut to ``width`` cells in its middle: a long path gives way, not the end that says why."""
    text = clean(text)
    if width_of(text) <= width or width < 12:
        return fit(text, width)
    head = fit(text, width * 2 // 5)
    tail, room = "", width - width_of(head)
    for char in reversed(text):
        if width_of(char + tail) > room:
            break
        tail = char + tail
    return head + tail


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells; breaks at spaces where it can (CJK has none and breaks anywhere)."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, used = "", 0
        for word in _words(clean(paragraph.rstrip("\r"))):
            cells = width_of(word)
            if used and used + cells > width:
                lines.append(line.rstrip())
                line, used = "", 0
                word = word.lstrip()
                cells = width_of(word)
            while cells > width > 0:
                part = _head(word, width) or word[:1]
                lines.append(part)
                word = word[len(part) :]
                cells = width_of(word)
            line += word
            used += cells
        lines.append(line.rstrip())
    return lines


def _words(text: str) -> list[str]:
    """Pieces after which a line may break: words with their space before, wide characters alone."""
    words: list[str] = []
    word = ""
    for char in text:
        wide = width_of(char) > 1
        if (char == " " and word and not word.isspace()) or wide:
            if word:
                words.append(word)
            word = "" if wide else char
            if wide:
                words.append(char)
            continue
        word += char
    if word:
        words.append(word)
    return words
