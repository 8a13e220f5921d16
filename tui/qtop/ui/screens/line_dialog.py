"""A line to type: the note of a marker, a time to go to."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from qtop.errors import QtopError
from qtop.ui.screens.prompt_dialog import Asking, OneLine, T


class LineDialog(Asking[T]):
    """Enter takes what ``read`` makes of the text; a text that it refuses (QtopError) is told, and may be mended. Esc
    gives None."""

    def __init__(self, heading: str, hint: str, read: Callable[[str], T], most: int) -> None:
        super().__init__()
        self._heading, self._hint, self._read, self._most = heading, hint, read, most

    def compose(self) -> ComposeResult:
        """A heading, the line, and a line that says what may be typed or what is wrong."""
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="dialog-title", markup=False)
            field = OneLine(max_length=self._most, compact=True)
            field.cursor_blink = False
            yield field
            yield Static(self._hint, id="told", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, or say why not."""
        event.stop()
        try:
            answer = self._read(event.value.strip())
        except QtopError as error:
            self.tell(str(error))
        else:
            self.dismiss(answer)
