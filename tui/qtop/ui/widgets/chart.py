"""A chart over time that costs few bytes to keep up to date over SSH."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip

from qtop.ui.plain import Ground, Plain
from qtop.ui.widgets.marks import area, nice_top, peak

_PER_CELL = 2
_MOST_BUCKETS = 2048
_COLUMNS_PER_JUMP = 8
"""A move redraws most of a chart of values that change (one cell every 2 s: 120 B/s at 40 × 4 cells), so it is rare."""
_SHRINK_BELOW = 0.3
"""An automatic scale comes down when the highest value is under this part of it: one that wavers redraws everything."""


class TimeChart(Plain):
    """An area chart with time running to the right, two buckets a cell, as many rows high as its style says.

    Buckets lie on multiples of ``bucket`` seconds of absolute time, and cells on multiples of two buckets, so what a
    cell shows never depends on when the chart was drawn; it is drawn once its second bucket has begun. Where values
    change, the chart moves to the left by ``jump`` cells at a time (an eighth of the width if None, a quarter at most):
    in between, a new value changes one column. Where they do not, it moves by one cell, which changes nothing. A
    bucket shows the mean of its values. No value in a bucket leaves it blank; zero is drawn as the lowest dot.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"timechart--fill"}
    DEFAULT_CSS = """
    TimeChart { height: 3; width: 1fr; }
    TimeChart > .timechart--fill { color: $primary; }
    """

    def __init__(
        self,
        *,
        bucket: float = 1.0,
        scale: float | None = None,
        jump: int | None = None,
        ascii: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        if not bucket > 0 or (jump is not None and jump < 1):
            raise ValueError("a bucket takes more than 0 seconds, a jump at least one cell")
        super().__init__(name=name, id=id, classes=classes)
        self._bucket = bucket
        self._scale = scale
        self._jump = jump
        self._ascii = ascii
        self._sums: dict[int, tuple[float, int]] = {}
        self._newest: int | None = None
        self._edge: int | None = None  # the cell after the last one on the right
        self._top = scale or 1.0
        self._rows: list[str] = []
        self._fill: tuple[Ground, Style] | None = None
        """What the area is drawn with, and on what ground."""
        self._drawn: tuple[int, Size] | None = None
        """The cell before which everything is drawn, and the size for which it is."""
        self._highest = 0.0
        """The highest value in sight when the scale was last chosen."""

    @property
    def scale(self) -> float | None:
        """The value at the upper edge; None picks 1, 2 or 5 × 10ⁿ to fit what is shown."""
        return self._scale

    @scale.setter
    def scale(self, scale: float | None) -> None:
        self._scale = scale
        self._redraw()

    @property
    def top(self) -> float:
        """The value that the upper edge stands for now."""
        return self._top

    def add(self, t: float, value: float | None) -> None:
        """Add a value read at ``t`` (seconds, absolute); None moves time on and leaves a gap.

        A time before all that the chart shows starts it afresh: the clock was set back, or a replay has jumped.
        """
        self._take(t, value)
        if not self._unseen(t):
            self._redraw()

    def set_points(self, points: Iterable[tuple[float, float | None]]) -> None:
        """Show these (seconds, value) pairs and nothing else."""
        self._sums.clear()
        self._newest = self._edge = None
        for t, value in sorted(points, key=lambda point: point[0]):
            self._take(t, value)
        self._redraw()

    def _take(self, t: float, value: float | None) -> None:
        if not math.isfinite(t):
            return
        index = math.floor(t / self._bucket)
        shown = _PER_CELL * self.size.width or _MOST_BUCKETS
        if self._newest is not None and index <= self._newest - shown:
            self._sums.clear()
            self._newest = self._edge = None
        if self._newest is None or index > self._newest:
            self._newest = index
            for old in [key for key in self._sums if key <= index - _MOST_BUCKETS]:
                del self._sums[old]
        if value is not None and not math.isnan(value):
            total, count = self._sums.get(index, (0.0, 0))
            self._sums[index] = (total + value, count + 1)

    def _unseen(self, t: float) -> bool:
        """Whether what was added last, at ``t``, leaves the picture as it is: it is in the cell that is not drawn yet,
        and the scale is given, or is not moved by it."""
        if self._newest is None or not math.isfinite(t) or self._drawn != (self._cell(), self.size):
            return False
        index = math.floor(t / self._bucket)
        if index < self._cell() * _PER_CELL:
            return False
        total, count = self._sums.get(index, (0.0, 0))
        return self._scale is not None or not count or (count == 1 and total <= self._highest)

    def _cell(self) -> int:
        """The cells before this one are to be drawn."""
        assert self._newest is not None
        return (self._newest + 1) // _PER_CELL

    def _draw(self) -> list[str]:
        width, height = self.size
        self._drawn = None
        if self._newest is None:
            return [" " * width] * height
        cell = self._cell()
        self._drawn = (cell, self.size)
        if self._scale is not None:
            self._top = self._scale
        else:
            highest = peak([self._mean(index) for index in range((cell - width) * _PER_CELL, self._newest + 1)])
            self._highest = highest
            if highest > self._top or highest < self._top * _SHRINK_BELOW:
                self._top = nice_top(highest)
        self._edge = self._place(cell, self._edge)
        return self._area(cell, self._edge)

    def _place(self, cell: int, before: int | None) -> int:
        """Return the cell after the last one on the right: ``cell``, or further on where a jump costs less.

        It follows from the values alone. Edges of jumps lie on multiples of a jump; ``before`` is the edge for the cell
        before this one, None if that is not known.
        """
        width = self.size.width
        jump = min(self._jump or width // _COLUMNS_PER_JUMP, width // 4) or 1
        far = -(-cell // jump) * jump
        if before == far:
            return far
        for at in range(cell if before == cell - 1 else far - jump + 1, cell + 1):
            shown = self._area(at - 1, at - 1)
            if _differing(shown, self._area(at, far)) < jump * _differing(shown, self._area(at, at)):
                return far
        return cell

    def _mean(self, index: int) -> float | None:
        total, count = self._sums.get(index, (0.0, 0))
        return total / count if count else None

    def _area(self, cell: int, edge: int) -> list[str]:
        """The rows with the cells before ``cell``, when ``edge`` is the one after the last on the right."""
        width, height = self.size
        values = [self._mean(index) for index in range((edge - width) * _PER_CELL, cell * _PER_CELL)]
        values += [None] * ((edge - cell) * _PER_CELL)
        return area(values, width, height, self._top, ascii=self._ascii)

    def _redraw(self) -> None:
        """Draw the rows and refresh the columns of each that have changed."""
        if not self.size:
            return
        before, self._rows = self._rows, self._draw()
        if [len(row) for row in before] != [len(row) for row in self._rows]:
            self.refresh()
            return
        regions = []
        for y, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            changed = [x for x, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
            if changed:
                regions.append(Region(changed[0], y, changed[-1] + 1 - changed[0], 1))
        if regions:
            self.refresh(*regions)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._edge = None
        self._redraw()

    def render_line(self, y: int) -> Strip:
        """Return one row of the chart."""
        row = self._rows[y] if y < len(self._rows) else " " * self.size.width
        if self._fill is None or self._fill[0] is not self.ground:
            self._fill = (self.ground, self.get_component_rich_style("timechart--fill"))
        return Strip([Segment(row, self._fill[1])], len(row))


def _differing(before: list[str], after: list[str]) -> int:
    """Cells that look different; rows that were not there before count in full."""
    alike = sum(sum(map(str.__eq__, old, new)) for old, new in zip(before, after, strict=False))
    return sum(map(len, after)) - alike
