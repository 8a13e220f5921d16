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
        "▚": "~", "▲": "^", "▼": "v", "◆": "*", "▂": "_", "▅": "=", "▸": ">", "◂": "<", "±": "~", "−": "-",
    }
)  # fmt: skip


_MOST_SEGMENTS = 2048
_NOTHING = Style(conceal=False)
"""Shows nothing, and is not Rich's null style, of which there is one only."""


class Look:
    """The pens in force, and whether only ASCII may be drawn.

    All that draws shares one look; ``use`` puts another scheme into it, and what is drawn from then on has its colours.
    """

    def __init__(self, scheme: Scheme, ascii: bool = False, colourless: bool = False) -> None:
        self.ascii = ascii
        self.colourless = colourless
        """NO_COLOR is set: no other scheme than the one without colours is to be used."""
        self._drawn: dict[int, tuple[Style, str, str]] = {}
        """What every style handed out was for, by its identity: the style (kept, so that this stays its own), pen,
        action."""
        self.use(scheme)

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
        self._styles: dict[tuple[str, str], Style] = {}
        self._segments: dict[tuple[str, str, str], Segment] = {}

    def seg(self, text: str, pen: str = "text", action: str = "") -> Segment:
        """A piece of a line; ``action`` makes it clickable."""
        key = (text, pen, action)
        segment = self._segments.get(key)
        if segment is None:  # most of a screen says the same again at the next tick
            if len(self._segments) >= _MOST_SEGMENTS:
                self._segments.clear()
            segment = self._segments[key] = Segment(self.plain(text), self._style(pen, action))
        return segment

    def again(self, line: Line) -> Line:
        """A line drawn with any scheme before, in the colours of this one."""
        return tuple(
            Segment(text, self._style(*self._drawn[id(style)][1:]))
            if id(style) in self._drawn
            else Segment(text, style)
            for text, style, _ in line
        )

    def _style(self, pen: str, action: str) -> Style:
        style = self._styles.get((pen, action))
        if style is None:
            drawn = self.scheme.pens[pen] + (Style(meta={"@click": action}) if action else _NOTHING)
            style = drawn.copy()  # Rich hands out one object for all that look the same
            self._styles[pen, action] = style
            self._drawn[id(style)] = (style, pen, action)
        return style

    def stage_char(self, name: str) -> str:
        """What a stage of the waterfall is filled with: client, network, frontend, queue, prefill, decode or
        cpu_wait.

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
