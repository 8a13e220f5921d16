"""A picture of the terminal's cells, and the fewest bytes that bring the terminal from one picture to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment

from qtop.ui.pens import CONTROL, PLAIN, UNKNOWN, Palette, Pen

_NARROW_RANGES = (
    (0x20, 0x7E),
    (0xA0, 0xAC),
    (0xAE, 0x2FF),
    (0x370, 0x377),
    (0x37A, 0x37F),
    (0x400, 0x482),
    (0x2010, 0x2027),
    (0x2030, 0x205E),
    (0x2190, 0x21FF),
    (0x2200, 0x22FF),
    (0x2500, 0x25FC),
    (0x2800, 0x28FF),
)
"""What terminals draw one cell wide, as far as anybody who lays out text in cells can rely on it."""
_WIDE_RANGES = (
    (0x2E80, 0x3029),
    (0x3030, 0x303E),
    (0x3041, 0x3096),
    (0x30A1, 0x33FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0xA4C6),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFF01, 0xFF60),
)
"""East Asian characters, which every terminal draws two cells wide."""

_NARROW = frozenset(chr(code) for first, last in _NARROW_RANGES for code in range(first, last + 1))
_UNSURE = re.compile("[^" + "".join(f"{chr(a)}-{chr(b)}" for a, b in _NARROW_RANGES + _WIDE_RANGES) + "]")
"""A character on whose width terminals disagree: emoji, joiners, selectors, combining marks, unassigned code points."""

_LONGEST_GAP = 4


def cells(text: str) -> list[str]:
    """Split text into cells: a character with what joins it, then ``""`` for each further cell that it takes.

    Control characters are left out: text from a server must not be able to steer the terminal.
    """
    if _NARROW.issuperset(text):
        return list(text)
    clusters: list[str] = []
    joined = False
    for character in CONTROL.sub("", text):
        if clusters and (joined or not get_character_cell_size(character)):
            clusters[-1] += character
        else:
            clusters.append(character)
        joined = character == "\u200d"
    result: list[str] = []
    for cluster in clusters:
        if width := cell_len(cluster):
            result.append(cluster)
            result.extend([""] * (width - 1))
    # What the layout reserved is what counts, so that all that follows stays in its column.
    reserved = cell_len(text)
    if len(result) != reserved:
        result = _cut(result, reserved)
        result.extend(" " * (reserved - len(result)))
    return result


def _cut(row: list[str], width: int) -> list[str]:
    """Return the first ``width`` cells of a row; a character cut in half becomes blanks."""
    if width >= len(row):
        return row
    kept, next_cell = row[:width], row[width]
    index = width - 1
    while not next_cell and index >= 0:
        next_cell, kept[index] = kept[index], " "
        index -= 1
    return kept


class UnknownOutputError(Exception):
    """The update holds raw terminal output, whose effect on the cells cannot be known."""


class Canvas:
    """What a terminal of ``width`` × ``height`` cells shows, and the bytes that bring it to what it should show.

    A cell holds the character that starts there, ``""`` for the rest of a wide one, or None for not known; nothing is
    known of a new canvas.
    """

    def __init__(self, width: int, height: int, palette: Palette) -> None:
        self.width = width
        self.height = height
        self.palette = palette
        self._text: list[list[str | None]] = [[None] * width for _ in range(height)]
        self._pens: list[list[Pen]] = [[PLAIN] * width for _ in range(height)]
        self._changed: dict[int, list[tuple[int, int]]] = {}
        self._unsure: set[int] = set()
        self._x = self._y = -1  # where the terminal's cursor is; -1 for not known
        self._pen = UNKNOWN
        self._out: list[str] = []

    def put(self, x: int, y: int, segments: Iterable[Segment]) -> None:
        """Set cells from column ``x`` of row ``y`` on; what does not fit on the terminal is left out."""
        if not 0 <= y < self.height or not 0 <= x < self.width:
            return
        row, pens, spans = self._text[y], self._pens[y], self._changed.setdefault(y, [])
        if row[x] == "":  # the left part of a wide character goes with its right part
            self._blank(row, range(x - 1, -1, -1), spans)
        for text, style, control in segments:
            if control:
                raise UnknownOutputError
            pen = self.palette.pen(style)
            new = cells(text)
            if x + len(new) > self.width:
                new = _cut(new, self.width - x)
            end = x + len(new)
            old, old_pens = row[x:end], pens[x:end]
            if old != new or old_pens.count(pen) != len(new):
                spans.extend(_differences(x, old, new, old_pens, pen))
                row[x:end] = new
                pens[x:end] = [pen] * len(new)
            x = end
        if x < self.width and row[x] == "":
            index = x
            while index < self.width and row[index] == "":
                row[index] = " "
                index += 1
            spans.append((x, index))

    @staticmethod
    def _blank(row: list[str | None], indexes: Iterable[int], spans: list[tuple[int, int]]) -> None:
        for index in indexes:
            lead = row[index] != ""
            row[index] = " "
            spans.append((index, index + 1))
            if lead:
                return

    def flush(self, cursor: tuple[int, int] | None = None) -> str:
        """Return what makes the terminal show all that was put; "" if it does already.

        The cursor ends at (x, y) if one is asked for, else wherever the last cell was written; the style stays that of
        the last cell. A frame begins with an absolute move, so a message that another program has written across the
        screen shifts nothing.
        """
        changed = [y for y in sorted(self._changed) if self._changed[y]]
        if changed:
            self._x = self._y = -1
        for y in changed:
            self._write_row(y, sorted(self._changed[y]))
        self._changed.clear()
        if self._pen.link:  # an open link would take in whatever is written next
            self._out.append(self._pen.to(PLAIN))
            self._pen = PLAIN
        if cursor is not None:
            self._move(*cursor)
        sequence = "".join(self._out)
        self._out.clear()
        return sequence

    def _write_row(self, y: int, spans: list[tuple[int, int]]) -> None:
        row, pens = self._text[y], self._pens[y]
        line = "".join(filter(None, row))
        unsure = not line.isascii() and _UNSURE.search(line) is not None
        if unsure or y in self._unsure:
            # A character drawn wider than thought has covered its neighbours, so all of the line is written again.
            spans = list(_known(row))
        (self._unsure.add if unsure else self._unsure.discard)(y)
        start, end = spans[0]
        for next_start, next_end in spans[1:]:
            if next_start <= end or self._cheaper_to_write(row, pens, end, next_start):
                end = max(end, next_end)
            else:
                self._write_run(y, start, end, unsure)
                start, end = next_start, next_end
        self._write_run(y, start, end, unsure)

    @staticmethod
    def _cheaper_to_write(row: list[str | None], pens: list[Pen], end: int, start: int) -> bool:
        gap = row[end:start]
        if len(gap) > _LONGEST_GAP or None in gap or any(pen is not pens[end - 1] for pen in pens[end:start]):
            return False
        return len("".join(filter(None, gap)).encode()) <= (3 if len(gap) == 1 else 4)

    def _write_run(self, y: int, start: int, end: int, unsure: bool) -> None:
        row, pens = self._text[y], self._pens[y]
        while end < self.width and row[end] == "":
            end += 1
        self._move(start, y)
        index = start
        while index < end:
            pen, first = pens[index], index
            while index < end and pens[index] is pen:
                index += 1
            text = "".join(filter(None, row[first:index]))
            if self._pen is not pen and (pen.blank != self._pen.blank or not text.isspace() or not text.isascii()):
                self._out.append(self._pen.to(pen))
                self._pen = pen
            if unsure and _UNSURE.search(text):
                self._write_unsure(first, index, y)
            else:
                self._at(first, y)
                self._out.append(text)
                self._x = index if index < self.width else -1  # at the edge terminals differ on where the cursor is

    def _write_unsure(self, start: int, end: int, y: int) -> None:
        row = self._text[y]
        index = start
        while index < end:
            cluster, first = row[index] or " ", index
            index += 1
            while index < end and row[index] == "":
                index += 1
            self._at(first, y)
            if _UNSURE.search(cluster):
                # Blanks first, for a terminal that draws it narrower; a move after it, for one that draws it wider.
                self._out.append(" " * (index - first))
                self._x = self._y = -1
                self._at(first, y)
                self._x = self._y = -1
            else:
                self._x = index if index < self.width else -1
            self._out.append(cluster)

    def _at(self, x: int, y: int) -> None:
        if (x, y) != (self._x, self._y):
            self._move(x, y)

    def _move(self, x: int, y: int) -> None:
        if (x, y) == (self._x, self._y):
            return
        move = f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H" if y else "\x1b[H"
        if self._y == y:
            if x == 0:
                move = "\r"
            elif self._x >= 0:
                ahead = x - self._x
                relative = ("\x1b[C" if ahead == 1 else f"\x1b[{ahead}C") if ahead > 0 else ""
                relative = relative or ("\b" * -ahead if ahead >= -4 else f"\x1b[{-ahead}D")
                move = min(relative, move, key=len)
        elif self._y >= 0 and y == self._y + 1:
            if x == 0:
                move = "\r\n"  # with the \r, so that it is the same whether or not the line discipline adds one
            elif self._x == x:
                move = "\x1b[B"
        self._out.append(move)
        self._x, self._y = x, y


def _differences(
    x: int, old: list[str | None], new: list[str], old_pens: list[Pen], pen: Pen
) -> Iterator[tuple[int, int]]:
    """Yield the spans (start, end) of columns that look different, for cells from column ``x`` on."""
    start = -1
    for index, (was, now, was_pen) in enumerate(zip(old, new, old_pens, strict=True), x):
        if was == now and (was_pen is pen or (now == " " and was_pen.blank == pen.blank)):
            if start >= 0:
                yield start, index
                start = -1
        elif start < 0:
            start = index
    if start >= 0:
        yield start, x + len(new)


def _known(row: list[str | None]) -> Iterator[tuple[int, int]]:
    edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(row)) if (a is None) != (b is None)), len(row)]
    return ((start, end) for start, end in pairwise(edges) if row[start] is not None)
