"""Charts with axes, drawn once (plotext)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

FILL = 12
"""Points drawn between two readings, so that they read as a line."""


def share_plot(points: Sequence[tuple[float, float | None]], threshold: float, width: int, height: int) -> str:
    """A share of time over the last minutes, with its threshold as a level line: (seconds ago, share 0–1) as %."""
    shown = [(-ago, None if share is None else share * 100.0) for ago, share in points]
    return line_plot(shown, width, height, top=100.0, level=threshold * 100.0)


def line_plot(
    points: Sequence[tuple[float, float | None]],
    width: int,
    height: int,
    top: float | None = None,
    level: float | None = None,
) -> str:
    """Plain text, ``width`` × ``height`` cells: (seconds, value) as a line; ``top`` is the value at the upper edge,
    ``level`` is drawn across.

    "" when fewer than two points are known.
    """
    known = [(t, value) for t, value in points if value is not None]
    if len(known) < 2 or width < 20 or height < 6:
        return ""
    import plotext  # 0.2 s to import: paid when a chart is asked for, not at start

    xs, ys = [known[0][0]], [known[0][1]]
    for (x0, y0), (x1, y1) in pairwise(known):
        for step in range(1, FILL + 1):
            xs.append(x0 + (x1 - x0) * step / FILL)
            ys.append(y0 + (y1 - y0) * step / FILL)
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    figure.ruler("y").lim(0, top if top is not None else max(max(ys) * 1.05, 1e-9))
    figure.draw(figure.signal(xs, ys, marker="braille"))
    if level is not None:
        figure.line(level, "h")
    figure.label("seconds", "x")
    text = str(plotext.uncolorize(str(figure.build())))
    figure.clear()
    return "\n".join(line.rstrip() for line in text.splitlines())
