"""A main screen whose rows may be more than fit: a fixed head, and rows that scroll under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from qtop.ui.lines import Lines
from qtop.ui.look import Line
from qtop.ui.screens.base import MainScreen, View


class ListScreen(MainScreen):
    """Up, down, page keys and the wheel move the rows; what is cut off is told in the last one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll(1)", "Down"),
        Binding("up,k", "scroll(-1)", "Up"),
        Binding("pagedown", "page(1)", "Page down"),
        Binding("pageup", "page(-1)", "Page up"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._first = 0
        self._fits = 1

    def body(self) -> Iterable[Widget]:
        """Lines, all of them prepared here."""
        yield Lines(id="list", classes="whole")

    def head(self, view: View, width: int) -> Sequence[Line]:
        """The rows that stay."""
        raise NotImplementedError

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """The rows that scroll."""
        raise NotImplementedError

    def foot(self, view: View, width: int) -> Sequence[Line]:
        """Rows that stay at the lower edge."""
        return ()

    @property
    def list_width(self) -> int:
        """Columns of a row."""
        return max(40, self.size.width - 2)

    def room(self, view: View) -> int:
        """Rows between head and foot."""
        held = len(self.head(view, self.list_width)) + len(self.foot(view, self.list_width))
        return max(1, self.rows_between - held)

    def draw_body(self, view: View) -> None:
        """Head, then as many rows as fit from the first wanted, then the foot."""
        width, height = self.list_width, self.rows_between
        head, foot = list(self.head(view, width)), list(self.foot(view, width))
        rows = list(self.rows(view, width))
        room = max(1, height - len(head) - len(foot))
        self._fits = room
        self._first = max(0, min(self._first, len(rows) - room + 1 if len(rows) > room else 0))
        shown = rows[self._first : self._first + room]
        below = len(rows) - self._first - len(shown)
        if below > 0 or self._first:
            shown = shown[: room - 1]
            below = len(rows) - self._first - len(shown)
            above = f"{self._first} above" if self._first else ""
            under = f"{below} more below" if below else ""
            shown.append((self.look.seg(f"↑↓ {', '.join(x for x in (above, under) if x)}", "label"),))
        if foot:
            shown += [()] * (room - len(shown))
        self.lines("list").show([*head, *shown, *foot])

    def action_scroll(self, by: int) -> None:
        """By so many rows."""
        self._first = max(0, self._first + by)
        self.qtop.redraw()

    def action_page(self, by: int) -> None:
        """By so many screens."""
        self.action_scroll(by * max(1, self._fits - 2))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self.action_scroll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self.action_scroll(-3)
