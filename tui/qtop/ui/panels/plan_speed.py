"""How fast a plan is: tokens a second by context, and the first token by prompt, as curves with exact figures below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from qtop.plan.making import BATCHES, Plan
from qtop.plan.picture import Curve, place
from qtop.plan.speed import Decode, Prefill, decode, prefill
from qtop.plan.vram import at_once
from qtop.ui.cells import fit
from qtop.ui.look import Line, Look
from qtop.ui.panels import packed, title
from qtop.ui.panels.plan_memory import short
from qtop.ui.widgets.curves import Plane
from qtop.units import duration, number

LABEL = 8
"""Columns of the scale."""
BOUND_MARK, RANGE_MARK, FLOOR_MARK = "-", "#", "-"
"""In ASCII."""
BOUND, EXPECTED = "roofline", "chart"
"""Pens."""
LEAST = 3
"""Rows of a plane, else only figures are given."""


def plane_rows(height: int) -> int:
    """Rows of the plane in a panel of so many: less heading, axis, what the marks mean."""
    return height - 3


def speed_lines(look: Look, made: Plan, curves: Sequence[Curve], width: int, height: int) -> list[Line]:
    """Decode: the bound a line, the expected range a band, a curve a number of requests; figures at this context."""
    lines = [title(look, "Decode: tok/s by tokens each", width, "all requests together")]
    if not curves:
        return [*lines, (look.seg(fit("how fast this memory is read is not known here", width), "label"),)]
    known = [point for curve in curves for point in curve.points]
    rows = plane_rows(height)
    figures = _decode_figures(look, made, width)
    if not known or rows < LEAST:
        return [*lines, *figures][:height]
    low, high = _decades(min(point.expected.low for point in known), max(point.bound for point in known))
    left, right = known[0].context, max(point.context for curve in curves for point in curve.points)
    plane = Plane(width - LABEL - 4, rows)
    span = _x_span(made, left)
    for curve in curves:
        points = {round(place(one.context, *span) * (plane.columns - 1)): one for one in curve.points}
        for column, one in points.items():
            _draw(plane, column, one.bound, (one.expected.low, one.expected.high), low, high)
    ends = _ends(curves, plane, low, high, right)
    lines += _plane_lines(look, plane, low, high, _rate_label, ends)
    lines.append(_axis(look, plane.width, span, made.serving.context))
    return [*lines, *figures][:height]


def first_lines(look: Look, made: Plan, prefills: Sequence[Prefill], width: int, height: int) -> list[Line]:
    """The first token of a prompt alone: the floor a line, the expected range a band; figures at some lengths."""
    lines = [title(look, "First token (TTFT) by prompt", width, "alone on the server")]
    if not prefills:
        return [*lines, (look.seg(fit("how fast this card multiplies is not known here", width), "label"),)]
    rows = plane_rows(height)
    figures = _first_figures(look, made, width)
    if rows < LEAST:
        return [*lines, *figures][:height]
    low, high = _decades(min(one.floor for one in prefills), max(one.expected.high for one in prefills))
    plane = Plane(width - LABEL, rows)
    span = _x_span(made, prefills[0].tokens)
    for one in prefills:
        column = round(place(one.tokens, *span) * (plane.columns - 1))
        _draw(plane, column, one.floor, (one.expected.low, one.expected.high), low, high)
    lines += _plane_lines(look, plane, low, high, _time_label, {})
    lines.append(_axis(look, plane.width, span, made.wish.prompt or max(1, made.serving.context // 2)))
    return [*lines, *figures][:height]


def _x_span(made: Plan, left: int) -> tuple[float, float]:
    return float(left), float(max(left + 1, made.wish.model.shape.positions))


def _decades(low: float, high: float) -> tuple[float, float]:
    """A scale of ratios that holds both, a little beyond them."""
    return low / 1.15, high * 1.15


def _draw(plane: Plane, column: int, bound: float, expected: tuple[float, float], low: float, high: float) -> None:
    ends = (place(expected[0], low, high), place(expected[1], low, high))
    plane.band(column, ends[0], ends[1], EXPECTED, RANGE_MARK)
    plane.dot(column, place(bound, low, high), BOUND, BOUND_MARK)


def _ends(curves: Sequence[Curve], plane: Plane, low: float, high: float, right: int) -> dict[int, str]:
    """Row: what stands at its right end."""
    found: dict[int, str] = {}
    for curve in curves:
        if not curve.points:
            continue
        up = place(curve.points[-1].expected.high, low, high)
        row = plane.height - 1 - round(up * (plane.height - 1))
        while row in found and row > 0:
            row -= 1
        found[row] = f"×{curve.batch}"
    return found


def _plane_lines(
    look: Look, plane: Plane, low: float, high: float, label: Callable[[float], str], ends: dict[int, str]
) -> list[Line]:
    lines: list[Line] = []
    ticks = _ticks(plane.height)
    for row in range(plane.height):
        share = (plane.height - 1 - row) / max(1, plane.height - 1)
        value = low * (high / low) ** share
        text = label(value) if row in ticks else ""
        line = [look.seg(f"{text:>{LABEL - 1}}", "label"), look.seg("│", "rule")]
        line += [look.seg(run, pen) for run, pen in plane.row(row, look.ascii)]
        if row in ends:
            line.append(look.seg(ends[row], "title"))
        lines.append(tuple(line))
    return lines


def _ticks(height: int) -> set[int]:
    return {0, height - 1} | ({height // 2} if height >= 5 else set())


def _rate_label(value: float) -> str:
    return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"


def _time_label(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 1000 else duration(value)


def _axis(look: Look, width: int, span: tuple[float, float], at: float) -> Line:
    """The lengths below, and a mark at the plan's own."""
    mark = min(width - 1, max(0, round(place(at, *span) * (width - 1))))
    cells = [" "] * width
    cells[mark] = "▲"  # a length that would touch it gives way
    for power in range(8):
        step = 1024 * 4**power
        where, text = place(step, *span), short(step)
        begin = min(round(where * (width - 1)), width - len(text))
        around = cells[max(0, begin - 1) : begin + len(text) + 1]
        if 0 <= where <= 1 and begin >= 0 and "".join(around).isspace():
            cells[begin : begin + len(text)] = text
    text = "".join(cells)
    return (
        look.seg(" " * LABEL),
        look.seg(text[:mark], "label"),
        look.seg("▲", "accent"),
        look.seg(text[mark + 1 :], "label"),
    )


def _decode_figures(look: Look, made: Plan, width: int) -> list[Line]:
    """Exact figures at the plan's context: expected, and at most."""
    told: list[Line] = [(look.seg(f"▲{short(made.serving.context)} ", "accent"),)]
    for batch in BATCHES:
        if at_once(made.wish.model, made.serving, made.memory.pool, made.serving.context) < batch:
            continue
        one = decode(made.wish.model, made.wish.gpu, made.serving, batch, made.serving.context)
        told.append((look.seg(f"×{batch} ", "label"), look.seg(_range(one))))
        told.append((look.seg(f" ≤ {number(round(one.bound))}  ", BOUND),))  # fmt: skip
    if len(told) == 1:
        told.append((look.seg("not one request of that length fits", "label"),))
    return [packed(width, *told)]


def _range(one: Decode) -> str:
    return f"{number(round(one.expected.low))}–{number(round(one.expected.high))}"


def _first_figures(look: Look, made: Plan, width: int) -> list[Line]:
    asked = made.wish.prompt or max(1, made.serving.context // 2)
    told: list[Line] = []
    for tokens in dict.fromkeys((asked, 1024, 8192, 32_768)):
        one = prefill(made.wish.model, made.wish.gpu, made.serving, tokens)
        if one is None or tokens > made.wish.model.shape.positions or math.isinf(one.floor):
            continue
        mark = "▲" if tokens == asked else ""
        told.append(
            (
                look.seg(f"{mark}{short(tokens)} ", "accent" if mark else "label"),
                look.seg(f"{_time_label(one.expected.low)}–{_time_label(one.expected.high)}"),
            )
        )
        told.append((look.seg(f" ≥ {_time_label(one.floor)}  ", BOUND),))  # fmt: skip
    return [packed(width, *told)]
