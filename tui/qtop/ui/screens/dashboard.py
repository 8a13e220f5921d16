"""The main screen: header, verdict, three panels with their charts, waterfall, findings and test prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.screen import Screen

from qtop.model.frame import EngineView, Frame, SchedView
from qtop.model.history import History
from qtop.sample import NOT_YET, Absent, Reading
from qtop.session import Snapshot
from qtop.ui.lines import Lines
from qtop.ui.look import Look
from qtop.ui.panels.findings import finding_lines, verdict_line
from qtop.ui.panels.gpu import gpu_lines
from qtop.ui.panels.header import Status, header_line, key_line
from qtop.ui.panels.probe import ProbeState, probe_lines
from qtop.ui.panels.sched import sched_lines
from qtop.ui.panels.server import server_lines
from qtop.ui.panels.waterfall import waterfall_lines
from qtop.ui.widgets.chart import TimeChart

WIDE = 104
"""Columns from which the three panels stand side by side even with a GPU."""
TALL = 32
"""Rows from which the panels have charts."""
TALLER = 44
"""Rows from which the charts are higher."""


@dataclass(frozen=True)
class Plot:
    """One chart: what it draws, its caption, its fixed scale."""

    id: str
    pick: Callable[[Frame], Reading[float]]
    scale: float | None


def _gpu_busy(frame: Frame) -> Reading[float]:
    return frame.gpus[0].util if not isinstance(frame.gpus, Absent) and frame.gpus else NOT_YET


def _engine_wait(frame: Frame) -> Reading[float]:
    if not isinstance(frame.sched, SchedView) or not frame.sched.critical:
        return NOT_YET
    return max(thread.wait for thread in frame.sched.critical)


def _output(frame: Frame) -> Reading[float]:
    return frame.engine.gen_tok_s if isinstance(frame.engine, EngineView) else NOT_YET


PLOTS = (
    Plot("gpu-chart", _gpu_busy, 1.0),
    Plot("sched-chart", _engine_wait, 1.0),
    Plot("server-chart", _output, None),
)
HISTORY_S = 300.0


class DashboardScreen(Screen[None]):
    """Everything at a glance; draws a snapshot, knows nothing of where it came from."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        self._shown: Snapshot | None = None

    def compose(self) -> ComposeResult:
        """The fixed skeleton; panels come and go by classes."""
        yield Lines(id="header", classes="row")
        yield Lines(id="verdict", classes="row")
        with Container(id="panels"):
            for name in ("gpu", "sched", "server"):
                with Vertical(id=f"{name}-panel", classes="panel"):
                    yield Lines(id=name)
                    yield Lines(id=f"{name}-caption", classes="caption row")
                    yield TimeChart(id=f"{name}-chart", scale=1.0 if name != "server" else None, ascii=self._look.ascii)
        yield Lines(id="waterfall")
        with Horizontal(id="bottom"):
            yield Lines(id="findings", classes="fill")
            yield Lines(id="probe", classes="fill")
        yield Lines(id="keys", classes="row")

    def on_mount(self) -> None:
        """Captions stay as they are."""
        for name, caption in (
            ("gpu", "busy, 0–100 %"),
            ("sched", "waits for a CPU, 0–100 %"),
            ("server", "output tokens a second"),
        ):
            self.query_one(f"#{name}-caption", Lines).show([(self._look.seg(caption, "label"),)])

    def on_resize(self) -> None:
        """Choose what fits."""
        width, height = self.app.size
        self.set_class(width >= WIDE, "wide")
        self.set_class(height >= TALL, "tall")
        self.set_class(height < TALL, "short")
        self.set_class(height < 20, "tiny")
        self.set_class(height >= TALLER, "taller")
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        """Lines are prepared for a width: once the new one is known, all are prepared anew."""
        self._shown = None
        self.app.redraw()  # type: ignore[attr-defined]

    def draw(self, snapshot: Snapshot, status: Status, probe: ProbeState, message: str, history: History) -> None:
        """Put a snapshot on the screen."""
        look, frame = self._look, snapshot.frame
        self._draw_chrome(snapshot, status, message)
        self.set_class(isinstance(frame.gpus, Absent) or not frame.gpus, "no-gpu")
        compact = self.app.size.height < TALL
        columns = (
            1 if self.has_class("wide") and not self.has_class("no-gpu") else 2 if self.app.size.width < 120 else 3
        )
        rows = 7 if compact else 99
        panels = [
            (self._lines("sched"), sched_lines(look, frame, self._width("sched"), rows)),
            (self._lines("server"), server_lines(look, frame, self._width("server"), rows)),
        ]
        further = 2 if compact else max(4, self.app.size.height - TALL)
        gpu = (self._lines("gpu"), gpu_lines(look, frame, self._width("gpu"), columns, further))
        if columns == 1:
            panels.insert(0, gpu)
        else:
            gpu[0].show(gpu[1])
        longest = max(len(lines) for _, lines in panels)
        for widget, lines in panels:  # as many lines in each, so that the charts below stand on one level
            widget.show([*lines, *[()] * (longest - len(lines))])
        self._lines("waterfall").show(waterfall_lines(look, frame, self._width("waterfall")))
        findings = self.query_one("#findings", Lines)
        findings.show(finding_lines(look, snapshot.findings, max(20, findings.size.width), findings.size.height))
        self.draw_probe(probe)
        self._draw_charts(frame, history)
        self._shown = snapshot

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    def _width(self, name: str) -> int:
        return max(20, self._lines(name).size.width)

    def _draw_chrome(self, snapshot: Snapshot, status: Status, message: str) -> None:
        look, width = self._look, self.size.width
        self.query_one("#header", Lines).show([header_line(look, snapshot.frame, status, width)])
        extra: tuple[tuple[str, str, str], ...] = ()
        plan = ""
        if status.choices:
            extra, plan = (("s", "choose the server", "app.choose"),), "[s] choose"
        elif isinstance(snapshot.frame.server, Absent) and not status.replay:
            extra = (("d", "demo server", "app.demo"),)
            plan = "[d] start the demo server" if width >= 80 else "[d] demo"
        self.query_one("#verdict", Lines).show([verdict_line(look, snapshot.verdict, snapshot.findings, width, plan)])
        self.query_one("#keys", Lines).show([key_line(look, width, message, extra)])

    def _draw_charts(self, frame: Frame, history: History) -> None:
        """Append to the charts; draw them afresh when time did not simply go on."""
        last = self._shown.frame.t if self._shown is not None else None
        for plot in PLOTS:
            chart = self.query_one(f"#{plot.id}", TimeChart)
            if last is not None and 0.0 <= frame.t - last < 10.0:
                for t, value in history.series(plot.pick, frame.t, frame.t - last):  # what the screen missed as well
                    chart.add(t, value)
            else:
                chart.set_points(history.series(plot.pick, frame.t, HISTORY_S))

    def draw_probe(self, probe: ProbeState) -> None:
        """The test prompt alone: it changes between ticks."""
        widget = self.query_one("#probe", Lines)
        widget.show(probe_lines(self._look, probe, max(20, widget.size.width), widget.size.height))

    def draw_message(self, message: str) -> None:
        """The key line alone."""
        self.query_one("#keys", Lines).show([key_line(self._look, self.size.width, message)])
