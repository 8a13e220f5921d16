"""The overview: three panels with their charts, waterfall, findings and test prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget

from qtop.model.frame import Frame
from qtop.model.history import History
from qtop.sample import Absent
from qtop.session import Snapshot
from qtop.ui.cells import fit, width_of
from qtop.ui.lines import Lines
from qtop.ui.panels.findings import finding_lines
from qtop.ui.panels.gpu import gpu_lines
from qtop.ui.panels.header import Key
from qtop.ui.panels.probe import probe_lines
from qtop.ui.panels.sched import sched_lines
from qtop.ui.panels.server import server_lines
from qtop.ui.panels.waterfall import ROWS as WATERFALL_ROWS
from qtop.ui.panels.waterfall import waterfall_lines
from qtop.ui.plots import BY_ID, Plot, busy_plot
from qtop.ui.screens.base import MainScreen, View
from qtop.ui.trials import ProbeState
from qtop.ui.widgets.chart import TimeChart

WIDE = 104
"""Columns from which the three panels stand side by side even with a GPU."""
TALL = 32
"""Rows from which the panels have charts and the waterfall a row a stage."""
TALLER = 44
"""Rows from which the charts are higher."""
HISTORY_S = 300.0
PANELS = ("gpu", "sched", "server")


class PanelChart(TimeChart):
    """A chart under a panel; a click shows it on the whole screen."""

    plot: Plot

    def on_click(self, event: events.Click) -> None:
        """Maximise it."""
        event.stop()
        self.app.action_plot(self.plot.id)  # type: ignore[attr-defined]


class DashboardScreen(MainScreen):
    """Everything at a glance; panels come and go by classes."""

    NAME = "overview"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("p", "test prompt", "app.show('probe')"),
        ("g", "GPUs", "app.show('gpus')"),
        ("t", "threads", "app.show('threads')"),
        ("v", "server", "app.show('server')"),
        ("P", "plots", "app.show('plots')"),
        ("space", "pause", "app.pause"),
        ("r", "record", "app.record"),
        ("u", "undo", "app.undo"),
        ("f", "findings", "app.findings"),
        ("^p", "commands", "app.command_palette"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._shown: Snapshot | None = None
        self._history: History | None = None

    def body(self) -> Iterable[Widget]:
        """Panels, waterfall, findings beside the test prompt."""
        panels = []
        for name in PANELS:
            chart = PanelChart(id=f"{name}-chart", ascii=self.look.ascii)
            caption = Lines(id=f"{name}-caption", classes="caption row")
            panels.append(Vertical(Lines(id=name), caption, chart, id=f"{name}-panel", classes="panel"))
        yield Container(*panels, id="panels")
        yield Lines(id="waterfall")
        yield Horizontal(Lines(id="findings", classes="fill"), Lines(id="probe", classes="fill"), id="bottom")

    def on_resize(self) -> None:
        """Choose what fits."""
        width, height = self.app.size
        self.set_class(width >= WIDE, "wide")
        self.set_class(height >= TALL, "tall")
        self.set_class(height < TALL, "short")
        self.set_class(height < 20, "tiny")
        self.set_class(height >= TALLER, "taller")
        self._shown = None
        super().on_resize()

    def draw_body(self, view: View) -> None:
        """The panels side by side as far as they fit."""
        look, frame = self.look, view.snapshot.frame
        self.set_class(isinstance(frame.gpus, Absent) or not frame.gpus, "no-gpu")
        compact = self.app.size.height < TALL
        columns = (
            1 if self.has_class("wide") and not self.has_class("no-gpu") else 2 if self.app.size.width < 120 else 3
        )
        rows = 7 if compact else 99
        panels = [
            (self.lines("sched"), sched_lines(look, frame, self.width_of("sched"), rows)),
            (self.lines("server"), server_lines(look, frame, self.width_of("server"), rows)),
        ]
        further = 2 if compact else max(4, self.app.size.height - TALL)
        gpu = (self.lines("gpu"), gpu_lines(look, frame, self.width_of("gpu"), columns, further))
        if columns == 1:
            panels.insert(0, gpu)
        else:
            gpu[0].show(gpu[1])
        longest = max(len(lines) for _, lines in panels)
        for widget, lines in panels:  # as many lines in each, so that the charts below stand on one level
            widget.show([*lines, *[()] * (longest - len(lines))])
        fall = waterfall_lines(look, frame, self.width_of("waterfall"), 3 if compact else WATERFALL_ROWS)
        self.lines("waterfall").show(fall)
        findings = self.lines("findings")
        room = self.width_of("findings"), findings.size.height
        findings.show(finding_lines(look, view.snapshot.findings, *room, frame.t))
        self.draw_probe(view.probe)
        self._draw_charts(frame, view.history)
        self._shown = view.snapshot

    def _draw_charts(self, frame: Frame, history: History) -> None:
        """Append to the charts; draw them afresh when time did not simply go on."""
        last = self._shown.frame.t if self._shown is not None and self._history is history else None
        self._history = history
        for name, plot in zip(PANELS, (busy_plot(frame), BY_ID["wait"], BY_ID["output"]), strict=True):
            chart = self.query_one(f"#{name}-chart", PanelChart)
            changed = getattr(chart, "plot", None) is not plot
            if changed:
                chart.plot = plot
                chart.scale = plot.scale
                self._caption(name, plot)
            if last is not None and not changed and 0.0 <= frame.t - last < 10.0:
                for t, value in history.series(plot.pick, frame.t, frame.t - last):  # what the screen missed as well
                    chart.add(t, value)
            else:
                chart.set_points(history.series(plot.pick, frame.t, HISTORY_S))

    def _caption(self, name: str, plot: Plot) -> None:
        width = self.width_of(name)
        text = f"{plot.what}, 0–100 %"
        text = text if plot.unit == "%" and width_of(text) <= width else plot.what
        self.lines(f"{name}-caption").show([(self.look.seg(fit(text, width), "label"),)])

    def draw_probe(self, probe: ProbeState) -> None:
        """The test prompt alone: it changes between ticks."""
        widget = self.lines("probe")
        widget.show(probe_lines(self.look, probe, self.width_of("probe"), widget.size.height))
