"""Dialogs: the preview of a change, the choice among servers, a page of text. Each ends on Esc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qtop.source.attach import Choice
from qtop.ui.cells import wrap
from qtop.ui.lines import Lines
from qtop.ui.look import Line, Look

if TYPE_CHECKING:
    from qtop.act.change import Plan

FRAME = 4
"""Rows of a dialog that its border and padding take."""


class PreviewDialog(ModalScreen[bool]):
    """What a change would do, and what measuring it sends; Enter applies."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "apply", "Apply"),
        Binding("escape,n,q", "leave", "Cancel"),
    ]

    def __init__(self, look: Look, plan: Plan, cost: str, warning: str | None) -> None:
        super().__init__()
        self._look, self._plan, self._cost, self._warning = look, plan, cost, warning

    def compose(self) -> ComposeResult:
        """One box of lines."""
        with Vertical(classes="dialog"):
            yield Lines(id="preview")

    def on_mount(self) -> None:
        """Fill it, now that the width is known."""
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Wrap anew."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        look, width = self._look, max(20, self.query_one("#preview").size.width)
        head: list[Line] = [(look.seg("Change ", "label"), look.seg(self._plan.knob, "title")), ()]
        head += [(look.seg(text),) for text in wrap(self._plan.summary, width)]
        detail: list[Line] = [
            (look.seg(f"  {text}", "label"),) for line in self._plan.lines for text in wrap(line, width - 2)
        ]
        rest: list[Line] = [()]
        rest += [(look.seg(text, "label"),) for text in wrap(self._cost, width)]
        rest += [(look.seg(text, "label"),) for text in wrap("kept if the server gets better, else put back", width)]
        for warning in (*self._plan.warnings, *([self._warning] if self._warning else [])):
            rest += [(look.seg(text, "warn"),) for text in wrap(f"warning: {warning}", width)]
        keys = (
            look.seg("Enter", "key", "screen.apply"),
            look.seg(" apply   ", "label", "screen.apply"),
            look.seg("Esc", "key", "screen.leave"),
            look.seg(" leave everything as it is", "label", "screen.leave"),
        )
        room = int(self.app.size.height * 0.9) - FRAME
        over = len(head) + len(detail) + len(rest) + 2 - room
        if over > 0:  # what it costs, what it warns of and the keys are there whatever goes
            head, rest = [line for line in head if line], [line for line in rest if line]
            over -= 3
        if over > 0:
            detail = detail[: max(0, len(detail) - over - 1)]
            detail.append((look.seg("  … more in a taller terminal", "warn"),))
        gap: list[Line] = [()] if len(head) + len(detail) + len(rest) + 2 <= room else []
        self.query_one("#preview", Lines).show([*head, *detail, *rest, *gap, keys])

    def action_apply(self) -> None:
        """Yes."""
        self.dismiss(True)

    def action_leave(self) -> None:
        """No."""
        self.dismiss(False)


class ChooseDialog(ModalScreen[Choice | None]):
    """Which of several servers to watch."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "Later")]

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._choices = choices

    def compose(self) -> ComposeResult:
        """A list."""
        with Vertical(classes="dialog"):
            yield Static("Several servers found: which one?", classes="dialog-title")
            yield OptionList(
                *(
                    Option(f"{one.url}  {one.engine}  {one.model}" + (f"  pid {one.pid}" if one.pid else ""))
                    for one in self._choices
                ),
                markup=False,
            )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take it."""
        self.dismiss(self._choices[event.option_index])

    def action_leave(self) -> None:
        """None now."""
        self.dismiss(None)


class PageDialog(ModalScreen[None]):
    """A page of Markdown: help, a rule with what it saw in the last minutes, or a chart alone."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "leave", "Close")]

    def __init__(self, text: str, plot: str = "", caption: str = "") -> None:
        super().__init__()
        self._text, self._plot, self._caption = text, plot, caption

    def compose(self) -> ComposeResult:
        """A scrolling page."""
        with VerticalScroll(classes="dialog page"):
            if self._plot:
                yield Static(self._caption, classes="caption-line", markup=False)
                yield Static(self._plot, markup=False)
            if self._text:
                from textual.widgets import Markdown  # slow to import, and the other dialogs do without

                yield Markdown(self._text)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
