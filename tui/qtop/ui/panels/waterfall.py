"""Where a request's time goes: the stages of the last window on one axis, what of each was waiting for a CPU, and where
the memory roofline lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rich.segment import Segment

from qtop.model.frame import Frame, Waterfall
from qtop.model.quantiles import WINDOW_S
from qtop.sample import NOT_YET, Absent, Reading, Why
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import packed, title
from qtop.ui.widgets.marks import nice_top
from qtop.units import NONE, milliseconds, number, percent

NAME_CELLS = 10
FIGURE_CELLS = 11
ROWS = 7
"""Heading, five stages, axis."""
LEAST = 36
"""Columns below which there is no room for a row a stage."""
WAITS = 0.05
"""Share of the time below which waiting for a CPU is not drawn."""


@dataclass(frozen=True)
class _Piece:
    """A stage as it is drawn."""

    name: str
    ms: Reading[float]
    waits: float


@dataclass(frozen=True)
class Laid:
    """What is laid over the stages."""

    cpu_wait: Mapping[str, float]
    """Share of a stage in which the thread in charge waited for a CPU."""
    floor_ms: Reading[float] = NOT_YET
    """Where decoding would end at the memory roofline."""


def waterfall_lines(look: Look, frame: Frame, width: int, rows: int = 3) -> list[Line]:
    """Of the last window: see ``stage_lines``."""
    fall, name = frame.waterfall, "Where a request's time goes"
    if not isinstance(fall, Waterfall):
        why = "no requests yet" if fall.why is Why.NOT_YET else str(fall)
        return _padded([title(look, name, width), (look.seg(fit(why, width), "label"),)], rows)
    name = f"{name} (last {_window(fall.seconds):.0f} s)"
    return stage_lines(look, fall, Laid(frame.cpu_wait, frame.decode_floor_ms), name, width, rows)


def stage_lines(look: Look, fall: Waterfall, laid: Laid, name: str, width: int, rows: int) -> list[Line]:
    """A heading with this name, then, where there are ``rows`` for it, one row a stage, each begun where the one before
    ended, and an axis; else one bar and its legend."""
    pieces = [_Piece(stage.name, stage.ms, laid.cpu_wait.get(stage.name, 0.0)) for stage in fall.stages]
    total = sum(piece.ms for piece in pieces if not isinstance(piece.ms, Absent))
    head = title(look, name, width, _note(fall))
    if total <= 0.0:
        return _padded([head, (look.seg("no request finished in this window", "label"),)], rows)
    if rows < len(pieces) + 2 or width < LEAST:
        return [head, *_one_bar(look, pieces, total, width)]
    return [head, *_staircase(look, laid, pieces, total, width)]


def _window(seconds: float) -> float:
    """The window's nominal length once it is full: its ends fall on ticks, so it is a little longer, never the same."""
    return WINDOW_S if WINDOW_S <= seconds < WINDOW_S * 1.1 else seconds


def _padded(lines: list[Line], rows: int) -> list[Line]:
    return lines + [()] * (max(3, min(rows, ROWS)) - len(lines))


# A row a stage


def _staircase(look: Look, laid: Laid, pieces: list[_Piece], total: float, width: int) -> list[Line]:
    floor = laid.floor_ms
    room = width - NAME_CELLS - FIGURE_CELLS - 1
    lines: list[Line] = []
    begin = 0.0
    for piece in pieces:
        label = look.seg(piece.name.ljust(NAME_CELLS), "label")
        if isinstance(piece.ms, Absent):
            why = str(piece.ms) if piece.ms.why is not Why.NOT_YET else ""
            lines.append((label, look.seg(fit(why, room).ljust(room + 1), "label"), look.seg(NONE.rjust(FIGURE_CELLS))))
            continue
        start, end = _place(begin, piece.ms, total, room)
        begin += piece.ms
        cells = end - start
        waits = round(cells * piece.waits) if piece.waits >= WAITS else 0
        mark = -1
        if piece.name == "decode" and not isinstance(floor, Absent) and floor < piece.ms:
            mark = min(cells - 1, round(floor / total * room))
        lines.append(
            (
                label,
                look.seg(" " * start),
                *_bar(look, piece.name, cells, waits, mark),
                look.seg(" " * (room - end + 1)),
                look.seg(milliseconds(piece.ms).rjust(FIGURE_CELLS)),
            )
        )
    lines.append(_axis(look, laid, total, room, width))
    return lines


def _place(begin: float, ms: float, total: float, room: int) -> tuple[int, int]:
    """First cell and the one after the last of a stage; one that takes any time has a cell."""
    start = min(room - 1, round(begin / total * room))
    end = min(room, max(start + 1, round((begin + ms) / total * room)))
    return (start, end) if ms > 0 else (start, start)


def _bar(look: Look, name: str, cells: int, waits: int, mark: int) -> list[Segment]:
    work, wait = look.stage_char(name), look.stage_char("cpu_wait")
    solid = cells - waits
    runs: list[Segment] = []
    for text, pen, begin in ((work * solid, f"stage_{name}", 0), (wait * waits, "cpu_wait", solid)):
        if begin <= mark < begin + len(text):
            at = mark - begin
            runs += [look.seg(text[:at], pen), look.seg("┃", "roofline"), look.seg(text[at + 1 :], pen)]
        else:
            runs.append(look.seg(text, pen))
    return [run for run in runs if run.text]


def _axis(look: Look, laid: Laid, total: float, room: int, width: int) -> Line:
    """Ticks in a row under the bars, and at its right end what the marks mean, with the worst share."""
    step = nice_top(total / 5)
    ticks = [(round(step * k / total * room), step * k) for k in range(1, math.ceil(total / step))]
    cells = [" "] * (room + 1)
    text = "0"
    cells[0] = text
    used = 2
    for place, value in ticks:
        text = _tick(value)
        if place < used or place + len(text) > room:
            continue
        cells[place : place + len(text)] = text
        used = place + len(text) + 1
    marks: list[Line] = []
    worst = max(laid.cpu_wait.values(), default=0.0)
    if worst >= WAITS:
        marks.append((look.seg("  "), *_waiting(look, "waits for a CPU ", worst, "text")))
    floor = laid.floor_ms
    if not isinstance(floor, Absent):
        marks.append((look.seg("  ┃ ", "roofline"), look.seg(f"roofline {milliseconds(floor)}", "label")))
    taken = sum(width_of(segment.text) for group in marks for segment in group)
    ruler = "".join(cells)
    keep = width - NAME_CELLS - taken
    if keep < len(ruler):  # a label that would be cut is left out whole
        ruler = ruler[:keep].rpartition("  ")[0]
    return packed(width, (look.seg(" " * NAME_CELLS), look.seg(ruler.ljust(max(0, keep)), "label")), *marks)


def _waiting(look: Look, words: str, share: float, pen: str) -> Line:
    """What the hatching means, with the worst share."""
    mark = look.seg(f"{look.stage_char('cpu_wait')} ", "cpu_wait")
    return (mark, look.seg(words, pen), look.seg(percent(share), "crit"))


def _tick(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


# One bar


def _one_bar(look: Look, pieces: list[_Piece], total: float, width: int) -> list[Line]:
    known = [(piece.name, piece.ms, piece.waits) for piece in pieces if not isinstance(piece.ms, Absent)]
    bar: list[Segment] = []
    named: list[tuple[float, Line]] = []
    left = width
    gap = "   " if width >= 100 else "  "
    for position, (name, ms, waits) in enumerate(known):
        cells = left if position == len(known) - 1 else min(left, round(width * ms / total))
        if ms > 0 and cells == 0 and left:
            cells = 1
        left -= cells
        bar += _bar(look, name, cells, round(cells * waits) if waits >= WAITS else 0, -1)
        mark = look.seg(f"{look.stage_char(name) if look.scheme.distinct else '■'} ", f"stage_{name}")
        named.append((ms, (mark, look.seg(f"{name} ", "label"), look.seg(milliseconds(ms) + gap))))
    share: Line = ()
    worst = max((waits for _, _, waits in known), default=0.0)
    if worst >= WAITS:
        waits_for = "waits for a CPU " if width >= 100 else "CPU wait "
        share = _waiting(look, waits_for, worst, "label")
    return [tuple(bar), _legend(named, share, width)]


def _legend(named: list[tuple[float, Line]], share: Line, width: int) -> Line:
    """The stages in their order; where room is short, the shortest stages go without a name."""
    while True:
        legend = tuple(segment for _, group in named for segment in group) + share
        used = sum(width_of(segment.text) for segment in legend)
        if not named or used - (0 if share else 2) <= width:
            return legend
        named = [one for one in named if one is not min(named, key=lambda stage: stage[0])]


def _note(fall: Waterfall) -> str:
    parts = []
    if fall.why:
        parts.append(fall.why)
    elif not isinstance(fall.finished, Absent):
        parts.append(f"{number(fall.finished)} finished")
    if not isinstance(fall.ttft_ms, Absent):
        parts.append(f"TTFT {milliseconds(fall.ttft_ms)}")
    if not isinstance(fall.itl_ms, Absent):
        tokens = f" × {number(fall.tokens)}" if not isinstance(fall.tokens, Absent) else ""
        parts.append(f"{milliseconds(fall.itl_ms)} a token{tokens}")
    return "  ".join(parts)
