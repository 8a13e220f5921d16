"""The guide on the whole screen, each claim checked against what is shown now; one is chosen, Enter tells all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from qtop.guide.registry import Entry, check_all
from qtop.ui.look import Line
from qtop.ui.panels.guide import FOOT, guide_foot, guide_head, guide_rows
from qtop.ui.panels.header import Key
from qtop.ui.screens.base import View
from qtop.ui.screens.chooser import ChooserScreen, Item
from qtop.ui.screens.dialogs import PageDialog

LEAST_FOR_FOOT = 34
"""Rows of a terminal from which the chosen claim stands under the list in short."""


class GuideScreen(ChooserScreen):
    """Up and down choose a claim."""

    NAME = "guide"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.scroll(1)"),
        ("enter", "all of it", "screen.open"),
        ("a", "try it", "screen.experiment"),
        ("o", "overview", "app.show('overview')"),
        ("v", "server", "app.show('server')"),
        ("g", "GPUs", "app.show('gpus')"),
        ("space", "pause", "app.pause"),
        ("^p", "commands", "app.command_palette"),
    )

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "experiment", "Try the guide's remedy here")]

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[Entry, ...] = ()

    def names(self, view: View) -> Sequence[str]:
        """Every claim; all are checked here, before anything is drawn."""
        self._entries = check_all(view.snapshot.frame, view.snapshot.findings)
        return [entry.claim.id for entry in self._entries]

    def items(self, view: View, width: int) -> Sequence[Item]:
        """A row a claim, under the headings of the guide's sections."""
        return guide_rows(self.look, self._entries, self.chosen, width)

    def head(self, view: View, width: int) -> Sequence[Line]:
        """On what, how many of each."""
        return guide_head(self.look, self._entries, view.snapshot.frame, width)

    def foot(self, view: View, width: int) -> Sequence[Line]:
        """The chosen one in short, where there is room."""
        if self.size.height < LEAST_FOR_FOOT:
            return ()
        return guide_foot(self.look, self._entry, width)[:FOOT]

    @property
    def _entry(self) -> Entry:
        return next(entry for entry in self._entries if entry.claim.id == self.chosen)

    def open(self, name: str) -> None:
        """The whole entry."""
        from qtop.report.guide import claim_page

        shown = self.qtop.playback.shown
        if shown is None or not self._entries or isinstance(self.app.screen, PageDialog):
            return
        self.app.push_screen(PageDialog(claim_page(self._entry, shown.findings)))

    def action_experiment(self) -> None:
        """Show what the guide's remedy would do here; nothing is changed without another key."""
        if not self._entries:
            return
        entry, app = self._entry, self.qtop
        trial = entry.experiment
        if trial is None:
            app.say(f"{entry.claim.id} names nothing that can be tried here")
        else:
            app.changes.preview_knob(trial.knob, trial.value, f"the guide, {entry.claim.id}: {trial.note}")
