"""The probe: choose a test prompt, watch it stream, set its figures beside those of earlier ones."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from qtop.ui.form import OWN
from qtop.ui.lines import Lines
from qtop.ui.look import Line
from qtop.ui.panels.header import Key
from qtop.ui.panels.probe_form import folded_line, form_lines, line_of
from qtop.ui.panels.probe_live import live_lines
from qtop.ui.panels.probe_results import compare_lines, detail_lines, table_lines
from qtop.ui.screens.base import MainScreen, View
from qtop.ui.screens.prompt_dialog import Own, PromptDialog
from qtop.ui.trials import ProbeState

TALL = 32
"""Rows of the screen from which the form stays whole, blocks have space around them, and a stage has a row."""
TABLE_ROWS, TABLE_ROWS_TALL = 5, 9
"""Of the table at most, its heading and names included."""


class ProbeScreen(MainScreen):
    """Up and down go through the fields, then through the tests that ended."""

    NAME = "probe"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("enter", "send", "screen.send"),
        ("↑↓", "choose", "screen.move(1)"),
        ("←→", "change", "screen.step(1)"),
        ("e", "own text", "screen.edit"),
        ("esc", "cancel, back", "app.cancel"),
        ("o", "overview", "app.show('overview')"),
        ("space", "mark", "screen.mark"),
        ("pgdn", "more", "screen.page(1)"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Previous field or test"),
        Binding("down,j", "move(1)", "Next field or test"),
        Binding("left,minus", "step(-1)", "Less"),
        Binding("right,plus,equals_sign", "step(1)", "More"),
        Binding("enter", "send", "Send"),
        Binding("p", "send_or_cancel", "Send or cancel"),
        Binding("e", "edit", "A text of your own"),
        Binding("space,x", "mark", "Mark to compare"),
        Binding("backspace", "erase", "Erase"),
        Binding("pagedown", "page(1)", "Further down"),
        Binding("pageup", "page(-1)", "Further up"),
        Binding("full_stop", "digit('.')", "Type"),
        *(Binding(str(number), f"digit('{number}')", "Type") for number in range(10)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._in_table = False
        self._first = 0
        self._fits = 1
        self._hidden = 0
        self._view: View | None = None

    def body(self) -> Iterable[Widget]:
        """Lines, all of them prepared here."""
        yield Lines(id="page", classes="whole")

    # Drawing

    def draw_body(self, view: View) -> None:
        """The test under way, or else the form; the tests that ended; one of them in full."""
        self._view = view
        width, height = max(40, self.size.width - 2), self.rows_between
        self.lines("page").show(self._page(view, width, height))

    def draw_probe(self, probe: ProbeState) -> None:
        """The same, from what the prober said since."""
        if self._view is not None:
            self.draw_body(self._view)

    def _page(self, view: View, width: int, height: int) -> list[Line]:
        look, probing = self.look, self.qtop.probing
        state = probing.state
        tall = self.size.height >= TALL
        gap: list[Line] = [()] if tall else []
        table: list[Line] = []
        if probing.trials:
            most = min(TABLE_ROWS_TALL if tall else TABLE_ROWS, len(probing.trials) + 2)
            cursor = self._in_table
            table = table_lines(look, probing.trials, probing.chosen, probing.marked, width, most, cursor)
        if state.running:
            if not tall:
                table = table[:3]
            room = height - len(table) - (len(gap) if table else 0)
            live = live_lines(look, state, width, room, time.monotonic())
            return [*live, *([()] * (room - len(live))), *(gap if table else ()), *table][:height]
        lines = [*self._form(view, width, tall), *gap, *table, *(gap if table else ())]
        return [*lines, *self._detail(width, height - len(lines), tall)][:height]

    def _form(self, view: View, width: int, tall: bool) -> list[Line]:
        look, probing = self.look, self.qtop.probing
        if view.status.replay or not self.qtop.session.source.live:
            return [(look.seg("This is a recording: it has no server to ask.", "label"),)]
        plan, warning = probing.plan()
        if self._in_table and not tall:
            return [folded_line(look, line_of(probing.form), width)]
        return form_lines(look, probing.form, width, plan, warning, not self._in_table)

    def _detail(self, width: int, room: int, tall: bool) -> list[Line]:
        look, probing = self.look, self.qtop.probing
        trial = probing.trial(probing.chosen)
        if room < 2:
            return []
        if trial is None:
            text = "Tests that ended stay here, side by side, until you quit."
            return [(look.seg(text, "label"),)] if self.qtop.session.source.live else []
        lines: list[Line] = []
        if pair := probing.compared():
            lines += [*compare_lines(look, *pair, width), ()]
        lines += detail_lines(look, trial, width, tall)
        self._hidden = max(0, len(lines) - room)
        self._first = min(self._first, self._hidden + 1 if self._hidden else 0)
        if not self._hidden:
            return lines
        shown = lines[self._first : self._first + room - 1]
        below = len(lines) - self._first - len(shown)
        parts = [f"{self._first} above" if self._first else "", f"{below} more below" if below else ""]
        self._fits = room - 1
        return [
            *shown,
            (look.seg(f"PgUp PgDn {', '.join(part for part in parts if part)}", "label", "screen.page(1)"),),
        ]

    # Keys

    def action_move(self, by: int) -> None:
        """The next field or test."""
        probing = self.qtop.probing
        form = probing.form
        if self._in_table:
            if not probing.pick(by) and by < 0:
                self._in_table = False
            self._first = 0
        elif by > 0 and form.at == len(form.fields) - 1:
            if probing.trials and not probing.state.running:
                form.commit()
                self._in_table = True
        else:
            form.move(by)
        self.qtop.redraw()

    def action_step(self, by: int) -> None:
        """Another value of the field."""
        if not self._in_table and not self.qtop.probing.state.running:
            self.qtop.probing.form.step(by)
            self.qtop.redraw()

    def action_digit(self, char: str) -> None:
        """Type into a number; elsewhere a digit is the number of a remedy, as on every screen."""
        app = self.qtop
        if not self._in_table and not app.probing.state.running and app.probing.form.digit(char):
            app.redraw()
        elif char == ".":
            app.action_step(1)
        elif char != "0":
            app.action_fix(int(char))

    def action_erase(self) -> None:
        """Take the last digit away."""
        if not self._in_table:
            self.qtop.probing.form.erase()
            self.qtop.redraw()

    def action_field(self, place: int) -> None:
        """To this field, by the mouse."""
        form = self.qtop.probing.form
        form.commit()
        self._in_table, form.at = False, place
        self.qtop.redraw()

    def action_pick(self, number: int) -> None:
        """To this test, by the mouse."""
        self._in_table, self._first = not self.qtop.probing.state.running, 0
        self.qtop.probing.chosen = number
        self.qtop.redraw()

    def action_send(self) -> None:
        """Begin; where there is no text yet, ask for it."""
        probing = self.qtop.probing
        if self._in_table:
            self.qtop.say("p sends what the fields say; ↑ leads to them")
        elif probing.form.prompt == OWN and not probing.form.text and not probing.state.running:
            self.action_edit()
        else:
            self._send()

    def action_send_or_cancel(self) -> None:
        """Begin, or cancel what is under way."""
        if self.qtop.session.probing:
            self.qtop.probing.cancel()
        else:
            self._send()

    def _send(self) -> None:
        self._in_table, self._first = False, 0
        self.qtop.probing.send()

    def action_edit(self) -> None:
        """A text of one's own."""
        probing = self.qtop.probing
        if probing.state.running:
            return

        def typed(own: Own | None) -> None:
            if own is not None:
                probing.form.own(*own)
                self.qtop.redraw()

        form = probing.form
        self.qtop.push_screen(PromptDialog(form.text_name or form.text), typed)

    def action_mark(self) -> None:
        """Mark a test to compare it; among the fields space holds the screen, as everywhere."""
        if self._in_table:
            self.qtop.probing.mark(self.qtop.probing.chosen)
            self._first = 0
            self.qtop.redraw()
        else:
            self.qtop.action_pause()

    def action_page(self, by: int) -> None:
        """Scroll what is shown in full."""
        self._first = max(0, self._first + by * max(1, self._fits - 1))
        self.qtop.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self._first += 3
        self.qtop.redraw()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self._first = max(0, self._first - 3)
        self.qtop.redraw()
