"""Test prompts from the dashboard: one test at a time, streamed by the prober, cancelled by a key, and kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.ui.commands import in_background
from qtop.ui.form import Form
from qtop.ui.trials import Asked, ProbeState, Trial
from qtop.units import number

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp

DRAW_S = 0.1
"""Between two drawings of a streaming answer: ten a second look live and cost little over SSH."""
MOST_TRIALS = 200
"""Tests kept; the oldest go first."""
MARKS = 2
STALE = 1
"""Ticks after a test whose scrape may lie before its end: what runs in them was the test itself."""


class Probing:
    """Everything here runs on the UI thread, except ``heard`` and what ``in_background`` gets."""

    def __init__(self, app: QtopApp, prompt: str, max_tokens: int) -> None:
        self._app = app
        self.form = Form.of(prompt, max_tokens)
        self.state = ProbeState()
        self.trials: list[Trial] = []
        """Tests that ended, the latest last."""
        self.chosen = 0
        """The number of the test that is shown in full; 0 before there is any."""
        self.marked: list[int] = []
        """Numbers of the tests to compare, at most two, in the order in which they were marked."""
        self._count = 0
        self._mine = False
        self._warned: Asked | None = None
        self._stale_until = 0
        """Snapshots up to this number may show the server as it was while the latest test ran."""
        self._drawn = 0.0
        self._draw_waits = False
        self._events: deque[ProbeEvent] = deque()
        self._lock = threading.Lock()
        self._pending = False

    # What is sent

    def request(self) -> ProbeRequest:
        """The request that the form asks for; QtopError with one line where it cannot be sent."""
        self.form.context = self._app.session.context()
        return self._app.session.probe_request(**self.form.asks())

    def plan(self) -> tuple[str, str]:
        """What sending would send, and why it should not or cannot be, or ""."""
        try:
            request = self.request()
        except QtopError as error:
            return "", str(error)
        return self._planned(request)

    def _planned(self, request: ProbeRequest) -> tuple[str, str]:
        text, warning = self._app.session.probe_plan(request)
        shown = self._app.session.latest
        if shown is not None and shown.seq <= self._stale_until:
            warning = None
        return with_reading(request, text), warning or ""

    def toggle(self) -> None:
        """Send what the form says, or cancel the test under way."""
        if self._app.session.probing:
            self.cancel()
        else:
            self.send()

    def send(self) -> None:
        """Begin a test. On a saturated server the first press only warns."""
        app = self._app
        if app.changes.busy_text:
            app.say("a change is being measured: another prompt would disturb it")
            return
        if app.session.probing:
            app.say("a test prompt is under way: Esc cancels it")
            return
        self.form.commit()
        try:
            request = self.request()
            asked = Asked.of(request)
            state = ProbeState(asked=asked)
            state.plan, state.warning = self._planned(request)
            self.state = state
            if state.warning and self._warned != asked:
                self._warned = asked
                app.say("the server is saturated: p again sends it all the same")
                app.redraw()
                return
            self._warned = None
            state.running = True
            self._mine = True
            app.session.start_probe(request, self.heard)
        except QtopError as error:
            self.state.running = self._mine = False
            app.say(str(error))
        app.redraw()

    def cancel(self) -> None:
        """End the test prompt under way, if there is one: its process goes, and its connections with it."""
        if self._app.session.probing:
            self._app.session.cancel_probe()
            self._app.say("test prompt cancelled: nothing of it goes on in the server")

    # What comes back

    def heard(self, event: ProbeEvent) -> None:
        """An event of the prober, on its reader's thread; those that come before the screen's turn go in one call."""
        self._events.append(event)
        with self._lock:
            waits, self._pending = self._pending, True
        if not waits:
            self._app.run_later(self._drain)

    def _drain(self) -> None:
        with self._lock:
            self._pending = False
        while self._events:
            self.take(self._events.popleft())

    def take(self, event: ProbeEvent) -> None:
        """Note an event, and draw it if the last drawing is long enough ago, else a little later."""
        self.state.take(event)
        if event.kind == "end" and self._mine:
            self._mine = False
            self._end()
        wait = self._drawn + DRAW_S - time.monotonic()
        if wait <= 0 or event.kind == "end":
            self._draw()
        elif not self._draw_waits:
            self._draw_waits = True
            self._app.set_timer(wait, self._draw)

    def _draw(self) -> None:
        self._draw_waits = False
        self._drawn = time.monotonic()
        self._app.draw_probe()

    def _end(self) -> None:
        """Keep the test, then add up its figures and read the server once more, beside the screen."""
        state, session = self.state, self._app.session
        state.warning = ""
        self._stale_until = (session.latest.seq if session.latest is not None else 0) + STALE
        if not state.results:
            return
        self._count += 1
        trial = Trial.of(self._count, state)
        self.trials = [*self.trials, trial][-MOST_TRIALS:]
        self.chosen = trial.number
        watch = session.watching
        patience = 3 * session.source.interval + 2.0

        def work() -> None:
            summed = trial.summed_up()
            self._app.run_later(lambda: self._replace(summed))
            window = session.probe_window(trial.results, patience, watch)
            self._app.run_later(lambda: self._replace(summed.seen(window)))

        in_background(work)

    def _replace(self, trial: Trial) -> None:
        self.trials = [trial if one.number == trial.number else one for one in self.trials]
        if trial.number == self._count and trial.summary is not None and self.state.several and not self.state.running:
            from qtop.ui.panels.probe_results import summary_text

            self.state.summary = summary_text(trial.summary)
        self._app.redraw()

    # Which of them is shown

    def pick(self, by: int) -> bool:
        """Choose the test so many rows further down (older); False where there is none."""
        numbers = [trial.number for trial in reversed(self.trials)]
        at = numbers.index(self.chosen) + by if self.chosen in numbers else 0
        if not 0 <= at < len(numbers):
            return False
        self.chosen = numbers[at]
        return True

    def mark(self, number: int) -> None:
        """Mark a test to compare it, or unmark it; of three the one marked first goes."""
        if number in self.marked:
            self.marked.remove(number)
        else:
            self.marked = [*self.marked, number][-MARKS:]

    def trial(self, number: int) -> Trial | None:
        """The test of this number."""
        return next((one for one in self.trials if one.number == number), None)

    def compared(self) -> tuple[Trial, Trial] | None:
        """The two tests that are marked, the earlier one first; None unless there are two."""
        found = [trial for trial in self.trials if trial.number in self.marked and trial.summary is not None]
        return (found[0], found[1]) if len(found) == MARKS else None


def with_reading(request: ProbeRequest, plan: str) -> str:
    """The plan, and how much there is to read in it where that is chosen as a number."""
    if not request.fill:
        return plan
    return f"{plan}; {number(request.fill)} tokens to read in each"
