"""The guide on the whole screen, each claim checked against what is shown now; one is chosen, Enter tells all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from qtop.guide.registry import CLAIMS, Entry, check_all
from qtop.ui.look import Line
from qtop.ui.panels.guide import FOOT, guide_foot, guide_head, guide_rows
from qtop.ui.panels.header import Key
from qtop.ui.screens.base import View
from qtop.ui.screens.dialogs import PageDialog
from qtop.ui.screens.listing import ListScreen

LEAST_FOR_FOOT = 34
"""Rows of a terminal from which the chosen claim stands under the list in short."""


class GuideScreen(ListScreen):
    """Up and down choose a claim."""

    NAME = "guide"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.scroll(1)"),
        ("enter", "all of it", "screen.open"),
        ("o", "overview", "app.show('overview')"),
        ("v", "server", "app.show('server')"),
        ("g", "GPUs", "app.show('gpus')"),
        ("space", "pause", "app.pause"),
        ("^p", "commands", "app.command_palette"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "The whole entry")]

    def __init__(self) -> None:
        super().__init__()
        self._chosen = 0
        self._entries: tuple[Entry, ...] = ()
        self._rows: Sequence[Line] = ()

    @property
    def chosen(self) -> str:
        """The claim under the cursor."""
        return CLAIMS[self._chosen].id

    def draw_body(self, view: View) -> None:
        """Check all, keep the chosen one in sight, draw."""
        frame = view.snapshot.frame
        self._entries = check_all(frame, view.snapshot.findings)
        width = self.list_width
        self._rows, at = guide_rows(self.look, self._entries, self._chosen, width)
        self._first = self.in_sight(self._first, at, len(self._rows), self.room(view))
        super().draw_body(view)

    @staticmethod
    def in_sight(first: int, at: int, count: int, room: int) -> int:
        """The first row to show, moved as little as needed: the row before is the heading of the first of a section."""
        if count <= room:
            return 0
        whole = room - 1  # the last row tells how many are above and below
        return max(0, min(first, at - 1), at - whole + 1)

    def head(self, view: View, width: int) -> Sequence[Line]:
        """On what, how many of each."""
        return guide_head(self.look, self._entries, view.snapshot.frame, width)

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """A row a claim."""
        return self._rows

    def foot(self, view: View, width: int) -> Sequence[Line]:
        """The chosen one in short, where there is room."""
        if self.size.height < LEAST_FOR_FOOT:
            return ()
        return guide_foot(self.look, self._entries[self._chosen], width)[:FOOT]

    def action_scroll(self, by: int) -> None:
        """The claim so many further."""
        self._chosen = max(0, min(len(CLAIMS) - 1, self._chosen + by))
        self.qtop.redraw()

    def action_open(self, claim: str = "") -> None:
        """The whole entry: of the chosen claim, or of the one clicked."""
        from qtop.report.guide import claim_page

        if claim:
            self._chosen = next(number for number, one in enumerate(CLAIMS) if one.id == claim)
            self.qtop.redraw()
        shown = self.qtop.playback.shown
        if shown is None or not self._entries or isinstance(self.app.screen, PageDialog):
            return
        self.app.push_screen(PageDialog(claim_page(self._entries[self._chosen], shown.findings)))
