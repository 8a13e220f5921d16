"""A widget of prepared lines: it redraws the lines that changed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from qtop.ui.look import Line
from qtop.ui.plain import Ground, Plain


class Lines(Plain):
    """Shows lines of segments, cut to its width. What draws them is a pure function elsewhere."""

    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._on: Ground | None = None
        self._styles_on: dict[int, tuple[Style, Style]] = {}
        """Styles on that ground, by the identity of each; it is kept with it, so that the identity stays its own."""
        self._strips: dict[int, tuple[Line, int, Strip]] = {}
        """By row the line that was drawn there, its width, and how."""

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is shown."""
        return self._lines

    def text(self) -> str:
        """What is shown, without colours."""
        return "\n".join("".join(segment.text for segment in line).rstrip() for line in self._lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines; only those that differ are drawn again."""
        old, new = self._lines, tuple(lines)
        if old == new:
            return
        self._lines = new
        if len(old) != len(new) and self.styles.height is not None and self.styles.height.is_auto:
            self.refresh(layout=True)
            return
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y in range(max(len(old), len(new)))
            if y >= len(old) or y >= len(new) or old[y] != new[y]
        ]
        self.refresh(*changed)

    def recolour(self, again: Callable[[Line], Line]) -> None:
        """Show the same lines as ``again`` gives them back: in other colours."""
        self._lines = tuple(again(line) for line in self._lines)
        self.refresh()

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """As many rows as lines."""
        return max(1, len(self._lines))

    def render_line(self, y: int) -> Strip:
        """One prepared line on the widget's background."""
        ground, width = self.ground, self.outer_size.width if self.ground.bare else self.size.width
        if ground is not self._on:
            self._on = ground
            self._styles_on.clear()
            self._strips.clear()
        line = self._lines[y] if y < len(self._lines) else ()
        known = self._strips.get(y)
        if known is not None and known[0] is line and known[1] == width:
            return known[2]
        base, styles = ground.style, self._styles_on
        segments = []
        for text, style, _ in line:
            if style is None:
                segments.append(Segment(text, base))
                continue
            drawn = styles.get(id(style))
            if drawn is None:
                drawn = styles[id(style)] = (style, base + style)
            segments.append(Segment(text, drawn[1]))
        strip = Strip(segments).adjust_cell_length(width, base)
        self._strips[y] = (line, width, strip)
        return strip
