"""The dashboard app: keys, and what they set going. Drawing is the screen's, acting the session's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent
from qtop.session import Session, Snapshot
from qtop.source.attach import Choice
from qtop.source.live import LiveSource
from qtop.source.replay import ReplaySource
from qtop.startup import settle
from qtop.ui import commands
from qtop.ui.bridge import Bridge
from qtop.ui.changes import Changes
from qtop.ui.display import DisplayMixin
from qtop.ui.look import Look
from qtop.ui.panels.header import Status
from qtop.ui.panels.probe import ProbeState
from qtop.ui.screens.dashboard import DashboardScreen
from qtop.ui.screens.dialogs import ChooseDialog, PageDialog
from qtop.ui.suspend import Suspension
from qtop.ui.themes import load_css
from qtop.ui.theming import ThemeMixin
from qtop.units import clock

MESSAGE_S = 6.0
"""Seconds that a message stays on the key line."""
PROBE_DRAW_S = 0.1
"""Between two drawings of a streaming answer: ten a second look live and cost little over SSH."""

DEBUG = bool(os.environ.get("QTOP_DEBUG"))


class QtopApp(ThemeMixin, DisplayMixin, App[None]):
    """Shows a session. ``prompt`` and ``max_tokens`` are for the key p."""

    TITLE = "qtop"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Help"),
        Binding("p", "probe", "Stream a test prompt"),
        Binding("u", "undo", "Undo the latest change"),
        Binding("r", "record", "Record"),
        Binding("space", "pause", "Pause"),
        Binding("left,comma", "step(-1)", "Step back", show=False),
        Binding("right,full_stop", "step(1)", "Step on", show=False),
        Binding("home", "step(-10)", "Ten back", show=False),
        Binding("end", "latest", "Latest", show=False),
        Binding("escape", "cancel", "Cancel", show=False),
        Binding("f", "findings", "Page of the first finding"),
        Binding("d", "demo", "Demo server", show=False),
        Binding("T", "theme", "Next theme", show=False),
        Binding("s", "choose", "Choose the server", show=False),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True),
        *(Binding(str(key), f"fix({key})", f"Fix {key}", show=False) for key in range(1, 10)),
    ]

    def __init__(
        self,
        session: Session,
        look: Look,
        prompt: str = "",
        max_tokens: int = 64,
        record_dir: Path = Path(),
        autoprobe: bool = False,
        start_demo: Callable[[Callable[[str], None]], str] | None = None,
    ) -> None:
        super().__init__(css_path=load_css())  # type: ignore[arg-type]
        self.animation_level = "none"
        self.session = session
        self.wear(look)
        self.probe = ProbeState()
        self.changes = Changes(self)
        self._prompt, self._max_tokens = prompt, max_tokens
        self._record_dir = record_dir
        self._autoprobe = autoprobe
        self._start_demo = start_demo
        self.demo_begun = False
        self._bridge: Bridge | None = None
        self._origin = Context()
        self.broke: BaseException | None = None
        self._dashboard = DashboardScreen(look)
        self._snapshot: Snapshot | None = None
        self._paused = False
        self._back = 0
        self._message, self._message_until = "", 0.0
        self._record_since = 0.0
        self._probe_drawn = 0.0
        self._span = (0.0, 0.0)
        """Unix times of the first and last sample of the recording that is replayed."""
        self._declined: tuple[Choice, ...] = ()

    def on_mount(self) -> None:
        """Show the dashboard, then begin to sample: first paint waits for nothing."""
        if self.session.source.live:
            self._snapshot = self.session.opening()
        self.push_screen(self._dashboard)
        loop = asyncio.get_running_loop()
        if self._driver is not None and not self.is_headless:
            Suspension(self._driver, loop)
        if not DEBUG:  # what goes wrong beside the screen is not printed across it
            loop.set_exception_handler(lambda _loop, _context: None)
        self._origin = copy_context()
        self._bridge = Bridge(self.run_later, self._take)
        self.session.listen(self._bridge.put)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        settle()
        self.session.start()
        self.run_later(self.changes.greet)

    def on_unmount(self) -> None:
        """Nothing more is drawn."""
        if self._bridge is not None:
            self._bridge.close()

    def run_later(self, call: Callable[[], None]) -> None:
        """Run on the UI thread, from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._guarded, call, context=self._origin)
            except RuntimeError:
                pass  # the app has ended meanwhile

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # the event loop would only print it
            self._handle_exception(error)

    def _print_error_renderables(self) -> None:
        """Leave tracebacks to those who ask for them; what broke is ``broke``, for one line after the end."""
        self.broke = self._exception or (QtopError("the screen ended unexpectedly") if self._exit_renderables else None)
        if DEBUG:
            super()._print_error_renderables()
        self._exit_renderables.clear()

    def say(self, message: str) -> None:
        """A line where the keys are, for a few seconds."""
        self._message, self._message_until = message, time.monotonic() + MESSAGE_S
        if self._dashboard.is_mounted:
            self._dashboard.draw_message(message)

    # Drawing

    def _take(self, snapshot: Snapshot) -> None:
        """A new snapshot: shown, unless the screen is paused."""
        if self.session.record_error and self.session.recording is not None:
            self.session.stop_recording()
            self.say(self.session.record_error)
        if not self._paused:
            self._snapshot = snapshot
        self.redraw()
        self._offer_choice()
        if self._autoprobe and snapshot.frame.engine is not None and self._has_server():
            self._autoprobe = False
            self.action_probe()

    def redraw(self) -> None:
        """Draw what is shown anew."""
        if self._snapshot is not None and self._dashboard.is_mounted:
            message = self._message if time.monotonic() < self._message_until else ""
            self._dashboard.draw(self._snapshot, self._status(), self.probe, message, self.session.history)

    def _status(self) -> Status:
        source = self.session.source
        replay = ""
        if isinstance(source, ReplaySource):
            t = self._snapshot.frame.t if self._snapshot is not None else 0.0
            if t > self._span[1]:  # asking reads the file: once, and again when one that grows has grown
                self._span = (source.recording.start, source.recording.end)
            begin, end = self._span
            at = max(0.0, t - begin)
            replay = f"{clock(at)} / {clock(end - begin)} ×{source.speed:g}" + (" end" if source.ended else "")
        paused = ""
        latest = self.session.latest
        if self._paused and self._snapshot is not None and latest is not None:
            back = latest.frame.t - self._snapshot.frame.t
            paused = f"{back:.0f} s back" if back >= 0.5 else "now"
        recording = time.monotonic() - self._record_since if self.session.recording is not None else None
        return Status(source.interval, replay, paused, recording, self.changes.busy_text, len(self._choices()))

    def _has_server(self) -> bool:
        source = self.session.source
        return isinstance(source, LiveSource) and source.attached is not None

    def _choices(self) -> tuple[Choice, ...]:
        source = self.session.source
        return source.attachment.choices if isinstance(source, LiveSource) else ()

    def _offer_choice(self) -> None:
        """Ask which server, once for the same servers; what is no longer to be chosen is no longer asked."""
        choices = self._choices()
        if isinstance(self.screen, ChooseDialog):
            if not choices:
                self.screen.dismiss(None)
        elif choices and choices != self._declined:
            self.action_choose()

    def action_choose(self) -> None:
        """Choose among several servers."""
        source, choices = self.session.source, self._choices()
        if not isinstance(source, LiveSource) or not choices:
            self.say("there is only one server to watch" if self._has_server() else "there is nothing to choose from")
            return

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                source.attachment.choose(choice.url)
            self._declined = choices

        self.push_screen(ChooseDialog(choices), chosen)

    # Keys

    async def action_quit(self) -> None:
        """Leave; whatever was begun is put back or closed by the caller."""
        if self.changes.busy_text:
            self.say("putting the change back before leaving …")
        self.exit()

    def action_help(self) -> None:
        """The keys and what the marks mean."""
        self._page(commands.HELP)

    def action_page(self, rule: str) -> None:
        """The page of a rule."""
        from qtop.diagnose.registry import page
        from qtop.report.plot import share_plot

        points, threshold = self.session.observed(rule)
        width = min(84, int(self.size.width * 0.94) - 10)
        plot = "" if self.look.ascii else share_plot(points, threshold, width, 12)
        self._page(page(rule), plot)

    def action_findings(self) -> None:
        """The page of the first finding."""
        if self._snapshot is not None and self._snapshot.findings:
            self.action_page(self._snapshot.findings[0].rule)

    def _page(self, text: str, plot: str = "") -> None:
        if not isinstance(self.screen, PageDialog):
            self.push_screen(PageDialog(text, plot))

    def action_pause(self) -> None:
        """Hold the screen (a replay: the recording), or go on."""
        self._paused = not self._paused
        self._back = 0
        if isinstance(self.session.source, ReplaySource):
            self.session.source.pause(self._paused)
        if not self._paused and self.session.latest is not None:
            self._snapshot = self.session.latest
        self.say(
            "paused: ← → step, space goes on" if self._paused else "live" if self.session.source.live else "playing"
        )
        self.redraw()

    def action_step(self, by: int) -> None:
        """Step through what is kept; in a paused replay also on into the recording."""
        if not self._paused:
            self.action_pause()
        shown = self._snapshot
        if by > 0 and isinstance(self.session.source, ReplaySource) and shown is self.session.latest:
            self.session.source.step()
            self.call_later(self._follow, shown)
            return
        if self.session.source.live and shown is not None:
            self._back = self.session.index_of(shown)
        self._back = max(0, min(self.session.kept - 1, self._back - by))
        self._snapshot = self.session.back(self._back) or self._snapshot
        self.redraw()

    def _follow(self, shown: Snapshot | None) -> None:
        self._snapshot = self.session.wait(shown.seq if shown else 0, 0.2) or self._snapshot
        self._back = 0
        self.redraw()

    def action_latest(self) -> None:
        """Back to now."""
        if self._paused:
            self.action_pause()

    def action_cancel(self) -> None:
        """Stop a test prompt or a change under way."""
        if self.changes.busy_text:
            self.changes.cancel()
        elif self.session.probing:
            self.session.cancel_probe()
            self.say("test prompt cancelled")

    def action_probe(self) -> None:
        """Stream a test prompt; a second press cancels it. On a saturated server the first press only warns."""
        if self.changes.busy_text:
            self.say("a change is being measured: another prompt would disturb it")
            return
        if self.session.probing:
            self.action_cancel()
            return
        warned = bool(self.probe.warning) and not self.probe.text
        try:
            request = self.session.probe_request(self._prompt, self._max_tokens)
            self.probe = ProbeState()
            self.probe.plan, warning = self.session.probe_plan(request)
            self.probe.warning = warning or ""
            if warning and not warned:
                self.say("the server is saturated: p again sends the prompt all the same")
                self.redraw()
                return
            self.probe.running = True
            self.session.start_probe(request, self.heard_probe)
        except QtopError as error:
            self.probe.running = False
            self.say(str(error))
        self.redraw()

    def heard_probe(self, event: ProbeEvent) -> None:
        """An event of the prober, on its reader's thread."""
        self.run_later(lambda: self._probe_event(event))

    def _probe_event(self, event: ProbeEvent) -> None:
        self.probe.take(event)
        now = time.monotonic()
        if (event.kind != "delta" or now - self._probe_drawn >= PROBE_DRAW_S) and self._dashboard.is_mounted:
            self._probe_drawn = now
            self._dashboard.draw_probe(self.probe)

    def action_fix(self, number: int) -> None:
        """Preview the remedy with this number."""
        if self._snapshot is not None:
            self.changes.preview(number, self._snapshot.findings)

    def action_undo(self) -> None:
        """Put the latest change back."""
        self.changes.undo()

    def action_record(self) -> None:
        """Start or stop recording."""
        try:
            if self.session.recording is not None:
                writer = self.session.stop_recording()
                assert writer is not None
                self.say(self.session.record_error or f"recorded {writer.stats.samples} samples in {writer.path}")
            else:
                path = commands.new_file(self._record_dir.expanduser())
                self.session.start_recording(path)
                self._record_since = time.monotonic()
                self.say(f"recording to {path}; r stops it")
        except QtopError as error:
            self.say(str(error))
        self.redraw()

    def action_demo(self) -> None:
        """Start the demo server and watch it."""
        source = self.session.source
        if self._start_demo is None or not isinstance(source, LiveSource) or self._has_server():
            self.say("there is a server already" if self._has_server() else "no demo server here")
        elif not self.demo_begun:
            self.demo_begun = True
            commands.begin_demo(self, self._start_demo, source.attachment.choose)

    def get_system_commands(self, screen: Screen[object]) -> commands.Commands:
        """Everything is in the command palette."""
        for name, text, call in commands.listed(self):
            yield SystemCommand(name, text, call)
