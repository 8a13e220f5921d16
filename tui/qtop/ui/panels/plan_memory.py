"""Where a plan's memory goes as a bar, and what fits by context and concurrency as a map."""

from __future__ import annotations

from qtop.plan.making import Plan
from qtop.plan.picture import Fit, Grid
from qtop.report.plan import PART_CELLS, PLAIN_CELLS, parts
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import packed, title
from qtop.units import GIB, size

PART_PENS = {
    "weights": "accent", "cache": "good", "activations": "warn", "graphs": "warn", "runtime": "label",
    "others": "crit", "free": "rule",
}  # fmt: skip
FIRST_NAMED = ("weights", "cache", "others", "free")
SHOWN = 0.05 * GIB
"""Bytes from which a part is named."""
MARKS: dict[Fit, tuple[str, str, str]] = {
    "easy": ("█", "good", "with room"),
    "just": ("▓", "warn", "just"),
    "waits": ("░", "label", "some wait"),
    "never": ("×", "crit", "no start"),
}
"""Character, pen, words."""
LABEL = 6
CELL = 5
WIDEST_CELL = 7


def verdict_lines(look: Look, made: Plan | None, failed: str, width: int, most: int = 2) -> list[Line]:
    """The plan in one sentence; why there is none."""
    if made is None:
        return [(look.seg(text, "crit"),) for text in wrap(failed, width)[:most]]
    pen = "good" if made.fits else "crit"
    rows = wrap(made.verdict, width)
    if len(rows) > most:
        rows = [*rows[: most - 1], fit(" ".join(rows[most - 1 :]), width)]
    word, _, rest = rows[0].partition(":")
    return [(look.seg(f"{word}:", pen), look.seg(rest)), *((look.seg(row),) for row in rows[1:])]


def memory_lines(look: Look, made: Plan, width: int) -> list[Line]:
    """A heading, a bar of all that CUDA sees, and its parts in GiB: as many as fit, in two rows at most."""
    spent = made.memory
    cells = PLAIN_CELLS if look.ascii else PART_CELLS
    what = "RAM" if made.wish.gpu.is_cpu else "VRAM"
    each = " each" if made.wish.gpus > 1 else ""
    note = f"{size(spent.total)}{each}, vLLM may take {size(spent.requested)}"
    bar, drawn, at = [], 0, 0.0
    for name, part in parts(made):
        at += max(0.0, part)
        end = min(width, round(at / spent.total * width))
        if end > drawn:
            bar.append(look.seg(cells[name] * (end - drawn), PART_PENS[name]))
            drawn = end
    if drawn < width:
        bar.append(look.seg(cells["free"] * (width - drawn), PART_PENS["free"]))
    told: list[Line] = []
    # In narrow rows the small parts give way, not what is left.
    named = sorted(parts(made), key=lambda one: one[0] not in FIRST_NAMED)
    for name, part in named:
        if part >= SHOWN:
            told.append((look.seg(cells[name], PART_PENS[name]), look.seg(f" {name} ", "label"),
                         look.seg(f"{part / GIB:.1f}  ")))  # fmt: skip
        elif part <= -SHOWN:
            told.insert(0, (look.seg(f"short by {-part / GIB:.1f}  ", "crit"),))
    return [title(look, f"{what}, GiB", width, note), tuple(bar), packed(width, *told)]


def short(tokens: int) -> str:
    """Tokens in five cells: "32K", "9.8K", "900"."""
    return f"{tokens}" if tokens < 1024 else f"{tokens / 1024:.3g}K" if tokens < 1000 * 1024 else f"{tokens >> 20}M"


def thinned(count: int, most: int, keep: int) -> list[int]:
    """At most ``most`` places out of so many: the first, the last and ``keep`` among them, the others evenly."""
    found = list(range(count))
    while len(found) > max(3, most):
        spare = [at for at in found if at not in (0, keep, count - 1)]
        gaps = {at: _gap(found, at) for at in spare}
        found.remove(min(spare, key=lambda at: (gaps[at], -abs(at - keep))))
    return found


def _gap(found: list[int], at: int) -> int:
    """How far apart its neighbours would stand without this one."""
    place = found.index(at)
    return found[place + 1] - found[place - 1]


def grid_lines(look: Look, grid: Grid, width: int, height: int) -> list[Line]:
    """The map in ``height`` rows at most: a heading, a row a number of requests, the contexts, what the marks mean.

    The plan itself stands between brackets; a click on a cell plans that."""
    row_at, column_at = grid.at
    columns = thinned(len(grid.contexts), (width - LABEL) // CELL, column_at)
    count = len(grid.seqs)
    while count > max(3, height - 3) and count - 1 != row_at and not _fits_any(grid.cells[count - 1]):
        count -= 1  # more than fit anywhere: what is below tells more
    rows = thinned(count, height - 3, row_at)
    cell = max(CELL, min(WIDEST_CELL, (width - LABEL) // len(columns)))
    lines = [title(look, "What fits: requests at once × tokens each", width)]
    for row in reversed(rows):
        line = [look.seg(f"{grid.seqs[row]:>{LABEL - 1}} ", "title" if row == row_at else "label")]
        for column in columns:
            char, pen, _ = MARKS[grid.cells[row][column]]
            here = (row, column) == grid.at
            action = f"screen.pick({grid.seqs[row]}, {grid.contexts[column]})"
            ends = ("[", "]") if here else (" ", " ")
            line += [
                look.seg(ends[0], "title", action),
                look.seg(char * (cell - 2), pen, action),
                look.seg(ends[1], "title", action),
            ]
        lines.append(tuple(line))
    names: list[tuple[str, str]] = [(short(grid.contexts[column]).center(cell)[:cell],
                                     "title" if column == column_at else "label") for column in columns]  # fmt: skip
    lines.append((look.seg(" " * LABEL), *(look.seg(text, pen) for text, pen in names)))
    return [*lines, _legend(look, width)]


def _fits_any(row: tuple[Fit, ...]) -> bool:
    return "easy" in row or "just" in row


def _legend(look: Look, width: int) -> Line:
    told: list[Line] = [(look.seg(char, pen), look.seg(f" {words}  ", "label")) for char, pen, words in MARKS.values()]
    mark: Line = (look.seg("[ ]", "title"), look.seg(" this plan", "label"))
    indent: Line = (look.seg(" " * max(0, min(LABEL, width - 62))),)
    return packed(width, indent, *told, mark)


def cells_of(line: Line) -> int:
    """Columns that a line takes."""
    return sum(width_of(segment.text) for segment in line)
