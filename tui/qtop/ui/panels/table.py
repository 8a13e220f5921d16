"""Rows in columns of fixed width: numbers keep their place, so a tick changes few cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment

from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look


@dataclass(frozen=True)
class Column:
    """``width`` cells; 0 takes what is left. ``least`` is the screen width from which it is shown."""

    name: str
    width: int
    right: bool = True
    least: int = 0


@dataclass(frozen=True)
class Cell:
    """A figure with its pen."""

    text: str
    pen: str = "text"
    action: str = ""


GAP = 2


def shown(columns: Sequence[Column], width: int) -> list[tuple[int, Column, int]]:
    """Place in the row, column and its width, of those that a screen of this width shows."""
    kept = [(place, column) for place, column in enumerate(columns) if width >= column.least]
    used = sum(column.width for _, column in kept) + GAP * (len(kept) - 1)
    flexible = [column for _, column in kept if not column.width]
    room = max(6, (width - used) // max(1, len(flexible)))
    return [(place, column, column.width or room) for place, column in kept]


def heading(look: Look, columns: Sequence[Column], width: int) -> Line:
    """The names of the columns."""
    return row(look, [Cell(column.name, "label") for column in columns], columns, width)


def row(look: Look, cells: Sequence[Cell], columns: Sequence[Column], width: int) -> Line:
    """One row; what does not fit its column is cut with …."""
    segments: list[Segment] = []
    for number, (place, column, room) in enumerate(shown(columns, width)):
        cell = cells[place]
        text = fit(cell.text, room)
        pad = " " * (room - width_of(text))
        if number:
            segments.append(look.seg(" " * GAP))
        if column.right:
            segments += [look.seg(pad), look.seg(text, cell.pen, cell.action)]
        else:
            segments += [look.seg(text, cell.pen, cell.action), look.seg(pad)]
    return tuple(segments)
