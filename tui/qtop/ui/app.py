"""The dashboard app: keys, and what they set going. Drawing is the screen's, acting the session's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from typing import ClassVar

from rich.console import RenderableType
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from qtop.errors import QtopError
from qtop.session import WITH_PROMPTS, Session, Snapshot
from qtop.source.attach import Choice
from qtop.source.live import LiveSource
from qtop.startup import settle
from qtop.ui import commands
from qtop.ui.bridge import Bridge
from qtop.ui.changes import Changes
from qtop.ui.display import DisplayMixin
from qtop.ui.keyboard import KeyboardMixin
from qtop.ui.look import Look
from qtop.ui.panels.header import Status
from qtop.ui.plan_mixin import PlanMixin
from qtop.ui.playback import Playback
from qtop.ui.plots import Plot
from qtop.ui.probing import Probing
from qtop.ui.screens.base import MainScreen, View
from qtop.ui.screens.dashboard import DashboardScreen
from qtop.ui.screens.dialogs import ChooseDialog, PageDialog
from qtop.ui.suspend import Suspension
from qtop.ui.themes import load_css
from qtop.ui.theming import ThemeMixin
from qtop.ui.timekeys import TimeMixin

MESSAGE_S = 6.0
"""Seconds that a message stays on the key line."""

DEBUG = bool(os.environ.get("QTOP_DEBUG"))


class QtopApp(ThemeMixin, DisplayMixin, KeyboardMixin, TimeMixin, PlanMixin, App[None]):
    """Shows a session. ``prompt`` and ``max_tokens`` are for the key p."""

    TITLE = "qtop"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Help"),
        Binding("u", "undo", "Undo the latest change"),
        Binding("r", "record", "Record"),
        *TimeMixin.TIME_KEYS,
        Binding("escape", "cancel", "Cancel", show=False),
        *(Binding(key, f"show('{name}')", text, show=False) for key, name, text in commands.SCREENS),
        Binding("o", "show('overview')", "Overview", show=False),
        Binding("tab", "next_screen", "Next screen", show=False, priority=True),
        Binding("f", "findings", "Page of the first finding"),
        Binding("d", "demo", "Demo server", show=False),
        Binding("c", "theme", "Next theme", show=False),
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
        keep_prompts: bool = False,
    ) -> None:
        super().__init__(css_path=load_css())  # type: ignore[arg-type]
        self.animation_level = "none"
        self.session = session
        self.wear(look)
        self.changes = Changes(self)
        self.playback = Playback(session)
        self.probing = Probing(self, prompt, max_tokens)
        self._record_dir, self._keep_prompts = record_dir, keep_prompts
        self._autoprobe = autoprobe
        self._start_demo = start_demo
        self.demo_begun = False
        self._bridge: Bridge | None = None
        self._origin = Context()
        self.broke: BaseException | None = None
        self._leaving = False
        self._dashboard = DashboardScreen()
        self._main: MainScreen = self._dashboard
        self._message, self._message_until = "", 0.0
        self._record_since = 0.0
        self._declined: tuple[Choice, ...] = ()

    def on_mount(self) -> None:
        """Show the dashboard, then begin to sample: first paint waits for nothing."""
        if self.session.source.live:
            self.playback.shown = self.session.opening()
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
        self.set_interval(MESSAGE_S, self._tell_failure)

    def _begin(self) -> None:
        settle()
        self.session.start()
        self.look_through()
        self.run_later(self.changes.greet)
        if self.first_screen:
            self.action_show(self.first_screen)

    def _tell_failure(self) -> None:
        """A fault of qtop's own while it samples leaves an old screen standing: it must not do so in silence."""
        failure = self.session.source.failure
        if failure:
            self.say(f"internal error while sampling: {failure}. Please report it.")

    def exit(self, result: None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        """Leave. Nothing is drawn from here on: the screens lose their widgets before they know it themselves."""
        self._leaving = True
        if self._bridge is not None:
            self._bridge.close()
        if self.timeline is not None:
            self.timeline.stop()
        super().exit(result, return_code, message)

    @property
    def _drawable(self) -> bool:
        return self._main.is_mounted and bool(self._main.children) and self.is_running and not self._leaving

    def run_later(self, call: Callable[[], None]) -> None:
        """Run on the UI thread, from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._guarded, call, context=self._origin)
            except RuntimeError:
                pass  # the app has ended meanwhile

    def _guarded(self, call: Callable[[], None]) -> None:
        if self._leaving:
            return
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
        if self._drawable:
            self._main.draw_message(message)

    # Drawing

    def _take(self, snapshot: Snapshot) -> None:
        """A new snapshot: shown, unless the screen is paused."""
        if self.session.record_error and self.session.recording is not None:
            self.session.stop_recording()
            self.say(self.session.record_error)
        self.playback.take(snapshot)
        self.redraw()
        self._offer_choice()
        if self._autoprobe and snapshot.frame.engine is not None and self._has_server():
            self._autoprobe = False
            self.action_probe()

    def redraw(self) -> None:
        """Draw what is shown anew."""
        view = self._view()
        if view is not None and self._drawable:
            self._main.draw(view)

    def draw_probe(self) -> None:
        """Draw the test prompt anew, where the screen shows it."""
        if self._drawable:
            self._main.draw_probe(self.probing.state)

    def _view(self) -> View | None:
        shown = self.playback.shown
        if shown is None:
            return None
        message = self._message if time.monotonic() < self._message_until else ""
        return View(
            shown, self._status(), self.probing.state, message, self.session.history, self.changes.progress, self.strip
        )

    def _status(self) -> Status:
        writer = self.session.recording
        recording = time.monotonic() - self._record_since if writer is not None else None
        return Status(
            interval=self.session.source.interval,
            replay=self.playback.place(),
            paused=self.playback.distance(),
            recording_s=recording,
            with_prompts=writer is not None and writer.prompts,
            busy=self.changes.busy_text,
            choices=len(self._choices()),
        )

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
        from qtop.ui.rule_page import rule_page

        width = min(84, int(self.size.width * 0.94) - 10)
        text, plot, caption = rule_page(self.session, self.playback.shown, rule, width)
        self._page(text, "" if self.look.ascii else plot, caption)

    def action_findings(self) -> None:
        """The page of what the verdict is about, else of the first finding."""
        shown = self.playback.shown
        if shown is not None and shown.findings:
            self.action_page(shown.verdict.rule or shown.findings[0].rule)

    def _page(self, text: str, plot: str = "", caption: str = "") -> None:
        if not isinstance(self.screen, PageDialog):
            self.push_screen(PageDialog(text, plot, caption))

    def action_show(self, name: str) -> None:
        """Another main screen; the one that is shown already leads back to the overview."""
        if not isinstance(self.screen, MainScreen):
            return  # a dialog is open: its keys are its own
        if name == self._main.NAME:
            name = DashboardScreen.NAME
        if name == self._main.NAME:
            return
        self._main = self._dashboard if name == DashboardScreen.NAME else commands.new_screen(name)
        if isinstance(self.screen, MainScreen) and self.screen is not self._dashboard:
            self.pop_screen()
        if self._main is not self._dashboard:
            self.push_screen(self._main)
        self.call_after_refresh(self.redraw)

    def action_next_screen(self) -> None:
        """The next of the main screens."""
        names = [DashboardScreen.NAME, *(name for _, name, _ in commands.SCREENS)]
        self.action_show(names[(names.index(self._main.NAME) + 1) % len(names)])

    def action_plot(self, plot: str) -> None:
        """One chart on the whole screen."""
        if self._main.NAME != "plots":
            self.action_show("plots")
        self._main.choose(plot)

    def show_chart(self, plot: Plot, until: float, span: float) -> None:
        """A figure over time as a line with exact axes."""
        from qtop.report.plot import line_plot

        points = [
            (t - until, None if value is None else value * plot.factor)
            for t, value in self.session.history.series(plot.pick, until, span)
        ]
        width, height = min(84, int(self.size.width * 0.94) - 10), max(8, int(self.size.height * 0.9) - 8)
        drawn = "" if self.look.ascii else line_plot(points, width, height, top=plot.scale and plot.scale * plot.factor)
        unit = f", {plot.unit}" if plot.unit else ""
        self._page("" if drawn else "Fewer than two readings in this span.", drawn, f"{plot.what}{unit}")

    def action_cancel(self) -> None:
        """Stop a change or a test prompt under way; with neither, back to the overview."""
        if self.changes.busy_text:
            self.changes.cancel()
        elif self.session.probing:
            self.probing.cancel()
        else:
            self.action_show(DashboardScreen.NAME)

    def action_probe(self) -> None:
        """Stream a test prompt; a second press cancels it."""
        self.probing.toggle()

    def action_fix(self, number: int) -> None:
        """Preview the remedy with this number."""
        if self.playback.shown is not None:
            self.changes.preview(number, self.playback.shown.findings)

    def action_undo(self) -> None:
        """Put the latest change back."""
        self.changes.undo()

    def action_tune(self) -> None:
        """Try what the findings propose, one by one."""
        self.changes.tune()

    def action_record(self) -> None:
        """Start or stop recording."""
        try:
            if self.session.recording is not None:
                writer = self.session.stop_recording()
                assert writer is not None
                self.say(self.session.record_error or f"recorded {writer.stats.samples} samples in {writer.path}")
            else:
                path = commands.new_file(self._record_dir.expanduser())
                self.session.start_recording(path, prompts=self._keep_prompts)
                self._record_since = time.monotonic()
                self.say(f"recording to {path}{', ' + WITH_PROMPTS if self._keep_prompts else ''}; r stops it")
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
