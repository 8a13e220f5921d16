"""The dashboard's panels as pure functions: frame, width and look in, lines out."""

from __future__ import annotations

from rich.segment import Segment

from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look


def title(look: Look, text: str, width: int, note: str = "") -> Line:
    """A heading with a thin rule to the panel's edge; ``note`` stands at its right end."""
    text = fit(text, width)
    room = width - width_of(text) - 1
    note = f" {note}" if note and width_of(note) + 2 < room else ""
    rule = "─" * max(0, room - width_of(note))
    return (look.seg(text, "title"), look.seg(" "), look.seg(rule, "rule"), look.seg(note, "label"))


def pair(look: Look, label: str, value: str, pen: str = "text", label_width: int = 8) -> Line:
    """A label in its column and its value."""
    return (look.seg(label.ljust(label_width), "label"), look.seg(value, pen))


def packed(width: int, *groups: Line) -> Line:
    """The groups in a row, the first always, each further one only if all of it fits: no figure is cut."""
    line, used = list(groups[0]), _cells(groups[0])
    for group in groups[1:]:
        cells = _cells(group)
        if used + cells > width:
            break
        line += group
        used += cells
    return tuple(line)


def _cells(line: Line) -> int:
    return sum(width_of(segment.text) for segment in line)


def crit_above(share: object, warn: float, crit: float) -> str:
    """The pen of a share that is bad when it is high."""
    if not isinstance(share, (int, float)):
        return "label"
    return "crit" if share >= crit else "warn" if share >= warn else "text"


def side_by_side(look: Look, lines: list[Line], width: int, columns: int) -> list[Line]:
    """The same lines in several columns, read downwards first."""
    if columns < 2:
        return lines
    rows = -(-len(lines) // columns)
    room = width // columns
    packed: list[Line] = []
    for row in range(rows):
        line: list[Segment] = []
        for column in range(columns):
            index = column * rows + row
            if index < len(lines):
                used = _cells(lines[index])
                line += [*lines[index], look.seg(" " * max(1, room - used))]
        packed.append(tuple(line))
    return packed
