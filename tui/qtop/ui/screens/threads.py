"""The server's threads on the whole screen, under what the host gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from qtop.ui.look import Line
from qtop.ui.panels.header import Key
from qtop.ui.panels.threads import host_lines, thread_lines
from qtop.ui.screens.base import View
from qtop.ui.screens.listing import ListScreen

SORTS = ("waiting", "running")


class ThreadsScreen(ListScreen):
    """Sorted by waiting, or by running."""

    NAME = "threads"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "scroll", "screen.scroll(1)"),
        ("w", "sort", "screen.sort"),
        ("o", "overview", "app.show('overview')"),
        ("g", "GPUs", "app.show('gpus')"),
        ("v", "server", "app.show('server')"),
        ("P", "plots", "app.show('plots')"),
        ("1-9", "fix", "app.fix(1)"),
        ("space", "pause", "app.pause"),
        ("r", "record", "app.record"),
        ("^p", "commands", "app.command_palette"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w", "sort", "Sort by waiting or running")]

    def __init__(self) -> None:
        super().__init__()
        self._sort = SORTS[0]

    def action_sort(self) -> None:
        """The other order."""
        self._sort = SORTS[1 - SORTS.index(self._sort)]
        self.qtop.redraw()

    def head(self, view: View, width: int) -> Sequence[Line]:
        """Host, limits, neighbours, and the names of the columns."""
        return host_lines(self.look, view.snapshot.frame, width, self._sort)

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """A row a thread."""
        return thread_lines(self.look, view.snapshot.frame.sched, width, self._sort)
