"""The preview of a change: all of what it would do, with a value that can be changed before it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qtop.ui.cells import fit_middle, width_of, wrap
from qtop.ui.lines import Lines
from qtop.ui.look import Line, Look
from qtop.ui.screens.dialogs import FRAME

if TYPE_CHECKING:
    from qtop.act.change import Plan

LABEL = 11
"""Columns of the labels."""
LEAST = 4
"""Rows that the text keeps, however small the terminal."""


@dataclass(frozen=True)
class Shown:
    """What the dialog shows: a plan and what measuring it sends; or why there is none, and a value to try."""

    knob: str
    title: str
    plan: Plan | None
    cost: str = ""
    warning: str = ""
    """The server is saturated, or cannot be measured."""
    reason: str = ""
    """Why there is no plan."""
    example: str = ""
    others: tuple[tuple[int, str], ...] = ()
    """Numbers and names of other remedies."""


class PreviewDialog(ModalScreen["Plan | int | None"]):
    """Enter makes the change; a number goes to another remedy; ``e`` edits the value, and Enter then shows it anew."""

    AUTO_FOCUS = ""
    """Keys are the dialog's until the value is edited."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "apply", "Apply"),
        Binding("escape,n,q", "leave", "Cancel"),
        Binding("e", "edit", "Another value"),
        Binding("down,j", "scroll(1)", "Down"),
        Binding("up,k", "scroll(-1)", "Up"),
        Binding("pagedown", "scroll(8)", "Page down"),
        Binding("pageup", "scroll(-8)", "Page up"),
        *(Binding(str(number), f"other({number})", "Another remedy") for number in range(1, 10)),
    ]

    def __init__(self, look: Look, shown: Shown, replan: Callable[[PreviewDialog, str], None]) -> None:
        super().__init__()
        self._look, self._shown, self._replan = look, shown, replan
        self._error = ""
        self._waits = False

    def compose(self) -> ComposeResult:
        """What it is, all that it does, the value while it is edited, the keys."""
        with Vertical(classes="dialog"):
            yield Lines(id="preview-head")
            with VerticalScroll(id="preview-scroll", can_focus=False):
                yield Lines(id="preview")
            with Horizontal(id="preview-value"):
                yield Static("value".ljust(LABEL), markup=False)
                field = Input(self._value, select_on_focus=False, compact=True)
                field.cursor_blink = False
                yield field
            yield Lines(id="preview-keys")

    @property
    def shown(self) -> Shown:
        """What it shows."""
        return self._shown

    @property
    def _value(self) -> str:
        return self._shown.plan.value if self._shown.plan is not None else ""

    @property
    def _editing(self) -> bool:
        return self.has_class("editing")

    def on_mount(self) -> None:
        """Fill it, now that the width is known; without a plan there is only a value to give."""
        self.query_one(Input).can_focus = False
        self.call_after_refresh(self._fill)
        if self._shown.plan is None and self._shown.example:
            self.action_edit()

    def on_resize(self) -> None:
        """Wrap anew."""
        self.call_after_refresh(self._fill)

    def show(self, shown: Shown) -> None:
        """Another plan, for a value that was given."""
        self._shown, self._error, self._waits = shown, "", False
        if shown.plan is not None:
            self._end_editing()
        self.query_one("#preview-scroll").scroll_home(animate=False)
        self._fill()

    def fail(self, error: str) -> None:
        """The value that was given cannot be: say so, and go on editing."""
        self._error, self._waits = error, False
        self._fill()

    def _fill(self) -> None:
        if not self.is_mounted:
            return
        look, shown = self._look, self._shown
        width = max(20, self.query_one("#preview-head").size.width)
        summary = shown.plan.summary if shown.plan is not None else shown.title
        head: list[Line] = [(look.seg("Change ", "label"), look.seg(shown.knob, "title"))]
        head += [(look.seg(text),) for text in wrap(summary, width)]
        keys = self._key_lines(width)
        body = self._body(width - 1)
        room = int(self.app.size.height * 0.9) - FRAME - len(head) - len(keys) - self._editing
        spaced = len(body) + 2 <= room
        if spaced:
            head, keys = [*head, ()], [(), *keys]
        scroll = self.query_one("#preview-scroll")
        scroll.styles.max_height = max(LEAST, room)
        self.query_one("#preview-head", Lines).show(head)
        self.query_one("#preview", Lines).show(body)
        self.query_one("#preview-keys", Lines).show(keys)

    def _body(self, width: int) -> list[Line]:
        shown, plan = self._shown, self._shown.plan
        if plan is None:
            told = [("not now", (shown.reason,), "warn")]
            if shown.example:
                told.append(("value", (f"type one, for example {shown.example}",), "label"))
            return self._pairs(told, width)
        warnings = (*plan.warnings, *([shown.warning] if shown.warning else []))
        return self._pairs(
            [
                ("value", (plan.value,), "accent"),
                ("changes", plan.preview, "text"),
                ("careful", warnings, "warn"),
                ("right", (plan.right,), "text"),
                ("meanwhile", (plan.hurts,), "text"),
                ("undone by", (plan.undone,), "text"),
                ("by hand", (plan.command,) if plan.command else (), "label"),
                ("measured", (shown.cost.removeprefix("measured "),) if shown.cost else (), "label"),
                ("kept", ("if the server gets better, else put back",) if shown.cost else (), "label"),
                ("or", tuple(f"{number}  {name}" for number, name in shown.others), "text"),
            ],
            width,
        )

    def _pairs(self, told: Sequence[tuple[str, Sequence[str], str]], width: int) -> list[Line]:
        """A label in its column, its texts wrapped beside it."""
        lines: list[Line] = []
        for label, texts, pen in told:
            rows = [row for text in texts for row in wrap(text, width - LABEL)]
            lines += [
                (self._look.seg((label if number == 0 else "").ljust(LABEL), "label"), self._look.seg(row, pen))
                for number, row in enumerate(rows)
            ]
        return lines

    def _key_lines(self, width: int) -> list[Line]:
        look = self._look
        if self._waits:
            return [(look.seg("looking what that would do …", "label"),)]
        lines: list[Line] = [(look.seg(fit_middle(self._error, width), "warn"),)] if self._error else []
        if self._editing:
            text = " shows what that would do   "
            lines.append(
                (look.seg("Enter", "key"), look.seg(text, "label"), look.seg("Esc", "key"), look.seg(" back", "label"))
            )
            return lines
        keys = [
            ("Enter", " apply   ", "screen.apply"),
            ("Esc", " leave everything as it is   ", "screen.leave"),
            ("e", " another value   ", "screen.edit"),
            ("↑↓", " scroll", "screen.scroll(1)"),
        ]
        line: list[object] = []
        used = 0
        for key, name, action in keys[self._shown.plan is None :]:
            used += width_of(key) + width_of(name.rstrip())
            if used > width:
                break
            line += [look.seg(key, "key", action), look.seg(name, "label", action)]
            used += width_of(name) - width_of(name.rstrip())
        return [*lines, tuple(line)]  # type: ignore[arg-type]

    def action_apply(self) -> None:
        """Yes: what is shown."""
        if self._shown.plan is not None and not self._waits:
            self.dismiss(self._shown.plan)

    def action_leave(self) -> None:
        """No; from the value, back to the preview."""
        if self._editing and self._shown.plan is not None:
            self._error = ""
            self._end_editing()
            self._fill()
        else:
            self.dismiss(None)

    def action_edit(self) -> None:
        """Another value."""
        field = self.query_one(Input)
        field.value = self._value
        field.cursor_position = len(field.value)
        field.can_focus = True
        self.add_class("editing")
        self.call_later(field.focus)  # the key that asked for it is not to be typed into it
        self._fill()

    def _end_editing(self) -> None:
        field = self.query_one(Input)
        self.set_focus(None)
        field.can_focus = False
        self.remove_class("editing")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What would that do?"""
        event.stop()
        if self._waits:
            return
        text = event.value.strip()
        if self._shown.plan is not None and text == self._shown.plan.value:
            self.action_leave()
        elif not text:
            self.fail("there is no value yet")
        else:
            self._waits = True
            self._fill()
            self._replan(self, text)

    def action_scroll(self, by: int) -> None:
        """What does not fit."""
        self.query_one("#preview-scroll").scroll_relative(y=by, animate=False)

    def action_other(self, number: int) -> None:
        """Another remedy of the same finding."""
        if any(number == other for other, _ in self._shown.others):
            self.dismiss(number)
