"""A list in which one row is chosen: the keys and the wheel move the choice, Enter or a click opens it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from qtop.ui.look import Line
from qtop.ui.screens.base import View
from qtop.ui.screens.listing import ListScreen

Item = tuple[str, Line]
"""What a row stands for, "" for a heading, and the row."""
MARGIN = 2
"""Columns of the mark before a row."""


class ChooserScreen(ListScreen):
    """Remembers what is chosen by its name, not by its place: the list may sort itself anew at each tick."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open")]

    def __init__(self) -> None:
        super().__init__()
        self._chosen = ""
        self._items: Sequence[Item] = ()

    @property
    def chosen(self) -> str:
        """What the choice stands on; "" before the first drawing."""
        return self._chosen

    def head(self, view: View, width: int) -> Sequence[Line]:
        """Nothing stays."""
        return ()

    def names(self, view: View) -> Sequence[str]:
        """What may be chosen, in the order of the rows."""
        raise NotImplementedError

    def items(self, view: View, width: int) -> Sequence[Item]:
        """The rows, in ``width`` columns."""
        raise NotImplementedError

    def open(self, name: str) -> None:
        """Enter was pressed on this."""
        raise NotImplementedError

    def draw_body(self, view: View) -> None:
        """Keep the chosen row in sight."""
        names = self.names(view)
        if self._chosen not in names:
            self._chosen = names[0] if names else ""
        self._items = self.items(view, self.list_width - MARGIN)
        at = next((place for place, (name, _) in enumerate(self._items) if name and name == self._chosen), 0)
        self._first = self.in_sight(self._first, at, len(self._items), self.room(view))
        super().draw_body(view)

    @staticmethod
    def in_sight(first: int, at: int, count: int, room: int) -> int:
        """The first row to show, moved as little as needed: the row before is the heading of the first of a section."""
        if count <= room:
            return 0
        whole = room - 1  # the last row tells how many are above and below
        return max(0, min(first, at - 1), at - whole + 1)

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """The items with a mark before the chosen one."""
        here, gap = self.look.seg("▸ ", "accent"), self.look.seg("  ")
        return [(here if name and name == self._chosen else gap, *line) for name, line in self._items]

    def choose(self, name: str) -> None:
        """Put the choice on this."""
        self._chosen = name
        self.qtop.redraw()

    def action_scroll(self, by: int) -> None:
        """The choice so many rows on."""
        names = [name for name, _ in self._items if name]
        if names:
            self.choose(names[max(0, min(len(names) - 1, names.index(self._chosen) + by))])

    def action_open(self, name: str = "") -> None:
        """What is chosen, or was clicked."""
        if name:
            self.choose(name)
        if self._chosen:
            self.open(self._chosen)
