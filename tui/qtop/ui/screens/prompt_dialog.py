"""A prompt of one's own: typed, or read from a file."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qtop.errors import QtopError
from qtop.ui.cells import fit_middle

T = TypeVar("T")
Own = tuple[str, str]
"""The text, and "@PATH" where it came from a file."""


class OneLine(Input):
    """An input that takes all lines of what is pasted, joined: a prompt must not lose its end without a word."""

    def _on_paste(self, event: events.Paste) -> None:
        event.text = " ".join(event.text.splitlines())  # Textual calls the handler of Input next


class Asking(ModalScreen[T | None], Generic[T]):
    """A dialog with a line to type in and one below it, ``#told``, that says what is wrong. Esc gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def tell(self, text: str) -> None:
        """Say this in the line below; nothing once the dialog has gone."""
        if self.is_mounted:
            told = self.query_one("#told", Static)
            told.update(fit_middle(text, max(20, told.size.width)))

    def action_leave(self) -> None:
        """Leave things as they are."""
        self.dismiss(None)


class PromptDialog(Asking[Own]):
    """Enter takes the text; what starts with @ names a file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """A line to type in, and one that says what is wrong."""
        with Vertical(classes="dialog"):
            yield Static("A prompt of your own, or @ and the path of a file", classes="dialog-title", markup=False)
            field = OneLine(self._text, select_on_focus=False, compact=True)
            field.cursor_blink = False
            yield field
            yield Static("Enter takes it   Esc leaves things as they are", id="told", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take a text as it stands, read a file beside the screen: it may lie on a disk that does not answer."""
        event.stop()
        text = event.value.strip()
        if not text:
            self.tell("there is no text yet")
        elif text.startswith("@"):
            self.tell(f"reading {text[1:]} …")
            self._read(text)
        else:
            self.dismiss((text, ""))

    def _read(self, name: str) -> None:
        from qtop.probe.choice import read_prompt
        from qtop.ui.commands import in_background

        app = self.app

        def work() -> None:
            try:
                text = read_prompt(name[1:].strip())
            except QtopError as error:
                told = str(error)
                app.run_later(lambda: self.tell(told))  # type: ignore[attr-defined]
            else:
                app.run_later(lambda: self._take((text, name)))  # type: ignore[attr-defined]

        in_background(work)

    def _take(self, own: Own) -> None:
        if self.is_current:  # Esc may have come before the disk did
            self.dismiss(own)
