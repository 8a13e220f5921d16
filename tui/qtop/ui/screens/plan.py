"""The plan: inputs that keys and the mouse change, and at once what fits, how fast it is, and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from qtop.plan.compare import Compared
from qtop.ui.lines import Lines
from qtop.ui.look import Line
from qtop.ui.panels.header import Key
from qtop.ui.panels.plan_form import form_lines, slid
from qtop.ui.panels.plan_memory import cells_of, grid_lines, memory_lines, verdict_lines
from qtop.ui.panels.plan_speed import LABEL, first_lines, speed_lines
from qtop.ui.panels.plan_text import beside_line, command_lines, compared_lines, near_lines, note_lines
from qtop.ui.plan_form import CHOICES, FIELDS
from qtop.ui.screens.base import MainScreen, View
from qtop.ui.screens.plan_dialogs import ListDialog
from qtop.ui.widgets.curves import ACROSS

WIDE, TALL = 100, 32
"""Columns and rows of the screen from which curves stand below the map; on smaller ones they have a page."""
TALLEST = 44
"""Rows from which words stand below the curves."""
GAP = 2
FORM_ROWS = len(FIELDS) + 1
Pane = Callable[[int, int], list[Line]]
"""Lines of so many columns, so many at most."""
Row = tuple[float, list[Pane]]
"""Panels side by side, and the share of the width that the first of two has."""


class PlanScreen(MainScreen):
    """Up and down choose an input, left and right change it; PgDn shows what does not fit beside it."""

    NAME = "plan"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.move(1)"),
        ("←→", "change", "screen.step(1)"),
        ("pgdn", "more", "screen.page(1)"),
        ("enter", "exact", "screen.type"),
        ("w", "file", "screen.write"),
        ("S", "start", "screen.start"),
        ("n", "nearest", "screen.nearest"),
        ("x", "longest", "screen.most"),
        ("l", "as here", "screen.refill"),
        ("o", "overview", "app.show('overview')"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Previous input"),
        Binding("down", "move(1)", "Next input"),
        Binding("left,minus", "step(-1)", "Less"),
        Binding("right,plus,equals_sign", "step(1)", "More"),
        Binding("shift+left,comma", "fine(-1)", "A little less"),
        Binding("shift+right", "fine(1)", "A little more"),
        Binding("enter", "type", "An exact value"),
        Binding("escape", "leave", "Back"),
        Binding("backspace", "erase", "Erase; as by default"),
        Binding("pagedown", "page(1)", "The next page"),
        Binding("pageup", "page(-1)", "The page before"),
        Binding("w", "write", "Write the command to a file"),
        Binding("S", "start", "Start it by qtop serve"),
        Binding("n", "nearest", "The nearest that fits"),
        Binding("x", "most", "The longest context that fits"),
        Binding("l", "refill", "As the server here runs"),
        Binding("full_stop", "digit('.')", "Type"),
        Binding("k", "digit('k')", "Type: × 1024"),
        *(Binding(str(number), f"digit('{number}')", "Type") for number in range(10)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._at_page = 0
        self._view: View | None = None

    def body(self) -> Iterable[Widget]:
        """Lines, all of them prepared here."""
        yield Lines(id="page", classes="whole")

    # Drawing

    def draw_body(self, view: View) -> None:
        """Verdict and memory above, inputs and one picture or more between, the command below."""
        self._view = view
        planning = self.qtop.planning
        planning.look(view.snapshot.frame)
        width, height = max(40, self.size.width - 2), self.rows_between
        self.lines("page").show(self._page(view, width, height))

    def _page(self, view: View, width: int, height: int) -> list[Line]:
        look, planning = self.look, self.qtop.planning
        made, form = planning.made, planning.form
        tall = self.size.height >= TALL
        gap: list[Line] = [()] if tall else []
        lines = verdict_lines(look, made, planning.failed, width, 3 if height >= 20 else 2)
        if form is None:
            return lines
        below_verdict = len(lines)
        if made is not None:
            lines += [*gap, *memory_lines(look, made, width)]
        lines += gap
        wide = self.size.width >= WIDE
        form_width = 46 if wide else 32 if width >= 72 else 28
        inputs = form_lines(look, form, made, form_width)
        command: list[Line] = []
        if made is not None and height >= 16:
            command = [*gap, *command_lines(look, planning.words, planning.checked(), self._may_start, width,
                                            4 if tall else 3)]  # fmt: skip
        room = height - len(lines) - len(command)
        below = room - FORM_ROWS - len(gap)
        compared = planning.compared(view.snapshot.frame)
        pages = self._pages(compared, wide and below >= 8, below >= 18)
        self._at_page %= max(1, len(pages))
        if compared is not None and gap and len(pages) > 1 and self._at_page == 0:
            lines[below_verdict] = beside_line(look, compared, width)  # in full on another page
        if made is None or not pages:
            return [*lines, *inputs][:height]
        beside, under = pages[self._at_page]
        rows = FORM_ROWS if under else room
        right = beside(width - form_width - GAP, rows)
        lines += self._columns([*inputs, *([()] * (rows - len(inputs)))], right, form_width)[:rows]
        for number, (part, row) in enumerate(under):
            share = below if len(under) == 1 else below * 11 // 20 if number == 0 else below - below * 11 // 20 - 1
            if len(row) == 1:
                block = row[0](width, share)
            else:
                half = round((width - GAP) * part)
                block = self._columns(row[0](half, share), row[1](width - half - GAP, share), half)
            lines += [*gap, *block, *([()] * (share - len(block)))][: share + len(gap)]
        lines = lines[: height - len(command)]
        return [*lines, *([()] * (height - len(command) - len(lines))), *command][:height]

    def _pages(self, compared: Compared | None, wide: bool, tall: bool) -> list[tuple[Pane, list[Row]]]:
        """What stands beside the inputs, and the rows of panels below; by page."""
        look, planning = self.look, self.qtop.planning
        made, cells = planning.made, planning.grid
        if made is None or cells is None:
            return []
        note = planning.note

        def map_(width: int, height: int) -> list[Line]:
            return grid_lines(look, cells, width, height)

        def speed(width: int, height: int) -> list[Line]:
            return speed_lines(look, made, planning.curves((width - LABEL - 4) * ACROSS), width, height)

        def first(width: int, height: int) -> list[Line]:
            return first_lines(look, made, planning.prefills((width - LABEL) * ACROSS), width, height)

        def beside(width: int, height: int) -> list[Line]:
            assert compared is not None
            return compared_lines(look, compared, width, height)

        def near(width: int, height: int) -> list[Line]:
            return near_lines(look, made, width, height)

        def notes(width: int, height: int) -> list[Line]:
            return note_lines(look, made, note, width, height)

        pictures: list[Pane] = [speed, first] if made.fits else [near, notes]
        told: list[Pane] = [*([beside] if compared is not None else []), *([notes] if made.fits else [])]
        if not wide:
            return [(pane, []) for pane in (map_, *pictures, *told)]
        if tall and told:
            return [(map_, [(0.5, pictures), (0.6, told)])]
        return [(map_, [(0.5, pictures)]), *([(map_, [(0.6, told)])] if told else [])]

    def _columns(self, left: list[Line], right: list[Line], width: int) -> list[Line]:
        """Two blocks side by side, the left one in so many columns."""
        rows = max(len(left), len(right))
        left = [*left, *([()] * (rows - len(left)))]
        right = [*right, *([()] * (rows - len(right)))]
        pad = self.look.seg
        return [(*one, pad(" " * (width + GAP - cells_of(one))), *two) for one, two in zip(left, right, strict=True)]

    @property
    def _may_start(self) -> bool:
        return self.qtop.session.may_act

    # Keys

    def action_move(self, by: int) -> None:
        """To another input."""
        if (form := self.qtop.planning.form) is not None:
            form.move(by)
            self.qtop.redraw()

    def action_step(self, by: int) -> None:
        """A step of this input."""
        self.qtop.planning.step(by)
        self.qtop.redraw()

    def action_fine(self, by: int) -> None:
        """A small step."""
        self.qtop.planning.step(by, fine=True)
        self.qtop.redraw()

    def action_field(self, place: int) -> None:
        """To this input, by the mouse."""
        if (form := self.qtop.planning.form) is not None:
            form.go(place)
            self.qtop.redraw()

    def action_slide(self, place: int, cell: int) -> None:
        """This input to what a cell of its slider stands for."""
        planning = self.qtop.planning
        if (form := planning.form) is None:
            return
        form.go(place)
        form.commit()
        name = FIELDS[place]
        value = slid(form, name, cell)
        if name in ("model", "gpu"):
            planning.choose(str(value))
        elif name == "eager":
            form.set(eager=value == "yes")
        elif name in CHOICES or isinstance(value, str):
            form.set(**{name: value})
        else:
            form.set(**{name: value if name == "utilization" else int(value)})
        planning.changed()
        self.qtop.redraw()

    def action_type(self) -> None:
        """An exact value: a number is typed, a model or GPU chosen from the list; else the next choice."""
        planning = self.qtop.planning
        form = planning.form
        if form is None:
            return
        if form.typing:
            form.commit()
        elif form.name in ("model", "gpu"):
            names = form.models if form.name == "model" else form.gpus
            dialog = ListDialog(
                "Which model?" if form.name == "model" else "Which GPU?", names, form.shown_name(form.name)
            )
            self.app.push_screen(dialog, self._chosen)
            return
        elif form.name in CHOICES:
            planning.step(1)
        else:
            form.begin()
        self.qtop.redraw()

    def _chosen(self, name: str | None) -> None:
        if name is not None:
            self.qtop.planning.choose(name)
            self.qtop.redraw()

    def action_digit(self, char: str) -> None:
        """Type into a number; elsewhere a digit is the number of a remedy, as on every screen."""
        planning = self.qtop.planning
        if planning.form is not None and planning.form.type(char):
            planning.changed()
            self.qtop.redraw()
        elif char.isdigit() and char != "0":
            self.qtop.action_fix(int(char))

    def action_erase(self) -> None:
        """The last character typed; with none, the value is the default's again."""
        planning = self.qtop.planning
        if planning.form is not None:
            planning.form.erase()
            planning.changed()
            self.qtop.redraw()

    def action_leave(self) -> None:
        """The old value where one is being typed; else as everywhere."""
        planning = self.qtop.planning
        if planning.form is not None and planning.form.leave():
            planning.changed()
            self.qtop.redraw()
        else:
            self.qtop.action_cancel()

    def action_page(self, by: int) -> None:
        """The next page of pictures and words."""
        self._at_page += by
        self.qtop.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self.action_page(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self.action_page(-1)

    def action_pick(self, seqs: int, context: int) -> None:
        """A cell of the map, by the mouse."""
        self.qtop.planning.pick(seqs, context)
        self.qtop.redraw()

    def action_nearest(self) -> None:
        """The smallest change by which it fits."""
        self.qtop.planning.take_nearest()
        self.qtop.redraw()

    def action_near(self, place: int) -> None:
        """This change, by the mouse."""
        planning = self.qtop.planning
        if planning.made is not None and place < len(planning.made.nearest):
            planning.take_near(planning.made.nearest[place])
            self.qtop.redraw()

    def action_most(self) -> None:
        """The longest context."""
        self.qtop.planning.most()
        self.qtop.redraw()

    def action_refill(self) -> None:
        """As what runs here has it, or as the options said."""
        if self._view is not None:
            self.qtop.planning.fill(self._view.snapshot.frame)
            self.qtop.redraw()

    def action_write(self) -> None:
        """The command to a file."""
        self.qtop.launching.write()

    def action_start(self) -> None:
        """The command to ``qtop serve``, after a preview."""
        self.qtop.launching.start()
