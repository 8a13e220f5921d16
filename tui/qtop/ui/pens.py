"""Pens: a Rich style as the terminal sees it, and the shortest escape sequence from one style to the next."""

from __future__ import annotations

import re

from rich.color import Color, ColorSystem
from rich.style import Style

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that steer a terminal instead of being drawn."""

_ATTRIBUTES = (
    ("bold", "1", "22"),
    ("dim", "2", "22"),
    ("italic", "3", "23"),
    ("underline", "4", "24"),
    ("blink", "5", "25"),
    ("reverse", "7", "27"),
    ("strike", "9", "29"),
    # Terminals disagree on how to turn these off one by one, and 24 and 25 end two at once: left by a reset only.
    ("blink2", "6", ""),
    ("conceal", "8", ""),
    ("underline2", "21", ""),
    ("frame", "51", ""),
    ("encircle", "52", ""),
    ("overline", "53", ""),
)
_INTENSITY = 0b11
_RESET_ONLY = 0b1_1111_1000_0000
_SHOWS_ON_BLANK = 0b1_1110_0110_1000
"""Attributes that a blank cell shows: underline, reverse, strike, underline2, frame, encircle, overline."""
_MOST_PENS = 4096


class Pen:
    """One way of drawing a cell. A palette hands out the same object for the same look, so ``is`` compares looks."""

    __slots__ = ("attributes", "back", "blank", "fore", "link", "link_id", "steps")

    def __init__(self, attributes: int, fore: str, back: str, link: str, link_id: str) -> None:
        self.attributes = attributes
        self.fore = fore
        self.back = back
        self.link = link
        self.link_id = link_id
        shows = attributes & _SHOWS_ON_BLANK
        self.blank = (attributes if shows else 0, fore if shows else "", back, link)
        """What a blank cell shows of the look: no foreground, unless a line or reversed colours bring it in."""
        self.steps: dict[Pen, str] = {}

    def to(self, other: Pen) -> str:
        """Return the shortest sequence that turns this style into the other."""
        if self is other:
            return ""
        step = self.steps.get(other)
        if step is None:
            if len(self.steps) >= _MOST_PENS:
                self.steps.clear()
            step = self.steps[other] = self._step(other)
        return step

    def _step(self, other: Pen) -> str:
        full = [code for bit, (_, code, _) in enumerate(_ATTRIBUTES) if other.attributes >> bit & 1]
        full += [code for code in (other.fore, other.back) if code]
        sequence = ";".join(["0", *full]) if full else ""
        if not self.attributes & _RESET_ONLY:
            off = self.attributes & ~other.attributes
            on = other.attributes & ~self.attributes
            if off & _INTENSITY:  # 22 ends bold and dim alike
                on |= other.attributes & _INTENSITY
            codes = [code for bit, (_, _, code) in enumerate(_ATTRIBUTES) if off >> bit & 1]
            codes = list(dict.fromkeys(codes))
            codes += [code for bit, (_, code, _) in enumerate(_ATTRIBUTES) if on >> bit & 1]
            if self.fore != other.fore:
                codes.append(other.fore or "39")
            if self.back != other.back:
                codes.append(other.back or "49")
            delta = ";".join(codes)
            if not delta:
                return self._link_step(other)
            if len(delta) < len(sequence):
                sequence = delta
        return f"\x1b[{sequence}m" + self._link_step(other)

    def _link_step(self, other: Pen) -> str:
        if self.link == other.link:
            return ""
        return f"\x1b]8;id={other.link_id};{other.link}\x1b\\" if other.link else "\x1b]8;;\x1b\\"


PLAIN = Pen(0, "", "", "", "")
"""The style after a reset."""
UNKNOWN = Pen(_RESET_ONLY | 1 << len(_ATTRIBUTES), "", "", "", "")
"""The style of a terminal on which somebody else may have written: left by a reset, and like no other."""


class Palette:
    """Pens for Rich styles on a terminal of one colour system."""

    def __init__(self, system: ColorSystem) -> None:
        self.system = system
        self._by_style: dict[Style, Pen] = {}
        self._by_look: dict[tuple[int, str, str, str], Pen] = {(0, "", "", ""): PLAIN}

    def pen(self, style: Style | None) -> Pen:
        """Return the pen that draws the style; two styles that look the same on this terminal have the same pen."""
        if style is None:
            return PLAIN
        pen = self._by_style.get(style)
        if pen is None:
            if len(self._by_style) >= _MOST_PENS:  # a pen that comes back after this is another object, drawn once more
                self._by_style.clear()
                self._by_look = {(0, "", "", ""): PLAIN}
            pen = self._by_style[style] = self._make(style)
        return pen

    def _make(self, style: Style) -> Pen:
        attributes = sum(1 << bit for bit, (name, _, _) in enumerate(_ATTRIBUTES) if getattr(style, name))
        fore, back = self._colour(style.color, True), self._colour(style.bgcolor, False)
        link = style.link or ""
        if CONTROL.search(link):  # such an address could end the sequence that carries it
            link = ""
        look = (attributes, fore, back, link)
        pen = self._by_look.get(look)
        if pen is None:
            pen = self._by_look[look] = Pen(attributes, fore, back, link, style.link_id if link else "")
        return pen

    def _colour(self, color: Color | None, foreground: bool) -> str:
        if color is None or color.is_default:
            return ""
        return ";".join(color.downgrade(self.system).get_ansi_codes(foreground))
