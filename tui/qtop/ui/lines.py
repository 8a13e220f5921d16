"""A widget of prepared lines: it redraws the lines that changed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from qtop.ui.look import Line


class Lines(Widget):
    """Shows lines of segments, cut to its width. What draws them is a pure function elsewhere."""

    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()

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
        base = self.rich_style
        segments = [
            Segment(segment.text, base + segment.style if segment.style else base)
            for segment in (self._lines[y] if y < len(self._lines) else ())
        ]
        return Strip(segments).adjust_cell_length(self.size.width, base)
