"""The tuning screen's rows: pure functions from offers and the journal to lines."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qtop.report.changes import STATES, change_words, how, right
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.panels.table import Cell, Column, heading, row

Document = Mapping[str, Any]
Item = tuple[str, Line]

KNOB, TXN = "knob:", "txn:"
"""How the names of rows begin."""
NAME = 22
"""Columns of a knob's name."""
OFFERS = (
    Column("", 2, right=False),
    Column("knob", NAME, right=False),
    Column("now → then", 0, right=False),
    Column("how", 7, right=False),
    Column("right", 5, right=False),
    Column("proposed by", 12, right=False),
)
CHANGES = (
    Column("when", 12, right=False),
    Column("what", 26, right=False),
    Column("stands", 10, right=False),
    Column("verdict", 0, right=False),
)
FOOT = 7
"""Rows of the detail under the list."""
WORDS = {"open": "unfinished", "kept": "in force", "closed": "put back"}
PENS = {"open": "warn", "kept": "good", "closed": "label"}


def offer_items(look: Look, offers: Sequence[Document], marked: Collection[str], width: int) -> list[Item]:
    """What is possible."""
    items: list[Item] = [("", heading(look, OFFERS, width))] if offers else []
    for one in offers:
        action = f"screen.open('{KNOB}{one['knob']}')"
        pen = "text" if one["proposed_by"] else "label"
        cells = [
            Cell("x" if one["knob"] in marked else "", "accent"),
            Cell(one["knob"], pen, action),
            Cell(change_words(one["now"], one["value"]), pen, action),
            Cell(how(one), "warn" if one["restart"] else "label"),
            Cell(right(one), "label"),
            Cell(", ".join(one["proposed_by"]) or "–", "accent" if one["proposed_by"] else "label"),
        ]
        items.append((KNOB + one["knob"], row(look, cells, OFFERS, width)))
    if not offers:
        items.append(("", (look.seg("    nothing that qtop could propose", "label"),)))
    return items


def refused_items(look: Look, offers: Sequence[Document], width: int) -> list[Item]:
    """What is not, with the reason."""
    items: list[Item] = [("", ()), ("", (look.seg("Not possible, or nothing to gain", "title"),))]
    for one in offers:
        name = f"    {one['knob']}".ljust(NAME + 6)
        text = fit(one["reason"], max(10, width - width_of(name)))
        action = f"screen.open('{KNOB}{one['knob']}')"
        items.append((KNOB + one["knob"], (look.seg(name, "label", action), look.seg(text, "label", action))))
    return items


def change_items(look: Look, changes: Sequence[Document], now: float, width: int) -> list[Item]:
    """The journal, the latest first."""
    items: list[Item] = [("", ()), ("", (look.seg("Changes", "title"),))]
    if not changes:
        return [*items, ("", (look.seg("    qtop has changed nothing", "label"),))]
    items.append(("", heading(look, CHANGES, width)))
    for one in reversed(changes):
        action = f"screen.open('{TXN}{one['txn']}')"
        parts = ", ".join(f"{part['knob']} → {part['new']}" for part in one["parts"])
        cells = [
            Cell(_when(one["t"], now), "label", action),
            Cell(parts, "text" if one["state"] == "kept" else "label", action),
            Cell(WORDS[one["state"]], PENS[one["state"]]),
            Cell(verdict_text(one), "label"),
        ]
        items.append((TXN + one["txn"], row(look, cells, CHANGES, width)))
    return items


def _when(t: float, now: float) -> str:
    """The time of day, before today the date."""
    then, today = time.localtime(t), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%b %d %H:%M", then)


def verdict_text(change: Document) -> str:
    """In a few words: what it gained, as far as that was measured."""
    return str(change["gain"] or change["told"] or change["why"] or "not measured")


def offer_foot(look: Look, offer: Document, width: int) -> list[Line]:
    """The chosen knob in short."""
    lines = [title(look, f"{offer['knob']}: {offer['title']}", width, "Enter: preview")]
    if offer["possible"]:
        lines += _told(look, "changes", "; ".join(offer["preview"]), width, 2)
        lines += _told(look, "careful", "; ".join(offer["warnings"]), width, 1, "warn")
        lines += _told(look, "right", offer["right"], width, 1)
        lines += _told(look, "meanwhile", offer["requests"], width, 1)
    else:
        lines += _told(look, "not now", offer["reason"], width, 3)
        lines += _told(look, "right", offer["needs"], width, 1)
    return _filled(lines)


def change_foot(look: Look, change: Document, width: int) -> list[Line]:
    """The chosen change in short."""
    note = "Enter: its values   u: undo" if change["state"] != "closed" else "Enter: its values"
    lines = [title(look, f"{change['txn']}  {STATES[change['state']]}", width, note)]
    for part in change["parts"][:3]:
        lines += _told(look, part["knob"], f"→ {part['new']}" + (", as root" if part["root"] else ""), width, 1)
    lines += _told(look, "measured", change["told"] or change["why"] or "not measured", width, 2)
    return _filled(lines)


def _told(look: Look, label: str, text: str, width: int, rows: int, pen: str = "text") -> list[Line]:
    if not text:
        return []
    parts = wrap(text, width - 16)
    if len(parts) > rows:
        parts = [*parts[: rows - 1], fit(" ".join(parts[rows - 1 :]), width - 16)]
    return [
        (look.seg((fit(label, 15) if number == 0 else "").ljust(16), "label"), look.seg(part, pen))
        for number, part in enumerate(parts)
    ]


def _filled(lines: list[Line]) -> list[Line]:
    return [*lines, *[()] * (FOOT - len(lines))][:FOOT]
