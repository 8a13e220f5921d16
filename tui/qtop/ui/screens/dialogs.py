"""Dialogs: keep or put back, go on or not, the choice among servers, a page of text. Each ends on Esc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qtop.source.attach import Choice
from qtop.ui.cells import wrap
from qtop.ui.lines import Lines
from qtop.ui.look import Look

FRAME = 4
"""Rows of a dialog that its border and padding take."""


class KeepDialog(ModalScreen[bool]):
    """A change that showed no effect, or none that could be told: keep it, or put it back?"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,escape,n,q", "back", "Put back"),
        Binding("k,y", "keep", "Keep"),
    ]

    def __init__(self, look: Look, name: str, text: str) -> None:
        super().__init__()
        self._look, self._heading, self._text = look, name, text

    def compose(self) -> ComposeResult:
        """One box of lines."""
        with Vertical(classes="dialog"):
            yield Lines(id="keep")

    def on_mount(self) -> None:
        """Fill it, now that the width is known."""
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Wrap anew."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        look, width = self._look, max(20, self.query_one("#keep").size.width)
        keys = (
            look.seg("Enter", "key", "screen.back"),
            look.seg(" put the old values back   ", "label", "screen.back"),
            look.seg("k", "key", "screen.keep"),
            look.seg(" keep it", "label", "screen.keep"),
        )
        told = [(look.seg(text),) for text in wrap(self._text, width)]
        self.query_one("#keep", Lines).show([(look.seg(self._heading, "title"),), (), *told, (), keys])

    def action_keep(self) -> None:
        """It stays."""
        self.dismiss(True)

    def action_back(self) -> None:
        """The old values."""
        self.dismiss(False)


class ConfirmDialog(ModalScreen[bool]):
    """Lines to read, and Enter to go on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "go", "Go on"),
        Binding("escape,n,q", "leave", "Cancel"),
    ]

    def __init__(self, look: Look, name: str, texts: Sequence[str], go: str) -> None:
        super().__init__()
        self._look, self._heading, self._texts, self._go = look, name, tuple(texts), go

    def compose(self) -> ComposeResult:
        """One box of lines."""
        with Vertical(classes="dialog"):
            yield Lines(id="confirm")

    def on_mount(self) -> None:
        """Fill it, now that the width is known."""
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Wrap anew."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        look, width = self._look, max(20, self.query_one("#confirm").size.width)
        told = [(look.seg(row, "label"),) for text in self._texts for row in wrap(text, width)]
        room = int(self.app.size.height * 0.9) - FRAME - 4
        if len(told) > room:
            told = [*told[: room - 1], (look.seg("…", "label"),)]
        keys = (
            look.seg("Enter", "key", "screen.go"),
            look.seg(f" {self._go}   ", "label", "screen.go"),
            look.seg("Esc", "key", "screen.leave"),
            look.seg(" leave everything as it is", "label", "screen.leave"),
        )
        self.query_one("#confirm", Lines).show([(look.seg(self._heading, "title"),), (), *told, (), keys])

    def action_go(self) -> None:
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
