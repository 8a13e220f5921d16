"""Changes from the dashboard: preview, apply in the background, tell what became of it, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtop.diagnose.engine import Finding
from qtop.errors import QtopError
from qtop.ui.commands import in_background
from qtop.ui.panels.findings import numbered
from qtop.ui.screens.dialogs import PreviewDialog
from qtop.ui.trials import ProbeState

if TYPE_CHECKING:
    from qtop.act.change import Plan
    from qtop.ui.app import QtopApp


class Changes:
    """Everything here runs on the UI thread, except what ``in_background`` gets."""

    def __init__(self, app: QtopApp) -> None:
        self._app = app
        self._busy = ""

    @property
    def busy_text(self) -> str:
        """What is under way, or ""."""
        return self._busy

    def greet(self) -> None:
        """Tell of a change that a killed qtop left behind. The journal tells, and the actor with all its knobs, a tenth
        of a second to import, waits until something is to be changed."""
        if not self._app.session.may_act:
            return
        from qtop.act.journal import Journal, age_text

        try:
            unfinished = [change for change in Journal().in_force() if change.state == "open"]
        except QtopError as error:
            self._app.say(str(error))
            return
        if unfinished:
            one = unfinished[0]
            self._app.say(f"a change from {age_text(one)} ({one.knob}) was left unfinished: u puts it back")

    def preview(self, number: int, findings: tuple[Finding, ...]) -> None:
        """Show what the remedy with this number would do."""
        app = self._app
        remedies = numbered(findings)
        actor = app.session.actor
        if actor is None:
            app.say(app.session.no_actor)
            return
        if not 1 <= number <= len(remedies):
            app.say("no finding has this number")
            return
        if actor.busy:
            app.say("a change is under way")
            return
        if app.session.probing:
            app.say("a test prompt is under way, and would be measured with the change: Esc cancels it")
            return
        try:
            plan = actor.plan(remedies[number - 1][1].knob)
            cost, warning = actor.cost()
        except QtopError as error:
            app.say(str(error))
            return

        def answered(apply: bool | None) -> None:
            if apply:
                self._apply(plan)
            else:
                app.say("nothing was changed")

        app.push_screen(PreviewDialog(app.look, plan, cost, warning), answered)

    def _apply(self, plan: Plan) -> None:
        app, actor = self._app, self._app.session.actor
        assert actor is not None
        self._set_busy(f"{plan.knob} …")
        app.probing.state = ProbeState()

        def say(step: str, text: str) -> None:
            app.run_later(lambda: self._set_busy(f"{plan.knob}: {text}"))

        def work() -> None:
            try:
                outcome = actor.apply([(plan.knob, plan.value)], say, on_event=app.probing.heard)
                text = f"{plan.knob} {outcome.text}" + ("   u undoes it" if outcome.kept else "")
                app.session.note("change", {"knob": plan.knob, "kept": outcome.kept, "text": outcome.text})
            except QtopError as error:
                text = str(error)
            app.run_later(lambda: self._done(text))

        in_background(work)

    def _set_busy(self, text: str) -> None:
        self._busy = text
        self._app.say(text)
        self._app.redraw()

    def _done(self, text: str) -> None:
        self._app.probing.state.running = False
        self._set_free(text)

    def _set_free(self, text: str) -> None:
        self._busy = ""
        self._app.say(text)
        self._app.redraw()

    def cancel(self) -> None:
        """Stop the change under way: its old values come back."""
        actor = self._app.session.actor
        if actor is not None and actor.busy:
            self._app.say("cancelling; the old values come back")
            in_background(actor.cancel)

    def undo(self) -> None:
        """Put the latest change back."""
        actor = self._app.session.actor
        if actor is None:
            self._app.say(self._app.session.no_actor)
            return
        if self._busy:
            self._app.say("a change is under way")
            return
        self._set_busy("undo …")

        def say(step: str, text: str) -> None:
            self._app.run_later(lambda: self._set_busy(f"undo: {text}"))

        def work() -> None:
            # A server that is started anew takes minutes.
            try:
                done = actor.undo(say=say)
                text = done.text
                self._app.session.note("undo", {"knob": done.knob, "restored": done.restored})
            except QtopError as error:
                text = str(error)
            self._app.run_later(lambda: self._set_free(text))

        in_background(work)
