"""How things look: a handful of pens, in the terminal's own 16 colours or in true colour, and plain ASCII for
LANG=C."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from qtop.locales import wants_ascii
from qtop.ui.cells import clean

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
