"""A histogram of gaps that grows while a test runs: logarithmic bins at fixed places, so that columns stay where they
are. Pure."""

from __future__ import annotations

import math

from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.widgets.marks import nice_top
from qtop.units import milliseconds, number

PER_DECADE = 200
"""Bins in a factor of ten: each is 1.2 % wide, so that a median read from them is right within 0.6 %."""
LEAST_MS = 0.1
"""What is shorter came together with the token before it, and is counted here."""
NARROWEST = 5.0
"""Factor between both ends of the axis, at least."""
LABEL = 7
"""Cells to the left of the bars."""
LEAST_ROWS = 6
"""Heading, bars of two rows, axis, its figures, marks."""
_STEPS = (1.0, 2.0, 5.0)
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BLOCKS_ASCII = " _.-=*#"


class GapCounts:
    """How many gaps fell into each bin; adding one costs the same whatever is in it already."""

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.n = 0
        self.largest = 0.0
        self._least = math.inf

    def add(self, ms: float) -> None:
        """One gap more."""
        ms = max(ms, LEAST_MS)
        place = math.floor(math.log10(ms) * PER_DECADE)
        self._bins[place] = self._bins.get(place, 0) + 1
        self.n += 1
        self.largest = max(self.largest, ms)
        self._least = min(self._least, ms)

    def quantile(self, q: float) -> float | None:
        """The middle of the bin that holds the q-quantile (0 to 1), ms; None of nothing."""
        wanted, seen = q * (self.n - 1), 0
        for place in sorted(self._bins):
            seen += self._bins[place]
            if seen > wanted:
                return min(self.largest, float(10 ** ((place + 0.5) / PER_DECADE)))
        return None

    def span(self) -> tuple[float, float]:
        """Both ends of the axis, ms, each 1, 2 or 5 × 10ⁿ. As gaps are added it grows only, and in few steps."""
        if not self.n:
            return 1.0, 10.0
        low = high = _step_at_or_below(self._least)
        while high <= self.largest or high < low * NARROWEST:
            high = _next_step(high)
        return low, high

    def columns(self, width: int) -> list[int]:
        """Counts of at most ``width`` columns between both ends of ``span``, each of equally many bins."""
        low, high = (_edge(ms) for ms in self.span())
        each = max(1, -(-(high - low) // max(1, width)))
        counts = [0] * -(-(high - low) // each)
        for place, count in self._bins.items():
            counts[min(len(counts) - 1, max(0, (place - low) // each))] += count
        return counts

    def place(self, ms: float, width: int) -> int:
        """The column that a gap falls into."""
        low, high = (_edge(end) for end in self.span())
        each = max(1, -(-(high - low) // max(1, width)))
        last = -(-(high - low) // each) - 1
        return min(last, max(0, (math.floor(math.log10(max(ms, LEAST_MS)) * PER_DECADE) - low) // each))


def histogram_lines(
    look: Look, counts: GapCounts, kind: str, width: int, height: int, median: float | None = None
) -> list[Line]:
    """Heading with median and largest gap, bars, axis with figures, and marks under both. ``kind``: ITL or ICL;
    ``median``: the exact one, where it is known."""
    median = counts.quantile(0.5) if median is None else median
    note = f"{number(counts.n)} of them   p50 {milliseconds(median)}   largest {milliseconds(counts.largest)}"
    name = f"Gaps between {'tokens' if kind == 'itl' else 'chunks'}"
    head = title(look, name if len(name) + len(note) + 4 < width else "Gaps", width, note if counts.n else "")
    room = width - LABEL
    if median is None:
        return [head, (look.seg("none yet", "label"),)]
    if height < LEAST_ROWS or room < 20:
        return [head]
    columns = counts.columns(room)
    rows = height - 4
    top = nice_top(max(columns))
    lines = [head]
    for row, text in enumerate(_bars(columns, rows, top, look.ascii)):
        label = number(top) if row == 0 else "0" if row == rows - 1 else ""
        lines.append((look.seg(f"{label.rjust(LABEL - 2)} │", "label"), look.seg(text.rstrip(), "chart")))
    ticks = _ticks(counts, room, len(columns))
    rule = "".join("┴" if place in ticks else "─" for place in range(max(ticks) + 1))
    lines.append((look.seg(f"{' ' * (LABEL - 2)} └{rule}", "label"),))
    lines.append((look.seg(" " * LABEL + _figures(ticks, room), "label"),))
    marks = _marks(counts.place(median, room), counts.place(counts.largest, room), room)
    lines.append((look.seg(" " * LABEL + marks, "text"),))
    return lines


def _bars(columns: list[int], rows: int, top: float, ascii: bool) -> list[str]:
    """Rows of blocks, uppermost first; a column that holds anything shows."""
    blocks = _BLOCKS_ASCII if ascii else _BLOCKS
    steps = len(blocks) - 1
    levels = [max(1, round(count / top * steps * rows)) if count else 0 for count in columns]
    return [
        "".join(blocks[min(steps, max(0, level - floor))] for level in levels)
        for floor in range(steps * (rows - 1), -1, -steps)
    ]


def _ticks(counts: GapCounts, room: int, last: int) -> dict[int, float]:
    """The figures of the axis by their column; both ends are among them."""
    low, high = counts.span()
    ticks = {0: low}
    value = _next_step(low)
    while value < high * 0.999:
        ticks[counts.place(value * 1.0001, room)] = value
        value = _next_step(value)
    ticks[min(room - 1, last)] = high
    return ticks


def _figures(ticks: dict[int, float], room: int) -> str:
    cells = [" "] * room
    end = -1
    for place, value in ticks.items():
        text = f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
        begin = min(place, room - len(text))
        if begin > end:
            cells[begin : begin + len(text)] = text
            end = begin + len(text)
    return "".join(cells).rstrip()


def _marks(median: int, largest: int, room: int) -> str:
    """Arrows under the median and the largest gap, with their names where there is room."""
    cells = [" "] * room
    free = 0
    for place, name in ((median, "p50"), (largest, "largest")):
        behind, before = f"▲ {name}", f"{name} ▲"
        if place >= free and place + len(behind) <= room and not (name == "p50" and place + 6 > largest > place):
            cells[place : place + len(behind)] = behind
            free = place + len(behind) + 1
        elif place - len(before) + 1 >= free:
            cells[place - len(before) + 1 : place + 1] = before
            free = place + 2
        else:
            cells[place] = "▲"
            free = max(free, place + 2)
    return "".join(cells).rstrip()


def _edge(ms: float) -> int:
    return round(math.log10(ms) * PER_DECADE)


def _step_at_or_below(ms: float) -> float:
    """The largest of 1, 2, 5 × 10ⁿ that is not above."""
    exponent = math.floor(math.log10(ms))
    found = float(f"1e{exponent}")
    for step in _STEPS:
        one = float(f"{step:g}e{exponent}")
        if one <= ms:
            found = one
    return found


def _next_step(ms: float) -> float:
    """The one of 1, 2, 5 × 10ⁿ after this one."""
    exponent = math.floor(math.log10(ms) + 1e-9)
    for step in (*_STEPS, 10.0):
        one = float(f"{step:g}e{exponent}")
        if one > ms * 1.0001:
            return one
    return float(f"2e{exponent + 1}")
