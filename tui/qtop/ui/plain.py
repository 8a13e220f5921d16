"""A widget that is nothing but its lines: what Textual does for borders, padding and tints is left out."""

from __future__ import annotations

from typing import NamedTuple

from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Ground(NamedTuple):
    """What a widget draws on."""

    style: Style
    """Its own style, which is what text without another one has."""
    background: Color
    bare: bool
    """Nothing is drawn around its lines or over them."""


class Plain(Widget):
    """Gives its lines (``render_line``, each as wide as the widget) to the screen as they are.

    What its rules say is looked up when they change, not for every line: that costs more than most lines. Where they
    ask for more than a ground to draw on, or the mouse is over a link, Textual draws.
    """

    _ground: tuple[int, Ground] | None = None

    @property
    def ground(self) -> Ground:
        """What it draws on now; the same object until its rules change, or those of what it stands in."""
        key = self.styles._cache_key
        if self._ground is None or self._ground[0] != key:
            self._ground = (key, Ground(self.rich_style, self.background_colors[1], self._is_bare()))
        return self._ground[1]

    def _is_bare(self) -> bool:
        styles = self.styles
        return not (
            any(styles.gutter)
            or any(edge for edge, _ in styles.outline)
            or styles.tint.a
            or styles.has_rule("hatch")
            or styles.text_opacity != 1.0
            or self.opacity != 1.0
        )

    def render_lines(self, crop: Region) -> list[Strip]:
        """These lines, the app's filters applied."""
        ground, width = self.ground, self.outer_size.width
        if not ground.bare or (self.auto_links and self.hover_style):
            return super().render_lines(crop)
        strips = [self.render_line(y) for y in crop.line_range]
        if any(strip.cell_length != width for strip in strips):
            return super().render_lines(crop)
        for one in self.get_line_filters():
            strips = [strip.apply_filter(one, ground.background) for strip in strips]
        return strips if crop.column_span == (0, width) else [strip.crop(*crop.column_span) for strip in strips]

    def notify_style_update(self) -> None:
        """Look everything up again."""
        self._ground = None
        super().notify_style_update()
