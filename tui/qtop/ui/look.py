"""How things look: the pens in force, in the colours of a palette, and plain ASCII for LANG=C."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from rich.cells import get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from qtop.locales import wants_ascii
from qtop.ui import themes
from qtop.ui.cells import clean
from qtop.ui.scheme import DISTINCT_FILLS, Scheme

Line = tuple[Segment, ...]

_PLAIN = str.maketrans(
    {
        "–": "-", "—": "-", "·": ".", "●": "*", "○": "o", "→": ">", "…": "~", "↓": "v", "↑": "^", "─": "-", "│": "|",
        "▌": "|", "█": "#", "■": "#", "▓": "+", "▒": "%", "░": ".", "×": "x", "°": " ", "≥": ">", "≤": "<",
        "◀": "<", "▶": ">", "⏸": "=", "µ": "u",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+",
        "┴": "+", "┼": "+", "━": "-", "┃": "|", "╸": "-", "╺": "-", "▁": "_", "▔": "-", "▎": "|", "▏": "|", "▕": "|",
        "▐": "|", "▀": "=", "▄": "_", "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "←": "<", "≈": "~", "∆": "d",
    }
)  # fmt: skip


class Look:
    """The pens in force, and whether only ASCII may be drawn.

    All that draws shares one look; ``use`` puts another scheme into it, and what is drawn from then on has its colours.
    """

    def __init__(self, scheme: Scheme, ascii: bool = False, colourless: bool = False) -> None:
        self.scheme = scheme
        self.ascii = ascii
        self.colourless = colourless
        """NO_COLOR is set: no other scheme than the one without colours is to be used."""

    @property
    def ansi(self) -> bool:
        """True when the terminal's own colours are used, or none: never 24-bit ones."""
        return self.scheme.kind != "truecolor"

    @property
    def pens(self) -> Mapping[str, Style]:
        """The pens by name."""
        return self.scheme.pens

    def use(self, scheme: Scheme) -> None:
        """Draw with another scheme from now on."""
        self.scheme = scheme

    def seg(self, text: str, pen: str = "text", action: str = "") -> Segment:
        """A piece of a line; ``action`` makes it clickable."""
        style = self.scheme.pens[pen]
        if action:
            style = style + Style(meta={"@click": action})
        return Segment(self.plain(text), style)

    def stage_char(self, name: str) -> str:
        """What a stage of the waterfall is filled with: client, frontend, queue, prefill, decode or cpu_wait.

        One cell wide. A solid block, cpu_wait hatched, where colours tell the stages apart; else one each.
        """
        fill = DISTINCT_FILLS[name]
        if not self.scheme.distinct and not self.ascii and name != "cpu_wait":
            fill = "█"
        return self.plain(fill)

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


class CursorFilter(LineFilter):
    """For schemes without a background of their own: reverses the row under the cursor.

    Textual's lists know colours only, so they are given a background that nothing else has: ``MARK``.
    """

    MARK = "bright_white"
    NUMBER = 15
    """Of the mark, among the 16 colours."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells, those on the mark in the terminal's colours, reversed."""
        return [Segment(segment.text, _unmarked(segment.style)) for segment in segments]


class ColourlessFilter(LineFilter):
    """Takes the colours out of all that is drawn. What had a background of its own (the row under the cursor, a scroll
    bar's thumb) is shown reversed."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells without colours."""
        return [Segment(segment.text, _colourless(segment.style)) for segment in segments]


_DEFAULT = Style(color="default", bgcolor="default")
_REVERSED = _DEFAULT + Style(reverse=True)


@lru_cache(1024)
def _unmarked(style: Style | None) -> Style | None:
    if style is None or style.bgcolor is None or style.bgcolor.number != CursorFilter.NUMBER:
        return style
    return style + _REVERSED


@lru_cache(1024)
def _colourless(style: Style | None) -> Style | None:
    if style is None or (style.color is None and style.bgcolor is None):
        return style
    back = style.bgcolor
    return style + (_DEFAULT if back is None or back.is_default else _REVERSED)


def choose(colour: str, environ: Mapping[str, str] | None = None, theme: str = "auto") -> Look:
    """The look for this terminal: the theme asked for, or with "auto" what suits it; without colours under NO_COLOR.

    QtopError when there is no such theme or its palette has a fault.
    """
    env = os.environ if environ is None else environ
    colourless = themes.colourless(env)
    name = "mono" if colourless else themes.suited(colour, env) if theme == "auto" else theme
    return Look(themes.load(name), wants_ascii(env), colourless)
