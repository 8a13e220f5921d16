"""The server on the whole screen: figures and their sources, latencies, ranks, settings in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qtop.ui.look import Line
from qtop.ui.panels.header import Key
from qtop.ui.panels.serving import serving_lines
from qtop.ui.screens.base import View
from qtop.ui.screens.listing import ListScreen


class ServerScreen(ListScreen):
    """Scrolls as one page."""

    NAME = "server"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "scroll", "screen.scroll(1)"),
        ("o", "overview", "app.show('overview')"),
        ("g", "GPUs", "app.show('gpus')"),
        ("t", "threads", "app.show('threads')"),
        ("P", "plots", "app.show('plots')"),
        ("p", "test prompt", "app.show('probe')"),
        ("space", "pause", "app.pause"),
        ("r", "record", "app.record"),
        ("^p", "commands", "app.command_palette"),
    )

    def head(self, view: View, width: int) -> Sequence[Line]:
        """Nothing stays: the blocks have headings of their own."""
        return ()

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """All blocks."""
        return serving_lines(self.look, view.snapshot.frame, width)
