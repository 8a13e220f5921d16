"""The timeline of a recording in one row: findings by how much they matter, what was done, and where nobody looked."""

from __future__ import annotations

from collections.abc import Iterable

from rich.segment import Segment

from qtop.diagnose.rule import Severity
from qtop.timeline.kinds import Kind
from qtop.timeline.scan import Timeline
from qtop.ui.look import Line, Look

Cell = tuple[str, str]
"""A character and its pen."""

MARGIN = 1
QUIET: Cell = ("─", "rule")
UNSEEN: Cell = ("·", "rule")
GAP: Cell = (" ", "rule")
HERE: Cell = ("┃", "title")
FINDINGS: dict[Severity, Cell] = {
    Severity.INFO: ("▂", "label"),
    Severity.WARNING: ("▅", "warn"),
    Severity.CRITICAL: ("█", "crit"),
}
"""Higher where it matters more: colours are not needed to tell."""
POINTS: dict[Kind, Cell] = {
    Kind.PROBE: ("p", "key"),
    Kind.BACK: ("▼", "accent"),
    Kind.CHANGED: ("▲", "accent"),
    Kind.MARKER: ("◆", "title"),
}
"""Of several in one cell the last of these is drawn."""


class Strip:
    """Draws one timeline; what has not changed since is not worked out again."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._key: tuple[object, ...] = ()
        self._cells: list[Cell] = []

    def line(self, look: Look, t: float, width: int) -> Line:
        """The row ``width`` cells wide, with where the screen stands at ``t``."""
        cells = list(self._drawn(max(1, width - 2 * MARGIN)))
        cells[place(self._timeline, t, len(cells))] = HERE
        return (look.seg(" " * MARGIN), *_segments(look, cells))

    def _drawn(self, width: int) -> list[Cell]:
        timeline = self._timeline
        seen = place(timeline, timeline.reached, width)
        key = (width, seen, timeline.version)
        if key != self._key:
            self._key, self._cells = key, cells_of(timeline, width)
        return self._cells


def time_at(timeline: Timeline, column: int, width: int) -> float:
    """The Unix second in the middle of the cell that a click at this column of the row means."""
    cells = max(1, width - 2 * MARGIN)
    cell = max(0, min(cells - 1, column - MARGIN))
    return timeline.begin + (cell + 0.5) / cells * (timeline.end - timeline.begin)


def place(timeline: Timeline, t: float, width: int) -> int:
    """The cell, of ``width``, in which a time lies."""
    span = timeline.end - timeline.begin
    return max(0, min(width - 1, int((t - timeline.begin) / span * width))) if span > 0 else 0


def cells_of(timeline: Timeline, width: int) -> list[Cell]:
    """The cells, without where the screen stands."""
    whole = timeline.done and not timeline.failure
    seen = width if whole else place(timeline, timeline.reached, width)
    cells = [QUIET] * seen + [UNSEEN] * (width - seen)
    worst: dict[int, Severity] = {}
    for stretch in tuple(timeline.stretches):
        for cell in range(place(timeline, stretch.begin, width), place(timeline, stretch.end, width) + 1):
            if cell not in worst or worst[cell].rank < stretch.severity.rank:
                worst[cell] = stretch.severity
    for one in tuple(timeline.breaks):
        first, last = sorted((place(timeline, one.begin, width), place(timeline, one.end, width)))
        for cell in range(first + 1, last):
            cells[cell] = GAP
            worst.pop(cell, None)  # a finding that stood before and after was seen by nobody in between
        if last - first < 2 and cells[last] is not UNSEEN:
            cells[last] = GAP
    for cell, severity in worst.items():
        if cells[cell] is not GAP or severity is not Severity.INFO:  # a break that is shorter than a cell may share it
            cells[cell] = FINDINGS[severity]
    for kind, drawn in POINTS.items():
        for point in timeline.points:
            if point.kind is kind:
                cells[place(timeline, point.t, width)] = drawn
    return cells


def _segments(look: Look, cells: Iterable[Cell]) -> Iterable[Segment]:
    """Neighbours of the same pen in one piece."""
    text, pen = "", ""
    for char, own in cells:
        if own != pen and text:
            yield look.seg(text, pen)
            text = ""
        text, pen = text + char, own
    if text:
        yield look.seg(text, pen)
