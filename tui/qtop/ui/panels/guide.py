"""The guide as rows: pure functions from what was checked to lines."""

from __future__ import annotations

from collections.abc import Sequence

from qtop.guide.registry import Entry, counts
from qtop.guide.seen import State
from qtop.model.frame import Frame
from qtop.report.guide import MARKS, PLAIN_MARKS, WORDS, checked_on
from qtop.ui.cells import fit, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import packed, title
from qtop.ui.panels.table import Cell, Column, row

COLUMNS = (
    Column("claim", 6, right=False),
    Column("what it says", 29, right=False),
    Column("here", 14, right=False, least=100),
    Column("measured", 0, right=False),
)
PENS = {State.HOLDS: "good", State.DOES_NOT_HOLD: "text", State.NOT_APPLICABLE: "label", State.CANNOT_TELL: "label"}
FOOT = 7
"""Rows of the detail under the list."""


def guide_head(look: Look, entries: Sequence[Entry], frame: Frame, width: int) -> list[Line]:
    """What it was checked on, and how many claims of each kind; which mark is which."""
    found = counts(entries)
    marks = PLAIN_MARKS if look.ascii else MARKS
    groups: list[Line] = []
    for state in State:
        gap = look.seg("   " if groups else "")
        groups.append(
            (gap, look.seg(f"{marks[state]} {WORDS[state]} ", "label"), look.seg(str(found[state]), PENS[state]))
        )
    return [title(look, fit(f"The guide, checked on {checked_on(frame)}", width - 4), width), packed(width, *groups)]


def guide_rows(look: Look, entries: Sequence[Entry], chosen: str, width: int) -> list[tuple[str, Line]]:
    """A row a claim under the headings of the guide's sections, each with the claim's id, a heading with ""."""
    marks = PLAIN_MARKS if look.ascii else MARKS
    lines: list[tuple[str, Line]] = []
    section = ""
    for entry in entries:
        claim, state = entry.claim, entry.checked.state
        if claim.section != section:
            section = claim.section
            lines.append(("", (look.seg(section, "title"),)))
        action = f"screen.open('{claim.id}')"
        pen = "accent" if claim.id == chosen else PENS[state]
        measured = entry.checked.measured
        cells = [
            Cell(f"{marks[state]} {claim.id}", pen, action),
            Cell(claim.title, pen, action),
            Cell(WORDS[state], PENS[state]),
            Cell(measured or entry.checked.note, "text" if measured else "label"),
        ]
        lines.append((claim.id, row(look, cells, COLUMNS, width)))
    return lines


def guide_foot(look: Look, entry: Entry, width: int) -> list[Line]:
    """The chosen claim in short: what the guide says, what is here, what to do. Always as many rows."""
    claim, checked = entry.claim, entry.checked
    lines = [title(look, f"{claim.id} {claim.title}", width, "Enter: all of it")]
    lines += _part(look, "says", claim.says, width, 2)
    lines += _part(look, WORDS[checked.state], checked.note or checked.measured, width, 2)
    lines += _part(look, "true is", claim.truth, width, 2) if not entry.action else []
    lines += _part(look, "to do", entry.action, width, 2) if entry.action else []
    return [*lines, *[()] * (FOOT - len(lines))][:FOOT]


def _part(look: Look, label: str, text: str, width: int, rows: int) -> list[Line]:
    """A label and its text, in so many rows; where more is to say it ends with …."""
    room = width - 16
    parts = wrap(text.replace("`", ""), room)
    if len(parts) > rows:
        parts = [*parts[: rows - 1], fit(" ".join(parts[rows - 1 :]), room)]
    return [
        (look.seg((label if number == 0 else "").ljust(16), "label"), look.seg(part))
        for number, part in enumerate(parts)
    ]
