"""Every rule with what qtop says of it now: firing, what came and went, clear, cannot tell and why. Enter: its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from qtop.diagnose.rule import State
from qtop.report.text import MARKS, episodes_text, figure_text
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line
from qtop.ui.panels.findings import finding_pen
from qtop.ui.panels.header import Key
from qtop.ui.screens.base import View
from qtop.ui.screens.chooser import ChooserScreen, Item

HEADINGS = {
    State.FIRING: "Fires now",
    State.CLEAR: "Clear",
    State.CANNOT_TELL: "Cannot tell",
    State.NOT_APPLICABLE: "Does not apply here",
}


class FindingsScreen(ChooserScreen):
    """By state; the worst on top."""

    NAME = "findings"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.scroll(1)"),
        ("enter", "its page", "screen.open"),
        ("o", "overview", "app.show('overview')"),
        ("G", "guide", "app.show('guide')"),
        ("space", "pause", "app.pause"),
        ("r", "record", "app.record"),
        ("^p", "commands", "app.command_palette"),
    )

    def names(self, view: View) -> Sequence[str]:
        """Every rule."""
        return [one.rule for one in view.snapshot.findings]

    def items(self, view: View, width: int) -> Sequence[Item]:
        """A heading a state, a row a rule; under a firing one its headline."""
        items: list[Item] = []
        seen: State | None = None
        end = view.snapshot.frame.t
        for one in view.snapshot.findings:
            if one.state is not seen:
                seen = one.state
                items.append(("", (self.look.seg(HEADINGS[seen], "title"),)))
            pen = finding_pen(one)
            told = self._told(one.state)
            wide = width >= 100
            figure = figure_text(one) if told else ""
            name = fit(one.title, 42).ljust(42) if wide else fit(one.title, 30).ljust(30)
            column = 16 if wide else 14
            used = 8 + width_of(name) + column + 2
            note = one.headline if one.state is State.FIRING else one.reason
            if one.record.times and one.state is State.CLEAR:
                note = episodes_text(one, end)
            line: Line = (
                self.look.seg(f"{MARKS[one.state]} {one.rule} ", pen, f"app.page('{one.rule}')"),
                self.look.seg(name, "text" if one.state is State.FIRING else "label", f"app.page('{one.rule}')"),
                self.look.seg(f" {fit(figure, column).rjust(column)} ", pen),
                self.look.seg(fit(note, max(0, width - used)), "label"),
            )
            items.append((one.rule, line))
        return items

    @staticmethod
    def _told(state: State) -> bool:
        return state in (State.FIRING, State.CLEAR)

    def open(self, name: str) -> None:
        """The page of a rule."""
        self.qtop.action_page(name)
