"""How things look: a handful of pens, in the terminal's own 16 colours or in true colour, and plain ASCII for
LANG=C."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from qtop.locales import wants_ascii

Line = tuple[Segment, ...]

_ANSI = {
    "text": Style(),
    "label": Style(dim=True),
    "title": Style(bold=True),
    "rule": Style(dim=True),
    "good": Style(color="green"),
    "warn": Style(color="yellow"),
    "crit": Style(color="red", bold=True),
    "accent": Style(color="cyan"),
    "key": Style(color="cyan", bold=True),
    "crit_bar": Style(color="red", bold=True, reverse=True),
    "warn_bar": Style(color="yellow", bold=True, reverse=True),
}
_TRUE = {
    "text": Style(color="#c8ccd4"),
    "label": Style(color="#7a8290"),
    "title": Style(color="#e6e9ef", bold=True),
    "rule": Style(color="#3a414d"),
    "good": Style(color="#8fb573"),
    "warn": Style(color="#e0b35c"),
    "crit": Style(color="#e8706a", bold=True),
    "accent": Style(color="#6cb6d9"),
    "key": Style(color="#6cb6d9", bold=True),
    "crit_bar": Style(color="#1a1d23", bgcolor="#e8706a", bold=True),
    "warn_bar": Style(color="#1a1d23", bgcolor="#e0b35c", bold=True),
}
_PLAIN = str.maketrans(
    {
        "–": "-", "—": "-", "·": ".", "●": "*", "○": "o", "→": ">", "…": "~", "↓": "v", "↑": "^", "─": "-", "│": "|",
        "▌": "|", "█": "#", "■": "#", "▒": "%", "░": ".", "×": "x", "°": " ", "≥": ">", "≤": "<",
        "◀": "<", "▶": ">", "⏸": "=", "µ": "u",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+",
        "┴": "+", "┼": "+", "━": "-", "┃": "|", "╸": "-", "╺": "-", "▁": "_", "▔": "-", "▎": "|", "▏": "|", "▕": "|",
        "▐": "|", "▀": "-", "▄": "_", "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "←": "<", "≈": "~", "∆": "d",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The pens in force, and whether only ASCII may be drawn."""

    pens: Mapping[str, Style]
    ascii: bool = False
    ansi: bool = True

    def seg(self, text: str, pen: str = "text", action: str = "") -> Segment:
        """A piece of a line; ``action`` makes it clickable."""
        style = self.pens[pen]
        if action:
            style = style + Style(meta={"@click": action})
        return Segment(self.plain(text), style)

    def plain(self, text: str) -> str:
        """The text as this terminal can show it: no control characters ever, and ASCII alone under LANG=C."""
        text = clean(text)
        if self.ascii and not text.isascii():
            text = text.translate(_PLAIN)
            text = "".join(char if char.isascii() else "?" * get_character_cell_size(char) for char in text)
        return text


class AsciiFilter(LineFilter):
    """Brings all that is drawn to plain ASCII, what Textual draws itself (borders, scroll bars) included."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells in ASCII."""
        return [
            segment if segment.text.isascii() else Segment(self._look.plain(segment.text), segment.style)
            for segment in segments
        ]


def choose(colour: str, environ: Mapping[str, str] | None = None) -> Look:
    """The look for this terminal: ANSI over SSH unless asked otherwise, because escapes of 24-bit colour cost bytes."""
    env = os.environ if environ is None else environ
    ansi = colour == "ansi" or (
        colour == "auto" and ("SSH_CONNECTION" in env or env.get("COLORTERM") not in ("truecolor", "24bit"))
    )
    return Look(_ANSI if ansi else _TRUE, wants_ascii(env), ansi)


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
    return len(text) if text.isascii() else cell_len(clean(text))


def fit(text: str, width: int) -> str:
    """The text clean and cut to ``width`` cells, with … where something was cut."""
    text = clean(text)
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for char in text:
        cells = width_of(char)
        if used + cells > width - 1:
            break
        kept.append(char)
        used += cells
    return "".join(kept) + "…" if width > 0 else ""


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
                part = fit(word, width + 1).removesuffix("…") or word[:1]
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
