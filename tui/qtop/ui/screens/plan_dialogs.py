"""Dialogs of the plan: a list of names, and a file for the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qtop.act.launch_files import KINDS
from qtop.ui.screens.prompt_dialog import Asking, OneLine

FILES = {"shell": "serve.sh", "yaml": "vllm.yaml", "systemd": "vllm.service", "compose": "compose.yaml"}
"""By kind the name that is proposed."""


class ListDialog(ModalScreen["str | None"]):
    """One name out of a list."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "Leave")]

    def __init__(self, question: str, names: Sequence[str], now: str) -> None:
        super().__init__()
        self._question, self._names, self._now = question, tuple(names), now

    def compose(self) -> ComposeResult:
        """A list, on what is chosen now."""
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="dialog-title", markup=False)
            yield OptionList(*(Option(name) for name in self._names), markup=False)

    def on_mount(self) -> None:
        """To what is chosen now."""
        if self._now in self._names:
            self.query_one(OptionList).highlighted = self._names.index(self._now)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take it."""
        self.dismiss(self._names[event.option_index])

    def action_leave(self) -> None:
        """As it was."""
        self.dismiss(None)


Write = Callable[[str, str, bool], "tuple[str, bool]"]
"""(kind, name, whether a file may be replaced) → (what is to be said, whether it is done)."""


class FileDialog(Asking[str]):
    """As what, and under which name; a file that is there is replaced only by a second Enter on the same name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "kind(1)", "The next kind"),
        Binding("up", "kind(-1)", "The kind before"),
    ]

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write, self._kind = write, 0
        self._asked = ""
        """The name that is there already, and that the next Enter replaces."""

    def compose(self) -> ComposeResult:
        """Kinds, a line to type in, and one that says what is wrong."""
        with Vertical(classes="dialog"):
            yield Static("The command to a file", classes="dialog-title", markup=False)
            yield Static(id="kinds", markup=False)
            field = OneLine(FILES[KINDS[0]], select_on_focus=False, compact=True)
            field.cursor_blink = False
            yield field
            yield Static("Enter writes it   ↑↓ another kind   Esc leaves", id="told", markup=False)

    def on_mount(self) -> None:
        """Say the kinds."""
        self._show_kinds()

    def _show_kinds(self) -> None:
        shown = (f"▸{kind}" if at == self._kind else f" {kind}" for at, kind in enumerate(KINDS))
        self.query_one("#kinds", Static).update(f"as  {'   '.join(shown)}")

    def action_kind(self, by: int) -> None:
        """Another kind; a name that was not changed follows it."""
        field = self.query_one(Input)
        before = FILES[KINDS[self._kind]]
        self._kind = (self._kind + by) % len(KINDS)
        if field.value == before:
            field.value = FILES[KINDS[self._kind]]
            field.cursor_position = len(field.value)
        self._asked = ""
        self._show_kinds()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Another name has to be asked about anew."""
        if event.value != self._asked:
            self._asked = ""

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write it, or say why not."""
        event.stop()
        name = event.value.strip()
        if not name:
            self.tell("there is no name yet")
            return
        told, done = self._write(KINDS[self._kind], name, bool(self._asked) and self._asked == event.value)
        if done:
            self.dismiss(told)
        else:
            self._asked = event.value
            self.tell(told)
