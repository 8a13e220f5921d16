"""A chart with axes, drawn once (plotext): a share of time over the last minutes, with its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

FILL = 12
"""Points drawn between two readings, so that they read as a line."""


def share_plot(points: Sequence[tuple[float, float | None]], threshold: float, width: int, height: int) -> str:
    """Plain text, ``width`` × ``height`` cells: (seconds ago, share 0–1) as %, the threshold as a level line.

    "" when fewer than two points are known.
    """
    known = [(-ago, share * 100.0) for ago, share in points if share is not None]
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
    figure.ruler("y").lim(0, 100)
    figure.draw(figure.signal(xs, ys, marker="braille"))
    figure.line(threshold * 100.0, "h")
    figure.label("seconds", "x")
    text = str(plotext.uncolorize(str(figure.build())))
    figure.clear()
    return "\n".join(line.rstrip() for line in text.splitlines())
