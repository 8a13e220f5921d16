"""Figures over time as inline SVG: axes with units, gaps as gaps. A day is drawn with as few points as a minute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from qtop.report.gathered import Chart, Points, utc

WIDTH, HEIGHT = 400, 160
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
COLUMNS = 360
"""Points at most in a line, about one a pixel."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Seconds between marks on the axis of time."""

Segment = list[tuple[float, float, float, float]]
"""(t, mean, lowest, highest) without a gap."""


def nice_top(value: float) -> float:
    """The least of a few round numbers (1, 1.2, 1.5, 2, … × 10ⁿ) that is not below; 1 for nothing."""
    if value < 1e-9:
        return 1.0
    base = 10.0 ** math.floor(math.log10(value))
    return next(
        (base * one for one in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if base * one >= value * (1 - 1e-9)), base * 10
    )


def ticks(begin: float, end: float, most: int = 5) -> list[tuple[float, str]]:
    """Round instants (UTC) between two, at most ``most`` + 1, with how they read."""
    span = max(end - begin, 1e-9)
    step = next((one for one in STEPS if span / one <= most), STEPS[-1] * math.ceil(span / STEPS[-1] / most))
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%d %b"
    first = math.ceil(begin / step)
    return [(at * step, utc(at * step, form)) for at in range(first, math.floor(end / step) + 1)]


def segments(points: Points, gap: float, columns: int = COLUMNS) -> list[Segment]:
    """Points without those of a gap between them, at most about ``columns``: neighbours are drawn together."""
    known = [(t, value) for t, value in points if value is not None]
    if not known:
        return []
    width = (known[-1][0] - known[0][0]) / columns if len(known) > columns else 0.0
    limit = max(gap, width)
    runs: list[list[tuple[float, float]]] = []
    before = -math.inf
    absent = _absences(points) if width < gap else frozenset()
    for at, (t, value) in enumerate(known):
        if not 0 <= t - before <= limit or at in absent:
            runs.append([])
        runs[-1].append((t, value))
        before = t
    return [list(_thinned(run, width)) for run in runs]


def _absences(points: Points) -> frozenset[int]:
    """Which of the known points follow on an absent one."""
    found, at, missed = set(), 0, False
    for _, value in points:
        if value is None:
            missed = True
            continue
        if missed:
            found.add(at)
        at, missed = at + 1, False
    return frozenset(found)


def _thinned(run: Sequence[tuple[float, float]], width: float) -> Iterator[tuple[float, float, float, float]]:
    if width <= 0:
        yield from ((t, value, value, value) for t, value in run)
        return
    held: list[tuple[float, float]] = []
    for t, value in run:
        if held and t - held[0][0] >= width:
            yield _mean(held)
            held = []
        held.append((t, value))
    yield _mean(held)


def _mean(held: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    values = [value for _, value in held]
    return sum(t for t, _ in held) / len(held), sum(values) / len(held), min(values), max(values)


def tick_text(value: float) -> str:
    """A number on an axis: "0", "2.5", "1 200"."""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 or value == int(value) else f"{value:.3g}"


def chart_svg(chart: Chart, begin: float, end: float, gap: float) -> str:
    """One chart. Where a line is thinned the band around it is from the lowest to the highest reading."""
    drawn = [(name, segments(line.points, gap)) for name, line in chart.lines.items() if line.seen]
    highest = max((point[3] for _, runs in drawn for run in runs for point in run), default=0.0)
    top = chart.top if chart.top is not None and highest <= chart.top else nice_top(highest)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    span = max(end - begin, 1e-9)

    def x(t: float) -> str:
        return f"{LEFT + across * (t - begin) / span:.1f}"

    def y(value: float) -> str:
        return f"{TOP + up * (1 - min(max(value / top, 0.0), 1.0)):.1f}"

    names = ", ".join(name for name, _ in drawn)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)} in {escape(chart.unit)}: {escape(names)}">'
    ]
    for value in (0.0, top / 2, top):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{float(y(value)) + 3.5:.1f}">{tick_text(value)}</text>')
    for t, text in ticks(begin, end, 4):
        parts.append(f'<path class="tick" d="M{x(t)} {HEIGHT - BOTTOM}v3"/>')
        if LEFT + 8 < float(x(t)) < WIDTH - RIGHT - 14:
            parts.append(f'<text class="x" x="{x(t)}" y="{HEIGHT - 6}">{text}</text>')
    for at, (_, runs) in enumerate(drawn):
        for run in runs:
            if any(low != high for _, _, low, high in run):
                upper = "L".join(f"{x(t)} {y(high)}" for t, _, _, high in run)
                lower = "L".join(f"{x(t)} {y(low)}" for t, _, low, _ in reversed(run))
                parts.append(f'<path class="band c{at}" d="M{upper}L{lower}Z"/>')
        path = "".join(
            "M" + "L".join(f"{x(t)} {y(mean)}" for t, mean, _, _ in run) + ("h0" if len(run) == 1 else "")
            for run in runs
        )
        parts.append(f'<path class="line c{at}" d="{path}"/>')
    return "".join((*parts, "</svg>"))
