"""One chart with axes, and the list of what can be charted: pure functions to lines."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qtop.model.frame import Frame
from qtop.sample import Absent
from qtop.ui.cells import fit
from qtop.ui.look import Line, Look
from qtop.ui.panels import packed, title
from qtop.ui.plots import PLOTS, Plot
from qtop.ui.widgets.marks import area, nice_top, peak
from qtop.units import NONE, number

Points = Sequence[tuple[float, float | None]]
SPANS = (60.0, 300.0, 900.0)
"""Seconds that the chart can show."""
_BUCKETS = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 10.0, 12.0, 15.0, 20.0)
_TICKS = (10, 30, 60, 120, 300)
AXIS = 9
"""Columns of the vertical axis."""
MENU = 29
"""Columns of the list."""
SHRINK = 0.3
"""The scale comes down when the highest value is under this part of it."""


@dataclass(frozen=True)
class Chart:
    """What the plot screen shows; ``cursor`` is the Unix time read, None for none."""

    plot: Plot
    span: float
    until: float
    cursor: float | None = None
    top: float = 0.0
    """The upper edge of the last drawing, which an automatic scale keeps while it can."""
    why: str = ""
    """Why the figure is not there now, if it is not."""


def figure(value: float | None, plot: Plot) -> str:
    """A value of the plot with its unit."""
    if value is None:
        return NONE
    shown = value * plot.factor
    text = f"{shown:.0f}" if plot.unit == "%" else number(shown)
    return f"{text} {plot.unit}".rstrip()


def menu_lines(look: Look, frame: Frame, chosen: Plot, rows: int, width: int = MENU) -> list[Line]:
    """All plots by group with their value now; the chosen one marked."""
    lines: list[Line] = []
    group = ""
    for plot in PLOTS:
        if plot.group != group:
            group = plot.group
            lines.append((look.seg(group, "title"),))
        value = plot.pick(frame)
        text = figure(None if isinstance(value, Absent) else value, plot)
        mine = plot is chosen
        action = f"app.plot('{plot.id}')"
        name = f"{'▸' if mine else ' '} {plot.name}"
        pad = " " * max(1, width - 3 - len(name) - len(text))
        lines.append(
            (
                look.seg(name, "accent" if mine else "label", action),
                look.seg(pad),
                look.seg(text, "accent" if mine else "text"),
            )
        )
    if len(lines) > rows:  # keep the chosen one in sight
        at = next(i for i, line in enumerate(lines) if line[0].text.startswith(look.plain("▸")))
        first = max(0, min(at - rows // 2, len(lines) - rows))
        lines = lines[first : first + rows]
    return lines


def scale_of(plot: Plot, points: Points, before: float) -> float:
    """The value at the upper edge: fixed for shares, else a round one that stays while it fits."""
    if plot.scale is not None:
        return plot.scale
    highest = peak([value for _, value in points])
    return before if before >= highest >= before * SHRINK and before > 0 else nice_top(highest)


def chart_lines(look: Look, chart: Chart, points: Points, width: int, height: int) -> list[Line]:
    """Heading, the chart, its time axis, and one line of figures: ``height`` rows in all."""
    plot = chart.plot
    columns, rows = max(10, width - AXIS), max(3, height - 4)
    bucket = next((size for size in _BUCKETS if size * 2 * columns >= chart.span), _BUCKETS[-1])
    jump = max(1, columns // 8)
    # Cells lie on multiples of two buckets of absolute time, and move by many at once: little is drawn again.
    edge = (math.floor(chart.until / bucket / 2) // jump + 1) * jump
    first = edge - columns
    values = _bucketed(points, bucket, first * 2, edge * 2)
    top = chart.top or scale_of(plot, points, 0.0)
    drawn = area(values, columns, rows, top, ascii=look.ascii)
    at = math.floor(chart.cursor / bucket / 2) - first if chart.cursor is not None else -1
    lines = [title(look, f"{plot.what}, last {_span(chart.span)}", width, plot.unit if plot.unit != "%" else "")]
    for row, text in enumerate(drawn):
        label = look.seg(_level(plot, top, row, rows).rjust(AXIS - 2) + " ┤", "label")
        if 0 <= at < columns:
            lines.append((label, look.seg(text[:at], "chart"), look.seg("│", "key"), look.seg(text[at + 1 :], "chart")))
        else:
            lines.append((label, look.seg(text, "chart")))
    lines.append((look.seg(" " * (AXIS - 1) + _times(first, columns, bucket, chart.span), "label"),))
    lines.append(())
    lines.append(_reading(look, chart, points, width))
    return lines


def _bucketed(points: Points, bucket: float, first: int, end: int) -> list[float | None]:
    """Means by bucket, and between two readings further apart than a bucket the earlier one is held."""
    sums: dict[int, tuple[float, int]] = {}
    for t, value in points:
        index = math.floor(t / bucket)
        if value is not None and first - 8 <= index < end:
            total, count = sums.get(index, (0.0, 0))
            sums[index] = (total + value, count + 1)
    gaps = sorted(b[0] - a[0] for a, b in pairwise(points))
    held = min(8, math.ceil(gaps[len(gaps) // 2] * 1.5 / bucket)) if gaps else 0
    values: list[float | None] = []
    last, age = None, 0
    for index in range(first - held, end):
        if index in sums:
            total, count = sums[index]
            last, age = total / count, 0
        else:
            age += 1
        if index >= first:
            values.append(last if age < max(1, held) else None)
    return values


def _level(plot: Plot, top: float, row: int, rows: int) -> str:
    """What the upper edge of a row stands for: at the top, half way, and nowhere else."""
    if row not in (0, rows // 2):
        return ""
    value = (top if row == 0 else top * (1 - row / rows)) * plot.factor
    return number(value if row == 0 or value >= 10 else round(value, 1)) + (" %" if plot.unit == "%" else "")


def _times(first: int, columns: int, bucket: float, span: float) -> str:
    """Times of day under the chart, at round moments."""
    every = next((size for size in _TICKS if span / size <= 6), _TICKS[-1])
    cells = [" "] * (columns + 8)
    begin, cell_s = first * 2 * bucket, 2 * bucket
    moment = math.ceil(begin / every) * every
    used = 0
    while moment < begin + columns * cell_s:
        text = time.strftime("%H:%M:%S", time.localtime(moment))
        place = int((moment - begin) / cell_s)
        if place >= used and place + len(text) <= columns:
            cells[place : place + len(text)] = text
            used = place + len(text) + 2
        moment += every
    return "".join(cells).rstrip()


def _reading(look: Look, chart: Chart, points: Points, width: int) -> Line:
    """Under the cursor, or over the span: least, mean, most."""
    plot = chart.plot
    if chart.cursor is not None:
        times = [t for t, _ in points]
        index = min(len(times) - 1, bisect_left(times, chart.cursor - 1e-6)) if times else -1
        value = points[index][1] if index >= 0 else None
        moment = time.strftime("%H:%M:%S", time.localtime(chart.cursor))
        return (look.seg("│ ", "key"), look.seg(f"{moment}   "), look.seg(figure(value, plot), "accent"))
    known = sorted(value for _, value in points if value is not None)
    if not known:
        text = f"cannot tell: {chart.why}" if chart.why else "nothing was read in this span"
        return (look.seg(fit(text, width), "label"),)
    line: list[tuple[str, float | None]] = [
        ("now", points[-1][1]),
        ("least", known[0]),
        ("mean", sum(known) / len(known)),
        ("most", known[-1]),
    ]
    if len(known) >= 20:
        line.append(("p95", known[int(0.95 * (len(known) - 1))]))
    groups = [(look.seg(f"{name} ", "label"), look.seg(f"{figure(value, plot)}   ")) for name, value in line]
    return packed(width + 3, *groups)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
