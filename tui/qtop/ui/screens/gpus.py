"""Every GPU on the whole screen: a row each where there are several, then each in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qtop.ui.look import Line
from qtop.ui.panels.gpus import gpu_blocks, gpu_table
from qtop.ui.panels.header import Key
from qtop.ui.screens.base import View
from qtop.ui.screens.listing import ListScreen


class GpusScreen(ListScreen):
    """Scrolls under the table."""

    NAME = "gpus"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "scroll", "screen.scroll(1)"),
        ("o", "overview", "app.show('overview')"),
        ("t", "threads", "app.show('threads')"),
        ("v", "server", "app.show('server')"),
        ("P", "plots", "app.show('plots')"),
        ("space", "pause", "app.pause"),
        ("r", "record", "app.record"),
        ("^p", "commands", "app.command_palette"),
    )

    def head(self, view: View, width: int) -> Sequence[Line]:
        """A row a GPU, as long as they leave room for one in full."""
        table = gpu_table(self.look, view.snapshot.frame, width)
        return table if len(table) <= self.size.height // 2 else ()

    def rows(self, view: View, width: int) -> Sequence[Line]:
        """Each in full; where the rows of the table are many they scroll too."""
        frame = view.snapshot.frame
        table = gpu_table(self.look, frame, width)
        above = table if len(table) > self.size.height // 2 else []
        return [*above, *gpu_blocks(self.look, frame, width)]
