"""A list in which one row is chosen: the keys move the choice, Enter opens it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from qtop.ui.look import Line
from qtop.ui.screens.base import View
from qtop.ui.screens.listing import ListScreen

Item = tuple[str, Line]
"""What a row stands for, "" for a heading, and the row."""


class ChooserScreen(ListScreen):
    """Remembers what is chosen by its name, not by its place: the list may sort itself anew at each tick."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down"),
        Binding("up,k", "move(-1)", "Up"),
        Binding("pagedown", "move(10)", "Page down"),
        Binding("pageup", "move(-10)", "Page up"),
        Binding("enter", "open", "Open"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chosen = ""
        self._names: list[str] = []
        self._moved = True

    @property
    def chosen(self) -> str:
        """What the choice stands on; "" before the first drawing."""
        return self._chosen

    def head(self, view: View, width: int) -> Sequence[Line]:
        """Nothing stays."""
        return ()

    def items(self, view: View, width: int) -> Sequence[Item]:
        """The rows, in ``width`` columns."""
        raise NotImplementedError

    def open(self, name: str) -> None:
        """Enter was pressed on this."""
        raise NotImplementedError

    def choose(self, name: str) -> None:
        """Put the choice on this."""
        self._chosen, self._moved = name, True
        self.qtop.redraw()

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """The items with a mark before the chosen one."""
        items = self.items(view, width - 2)
        self._names = [name for name, _ in items if name]
        if self._chosen not in self._names:
            self._chosen = self._names[0] if self._names else ""
        place = next((at for at, (name, _) in enumerate(items) if name and name == self._chosen), 0)
        if self._moved:
            self._show(place, len(items))
            self._moved = False
        here, gap = self.look.seg("▸ ", "key"), self.look.seg("  ")
        return [(here if name and name == self._chosen else gap, *line) for name, line in items]

    def _show(self, place: int, count: int) -> None:
        """Scroll so far that the chosen row is seen, with a heading above it."""
        room = max(1, self.size.height - 4 - 1)
        if place < self._first + 1:
            self._first = max(0, place - 1)
        elif place >= self._first + room:
            self._first = max(0, min(place - room + 1, count - 1))

    def action_move(self, by: int) -> None:
        """So many rows on."""
        if self._names:
            at = self._names.index(self._chosen) if self._chosen in self._names else 0
            self._chosen = self._names[max(0, min(len(self._names) - 1, at + by))]
            self._moved = True
            self.qtop.redraw()

    def action_open(self) -> None:
        """What is chosen."""
        if self._chosen:
            self.open(self._chosen)
