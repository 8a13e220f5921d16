"""Lines and bands on a plane of cells: pure functions from numbers to characters.

A cell holds two dots across and four up (braille); in plain ASCII it holds one mark. Where several things meet in a
cell, the one drawn last gives its colour and, in ASCII, its mark.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ACROSS, UP = 2, 4
"""Dots of a cell."""
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""By column, the lowest first."""
_STACKS = tuple(
    tuple(tuple(sum(dots[first : last + 1]) for last in range(UP)) for first in range(UP)) for dots in _DOTS
)
"""By column, first and last dot: all from one to the other."""


@dataclass
class Plane:
    """``width`` × ``height`` cells; places are 0 to 1 from left to right and from bottom to top."""

    width: int
    height: int
    _cells: dict[tuple[int, int], tuple[int, str, str]] = field(default_factory=dict)
    """By row (0 is the uppermost) and column: its dots, pen, and mark in ASCII."""

    @property
    def columns(self) -> int:
        """Dots across."""
        return self.width * ACROSS

    def dot(self, column: int, up: float, pen: str, mark: str) -> None:
        """A dot in this column of dots; what lies outside is left out."""
        self.band(column, up, up, pen, mark)

    def band(self, column: int, low: float, high: float, pen: str, mark: str) -> None:
        """Every dot between two heights, cell by cell: a step of a slider draws thousands of dots."""
        if not 0 <= column < self.columns:
            return
        top = self.height * UP - 1
        first, last = max(0, round(low * top)), min(top, round(high * top))
        cells, across, stacks = self._cells, column // ACROSS, _STACKS[column % ACROSS]
        for cell in range(first // UP, last // UP + 1 if last >= first else 0):
            base = cell * UP
            key = (self.height - 1 - cell, across)
            before = cells[key][0] if key in cells else 0
            dots = stacks[max(0, first - base)][min(UP - 1, last - base)]
            cells[key] = (before | dots, pen, mark)

    def row(self, number: int, ascii: bool) -> list[tuple[str, str]]:
        """(text, pen) of a row's runs, the uppermost row is 0; blanks have the pen "text"."""
        runs: list[tuple[str, str]] = []
        for column in range(self.width):
            dots, pen, mark = self._cells.get((number, column), (0, "text", " "))
            char = mark if ascii else chr(0x2800 + dots) if dots else " "
            if runs and runs[-1][1] == pen:
                runs[-1] = (runs[-1][0] + char, pen)
            else:
                runs.append((char, pen))
        return runs
