"""Composing what changed, and nothing else.

Textual renders every widget that touches the smallest rectangle around all changes, cuts each of its lines, and throws
most of it away. A screen of lines changes in many places at once, so that rectangle is nearly all of it: half of what a
tick cost to draw.
"""

from __future__ import annotations

from typing import NamedTuple

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class _Seen(NamedTuple):
    """What is to be seen of a widget, in columns and rows of the screen; the ends are not in it."""

    left: int
    top: int
    right: int
    bottom: int
    widget: Widget
    region: Region
    """All of it."""


class SpanCompositor(Compositor):
    """Renders the changed lines of the widgets in front of the changed spans.

    A span that is not within one widget is left to Textual, with all of that frame; so is everything once Textual's
    inner workings turn out to be other than expected.
    """

    _whole: bool = False
    """Leave everything to Textual."""
    _front: list[_Seen] | None = None
    _front_of: object = None

    def render_partial_update(self) -> ChopsUpdate | None:
        """The update of the dirty regions, None without any."""
        update = None
        if not self._whole and self._dirty_regions:
            try:
                update = self._render_spans(list(self._regions_to_spans(self._dirty_regions)))
            except Exception:  # what is at fault is said by the same call of Textual's own, or it works there
                self._whole = True
        if update is None:
            return super().render_partial_update()
        self._dirty_regions.clear()
        return update

    def _render_spans(self, spans: list[tuple[int, int, int]]) -> ChopsUpdate | None:
        """None where a span is not all within one widget."""
        owners = []
        for span in spans:
            seen = self._owner(*span)
            if seen is None:
                return None
            owners.append(seen)
        height = self.size.height
        chops: list[dict[int, Strip | None]] = [{} for _ in range(height)]
        ends: list[list[int]] = [[] for _ in range(height)]
        rows: dict[int, list[int]] = {}
        for (y, _, _), seen in zip(spans, owners, strict=True):
            rows.setdefault(id(seen), []).append(y)
        lines: dict[tuple[int, int], Strip] = {}
        for seen in {id(seen): seen for seen in owners}.values():
            lines |= _render(seen, rows[id(seen)])
        for (y, x1, x2), seen in zip(spans, owners, strict=True):
            strip = lines[id(seen), y]
            if (x1, x2) != (seen.left, seen.right):
                strip = strip.crop(x1 - seen.left, x2 - seen.left)
            chops[y][x1] = strip
            ends[y].append(x2)
        return ChopsUpdate(chops, spans, ends)

    def _owner(self, y: int, x1: int, x2: int) -> _Seen | None:
        """The widget in front of a span; None where there are several, or none."""
        for seen in self._seen():
            if seen.top <= y < seen.bottom and seen.left < x2 and x1 < seen.right:
                return seen if seen.left <= x1 and x2 <= seen.right else None
        return None

    def _seen(self) -> list[_Seen]:
        """The widgets on the screen, those in front first."""
        widgets = self.visible_widgets
        if self._front is None or self._front_of is not widgets:  # made anew with each layout
            self._front_of, self._front = widgets, []
            screen = self.size.region
            for widget, (region, clip) in widgets.items():
                x, y, width, height = region.intersection(clip).intersection(screen)
                if width and height:
                    self._front.append(_Seen(x, y, x + width, y + height, widget, region))
        return self._front


def _render(seen: _Seen, rows: list[int]) -> dict[tuple[int, int], Strip]:
    """The lines of a widget on these rows of the screen (ascending), by the widget and row; those that follow each
    other in one call."""
    found = {}
    region, at = seen.region, 0
    while at < len(rows):
        first = at
        while at + 1 < len(rows) and rows[at + 1] <= rows[at] + 1:
            at += 1
        at += 1
        top, bottom = rows[first], rows[at - 1] + 1
        crop = Region(seen.left - region.x, top - region.y, seen.right - seen.left, bottom - top)
        for y, strip in enumerate(seen.widget.render_lines(crop), top):
            found[id(seen), y] = strip
    return found
