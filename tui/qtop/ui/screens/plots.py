"""One chart on the whole screen: chosen from a list, held, read by a cursor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from qtop.sample import Absent
from qtop.ui.lines import Lines
from qtop.ui.panels.header import Key
from qtop.ui.panels.plot import MENU, SPANS, Chart, chart_lines, menu_lines, scale_of
from qtop.ui.plots import BY_ID, PLOTS, first_plot
from qtop.ui.screens.base import MainScreen, View

LEAST_FOR_MENU = 72
"""Columns from which the list stands beside the chart."""


class PlotsScreen(MainScreen):
    """Up and down choose; the cursor is the moment that the whole of qtop shows while it is paused."""

    NAME = "plots"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.move(1)"),
        ("←→", "cursor", "app.step(-1)"),
        ("+-", "span", "screen.span(1)"),
        ("enter", "full chart", "screen.full"),
        ("space", "pause", "app.pause"),
        ("o", "overview", "app.show('overview')"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Previous plot"),
        Binding("down,j", "move(1)", "Next plot"),
        Binding("plus,equals_sign", "span(1)", "Longer"),
        Binding("minus", "span(-1)", "Shorter"),
        Binding("left,comma", "cursor(-1)", "Cursor back"),
        Binding("right,full_stop", "cursor(1)", "Cursor on"),
        Binding("enter", "full", "Full chart"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chart: Chart | None = None
        self._span = SPANS[1]
        self._wanted = ""
        self._held = 0.0

    def body(self) -> Iterable[Widget]:
        """The list, the chart."""
        yield Horizontal(Lines(id="menu"), Lines(id="chart"), classes="whole")

    def choose(self, name: str) -> None:
        """Show this plot."""
        self._wanted = name
        self.qtop.redraw()

    def action_move(self, by: int) -> None:
        """The plot before or after this one."""
        if self._chart is not None:
            self.choose(PLOTS[(PLOTS.index(self._chart.plot) + by) % len(PLOTS)].id)

    def action_span(self, by: int) -> None:
        """A longer or a shorter time."""
        self._span = SPANS[max(0, min(len(SPANS) - 1, SPANS.index(self._span) + by))]
        self.qtop.redraw()

    def action_cursor(self, by: int) -> None:
        """Move by about one cell of the chart."""
        columns = max(10, self.lines("chart").size.width)
        interval = self.qtop.session.source.interval
        self.qtop.action_step(by * max(1, round(self._span / columns / interval)))

    def action_full(self) -> None:
        """The same figures as a line with exact axes, drawn once."""
        if self._chart is not None:
            self.qtop.show_chart(self._chart.plot, self._chart.until, self._span)

    def draw_body(self, view: View) -> None:
        """The list where there is room, and the chart up to the moment that is shown."""
        frame, look = view.snapshot.frame, self.look
        plot = BY_ID.get(self._wanted) or (self._chart.plot if self._chart is not None else first_plot(frame))
        self._wanted = ""
        paused = bool(view.status.paused)
        latest = self.qtop.session.latest
        if not paused or latest is None:
            self._held = latest.frame.t if latest is not None else frame.t
        until = max(frame.t, min(self._held, frame.t + self._span * 0.95))
        points = view.history.series(plot.pick, until, self._span)
        value = plot.pick(frame)
        why = str(value) if isinstance(value, Absent) else ""
        before = self._chart.top if self._chart is not None and self._chart.plot is plot else 0.0
        chart = Chart(plot, self._span, until, frame.t if paused else None, scale_of(plot, points, before), why)
        self._chart = replace(chart)
        menu, whole = self.lines("menu"), self.size.width - 2
        listed = whole >= LEAST_FOR_MENU
        menu.display = listed
        height = max(7, self.rows_between)
        if listed:
            menu.styles.width = MENU
            menu.show(menu_lines(look, frame, plot, height))
        width = whole - (MENU if listed else 0)
        self.lines("chart").show(chart_lines(look, chart, points, width, height))
