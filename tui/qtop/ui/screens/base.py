"""What every main screen has: who is watched on row 1, the verdict on row 2, the keys on the last row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from qtop.model.history import History
from qtop.sample import NOT_RECORDED, Absent
from qtop.session import Snapshot
from qtop.ui.lines import Lines
from qtop.ui.look import Look
from qtop.ui.panels.findings import verdict_line
from qtop.ui.panels.header import Key, Status, header_line, key_line
from qtop.ui.panels.progress import Progress, progress_lines
from qtop.ui.spans import SpanCompositor
from qtop.ui.steady import Calm
from qtop.ui.trials import ProbeState

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp
    from qtop.ui.panels.timeline import Strip


REPLAY_KEYS: tuple[Key, ...] = (
    ("space", "pause", "app.pause"),
    ("/", "go to", "app.go"),
    ("n", "next finding", "app.turn(1)"),
    ("m", "marker", "app.mark"),
    ("<>", "speed", "app.speed(1)"),
)
"""In front of a screen's own."""
LIVE_ONLY = ("app.record", "app.undo", "app.show('probe')")
"""What a replay has no use for."""


class TimelineRow(Lines):
    """A click goes to the time under it."""

    def on_click(self, event: events.Click) -> None:
        """Go there."""
        event.stop()
        self.app.action_go_to_column(event.x, self.size.width)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class View:
    """All that a screen draws from."""

    snapshot: Snapshot
    status: Status
    probe: ProbeState
    message: str
    history: History
    progress: Progress | None = None
    """A change under way."""
    strip: Strip | None = None
    """The timeline of a replay."""


class MainScreen(Screen[None]):
    """Draws a view; knows nothing of where it came from."""

    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[Key, ...]] = ()
    """The keys that its last row names, those that matter most first."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SpanCompositor()
        self._calm = Calm()

    @property
    def qtop(self) -> QtopApp:
        """The app, as what it is."""
        return self.app  # type: ignore[return-value]

    @property
    def look(self) -> Look:
        """The pens in force."""
        return self.qtop.look

    def compose(self) -> ComposeResult:
        """Two rows above, one below, the screen's own between them; two more while a change is under way, and one in a
        replay."""
        yield Lines(id="header", classes="row")
        yield Lines(id="verdict", classes="row")
        yield from self.body()
        yield Lines(id="progress")
        yield TimelineRow(id="timeline", classes="row")
        yield Lines(id="keys", classes="row")

    def body(self) -> Iterable[Widget]:
        """What stands between the verdict and the keys."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """Lines are prepared for a width: once the new one is known, all are prepared anew."""
        self.call_after_refresh(self.qtop.redraw)

    def draw(self, view: View) -> None:
        """Put a view on the screen; what runs by itself is drawn steadied, what is read back exactly."""
        if not view.status.replay and not view.status.paused:
            snapshot = view.snapshot
            view = replace(view, snapshot=replace(snapshot, frame=self._calm.frame(snapshot.frame, view.history)))
        self._draw_chrome(view)
        self.draw_body(view)

    def draw_body(self, view: View) -> None:
        """Put what is the screen's own on it."""
        raise NotImplementedError

    def choose(self, name: str) -> None:
        """Show this one of several things; a screen that shows one thing has nothing to choose from."""

    def draw_probe(self, probe: ProbeState) -> None:
        """The test prompt alone: it changes between ticks. Most screens have none."""

    def draw_message(self, message: str) -> None:
        """The key line alone."""
        self.lines("keys").show([key_line(self.look, self.size.width, self.KEYS, message)])

    def lines(self, name: str) -> Lines:
        """One of the screen's widgets of lines."""
        return self.query_one(f"#{name}", Lines)

    def width_of(self, name: str) -> int:
        """Columns there are for its lines."""
        return max(20, self.lines(name).size.width)

    @property
    def rows_between(self) -> int:
        """Rows that a screen of one block of lines has for it: less the chrome, its margin, and a change under way."""
        taken = len(self.lines("progress").lines) if self.has_class("busy") else 0
        return max(3, self.size.height - 4 - taken - self.has_class("replay"))

    def _draw_progress(self, view: View) -> None:
        self.lines("progress").show(progress_lines(self.look, view.progress, max(20, self.size.width - 2)))
        busy = view.progress is not None
        if busy is not self.has_class("busy"):
            self.set_class(busy, "busy")
            self.call_after_refresh(self.qtop.redraw)  # what stands above has got more or fewer rows

    def _draw_timeline(self, view: View) -> None:
        strip = view.strip
        if (strip is not None) is not self.has_class("replay"):
            self.set_class(strip is not None, "replay")
            self.call_after_refresh(self.qtop.redraw)
        if strip is not None:
            self.lines("timeline").show([strip.line(self.look, view.snapshot.frame.t, self.size.width)])

    def _draw_chrome(self, view: View) -> None:
        self._draw_progress(view)
        self._draw_timeline(view)
        look, width, snapshot, status = self.look, self.size.width, view.snapshot, view.status
        self.lines("header").show([header_line(look, snapshot.frame, status, width)])
        extra: tuple[Key, ...] = REPLAY_KEYS if view.strip is not None else ()
        plan = ""
        if status.choices:
            extra, plan = (("s", "choose the server", "app.choose"),), "[s] choose"
        elif isinstance(snapshot.frame.server, Absent) and not status.replay:
            extra = (("d", "demo server", "app.demo"),)
            plan = "[d] start the demo server" if width >= 80 else "[d] demo"
        self.lines("verdict").show([verdict_line(look, snapshot.verdict, snapshot.findings, width, plan)])
        own = NOT_RECORDED if status.replay else snapshot.frame.own
        own_keys = [one for one in self.KEYS if one not in extra and not (status.replay and one[2] in LIVE_ONLY)]
        self.lines("keys").show([key_line(look, width, (*extra, *own_keys), view.message, own)])
