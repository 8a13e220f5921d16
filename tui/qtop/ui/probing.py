"""Test prompts from the dashboard: one at a time, streamed by the prober, cancelled by a key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent
from qtop.ui.panels.probe import ProbeState

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp

DRAW_S = 0.1
"""Between two drawings of a streaming answer: ten a second look live and cost little over SSH."""


class Probing:
    """Everything here runs on the UI thread, except ``heard``."""

    def __init__(self, app: QtopApp, prompt: str, max_tokens: int) -> None:
        self._app = app
        self._prompt, self._max_tokens = prompt, max_tokens
        self.state = ProbeState()
        self._drawn = 0.0

    def toggle(self) -> None:
        """Stream a test prompt, or cancel the one under way. On a saturated server the first press only warns."""
        app = self._app
        if app.changes.busy_text:
            app.say("a change is being measured: another prompt would disturb it")
            return
        if app.session.probing:
            self.cancel()
            return
        warned = bool(self.state.warning) and not self.state.text
        try:
            request = app.session.probe_request(self._prompt, self._max_tokens)
            self.state = ProbeState()
            self.state.plan, warning = app.session.probe_plan(request)
            self.state.warning = warning or ""
            if warning and not warned:
                app.say("the server is saturated: p again sends the prompt all the same")
                app.redraw()
                return
            self.state.running = True
            app.session.start_probe(request, self.heard)
        except QtopError as error:
            self.state.running = False
            app.say(str(error))
        app.redraw()

    def cancel(self) -> None:
        """End the test prompt under way, if there is one."""
        if self._app.session.probing:
            self._app.session.cancel_probe()
            self._app.say("test prompt cancelled")

    def heard(self, event: ProbeEvent) -> None:
        """An event of the prober, on its reader's thread."""
        self._app.run_later(lambda: self.take(event))

    def take(self, event: ProbeEvent) -> None:
        """Note an event, and draw it if the last drawing is long enough ago."""
        self.state.take(event)
        now = time.monotonic()
        if event.kind != "delta" or now - self._drawn >= DRAW_S:
            self._drawn = now
            self._app.draw_probe()
