"""Changes from the dashboard: preview, made in the background step by step, kept or put back, undone; or several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qtop.diagnose.engine import Finding
from qtop.errors import QtopError
from qtop.ui.cells import width_of
from qtop.ui.commands import in_background
from qtop.ui.lending import Lending
from qtop.ui.noting import note_tried, noting
from qtop.ui.panels.findings import numbered
from qtop.ui.panels.progress import Progress
from qtop.ui.screens.dialogs import ConfirmDialog, KeepDialog, PageDialog
from qtop.ui.screens.preview import PreviewDialog, Shown
from qtop.ui.trials import ProbeState

if TYPE_CHECKING:
    from qtop.act.actor import Actor, Wish
    from qtop.act.change import Plan
    from qtop.act.proof import Judgement
    from qtop.ui.app import QtopApp

LOOK_S = 0.2
"""Between two looks whether somebody has answered."""


@dataclass(frozen=True)
class _Look:
    """A preview that is wanted: of which knob, with which value, beside which other remedies."""

    knob: str
    value: str | None = None
    others: tuple[tuple[int, str], ...] = ()
    note: str = ""
    """What to know before the knob's own warnings."""


class Changes:
    """Everything here runs on the UI thread, except what ``in_background`` gets."""

    def __init__(self, app: QtopApp) -> None:
        self._app = app
        self._busy = ""
        self.progress: Progress | None = None
        """Of what is under way."""
        self.lending = Lending(app)
        self._looking = 0
        self.done = 0
        """How many changes, undos and looks ended: whoever shows the journal looks again."""

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

    def _free(self) -> Actor | None:
        """The actor, if it could begin something now; else why not is said."""
        app, actor = self._app, self._app.session.actor
        if actor is None:
            app.say(app.session.no_actor)
        elif actor.busy or self._busy:
            app.say("a change is under way: Esc cancels it")
        elif app.session.probing:
            app.say("a test prompt is under way, and would be measured with the change: Esc cancels it")
        else:
            return actor
        return None

    # The preview

    def preview(self, number: int, findings: tuple[Finding, ...]) -> None:
        """Show what the remedy with this number would do; the others of its finding are a number away."""
        if self._free() is None:
            return
        remedies = numbered(findings)
        if not 1 <= number <= len(remedies):
            self._app.say("no finding has this number")
            return
        finding, remedy = remedies[number - 1]
        mine = {one.knob for one in finding.remedies}
        others = tuple(
            (other, f"{one.label} ({one.knob})")
            for other, (_, one) in enumerate(remedies, 1)
            if other != number and one.knob in mine
        )
        self._open(_Look(remedy.knob, others=others), lambda other: self.preview(other, findings))

    def preview_knob(self, knob: str, value: str | None = None, note: str = "") -> None:
        """Show what this knob would do; where it has nothing to propose, a value can be given."""
        if self._free() is not None:
            self._open(_Look(knob, value, note=note), lambda other: None)

    def _open(self, look: _Look, other: Callable[[int], None]) -> None:
        """Look beside the screen (a plan may ask the server's own parser), then show it unless a dialog came first."""
        app = self._app
        self._looking += 1
        mine = self._looking
        screen = app.screen
        app.say(f"looking what {look.knob} would do …")

        def answered(answer: Plan | int | None) -> None:
            if isinstance(answer, int):
                other(answer)
            elif answer is not None:
                self._apply(answer)
            else:
                app.say("nothing was changed")

        def show(shown: Shown) -> None:
            if mine != self._looking or app.screen is not screen:
                return
            if shown.plan is None and not shown.example:
                app.say(shown.reason)
                return
            app.say("")
            app.push_screen(PreviewDialog(app.look, shown, self._replan), answered)

        self._plan(look, show)

    def _replan(self, dialog: PreviewDialog, value: str) -> None:
        """The same knob with another value, for a dialog that is open."""
        before = dialog.shown

        def show(shown: Shown) -> None:
            if not dialog.is_current:
                return
            if shown.plan is None:
                dialog.fail(shown.reason)
            else:
                dialog.show(shown)

        self._plan(_Look(before.knob, value, before.others), show)

    def _plan(self, look: _Look, show: Callable[[Shown], None]) -> None:
        app, actor = self._app, self._app.session.actor
        assert actor is not None

        def work() -> None:
            from qtop.act.knobs import knob

            told, plan, cost, warning, reason = knob(look.knob), None, "", None, ""
            try:
                plan = actor.plan(look.knob, look.value)
                if look.note:
                    plan = replace(plan, warnings=(look.note, *plan.warnings))
                cost, warning = actor.cost()
            except QtopError as error:
                if plan is not None:  # it can be looked at, and would be refused when it is to be measured
                    warning = error.message
                reason = f"{look.note}. {error}" if look.note else str(error)
            shown = Shown(look.knob, told.title, plan, cost, warning or "", reason, told.example, look.others)
            app.run_later(lambda: show(shown))

        in_background(work)

    # One change

    def _apply(self, plan: Plan) -> None:
        app, actor = self._app, self._free()
        if actor is None:
            return
        name = f"{plan.knob} {plan.value}"
        self._begin(plan.knob, Progress(name))

        def change() -> str:
            from qtop.act.transaction import Policy

            hands = self.lending.hands(plan.root)
            outcome = actor.apply(
                [(plan.knob, plan.value)],
                self._hearer(plan.knob),
                policy=Policy(ask=self._asker(actor, name)),
                hands=hands,
                on_event=app.probing.heard,
            )
            app.session.note("change", {"knob": plan.knob, "kept": outcome.kept, "told": outcome.text})
            return f"{plan.knob} {outcome.text}" + ("   u undoes it" if outcome.kept else "")

        self._carry_out(change, self._done)

    def _carry_out(self, job: Callable[[], str], ended: Callable[[str], None]) -> None:
        """Do it beside the screen; what came of it, or went wrong, in one line for ``ended`` on the UI thread."""

        def work() -> None:
            try:
                text = job()
            except QtopError as error:
                text = self._line(error)
            except Exception as error:  # a fault of qtop's own: what is not put back, the journal tells
                text = f"internal error: {type(error).__name__}: {error}"
            self._app.run_later(lambda: ended(text))

        in_background(work)

    def _hearer(self, knob: str) -> Callable[[str, str], None]:
        """Who takes a transaction's steps, on its thread."""

        def say(step: str, text: str) -> None:
            def show() -> None:
                if self.progress is not None:
                    self.progress.step(step, text)
                self._set_busy(f"{knob}: {text}")

            self._app.run_later(show)

        return noting(self._app.session, knob, say)

    def _asker(self, actor: Actor, name: str) -> Callable[[Judgement], bool]:
        """Who asks whether a change without an effect is to stay; blocks the transaction's thread."""
        app = self._app

        def ask(judgement: Judgement) -> bool:
            answered = threading.Event()
            answers: list[bool] = []

            def take(answer: bool | None) -> None:
                answers.append(bool(answer))
                answered.set()

            dialog = KeepDialog(app.look, name, judgement.text)
            app.run_later(lambda: self._show_asking(dialog, take))
            while not answered.wait(LOOK_S):
                if actor.cancelling or not app.is_running:
                    app.run_later(lambda: self._forget(dialog))
                    return False
            return answers[0]

        return ask

    @staticmethod
    def _forget(dialog: KeepDialog) -> None:
        if dialog.is_current:
            dialog.dismiss(False)

    def _show_asking(self, dialog: KeepDialog, take: Callable[[bool | None], None]) -> None:
        if self.progress is not None:
            self.progress.step("ask", "waiting for an answer")
        self._app.push_screen(dialog, take)

    def _begin(self, what: str, progress: Progress) -> None:
        self.progress = progress
        self._set_busy(f"{what} …")
        self._app.probing.state = ProbeState()

    def _line(self, error: QtopError) -> str:
        """What went wrong and what to do about it; the first alone where the row has no room for both."""
        text = str(error)
        return text if width_of(text) <= self._app.size.width - 2 else error.message

    def _set_busy(self, text: str) -> None:
        self._busy = text
        self._app.say(text)
        self._app.redraw()

    def _done(self, text: str) -> None:
        self._busy, self.progress = "", None
        self.done += 1
        self.lending.over()
        self._app.probing.state.running = False
        self._app.say(text)
        self._app.redraw()

    def cancel(self) -> None:
        """Stop the change under way: its old values come back."""
        actor = self._app.session.actor
        if actor is not None and actor.busy:
            if self.progress is not None:
                self.progress.cancelling = True
            self._app.say("cancelling; the old values come back")
            self._app.redraw()
            in_background(actor.cancel)

    # Back again

    def undo(self, txn: str | None = None) -> None:
        """Put the latest change back, or the one named."""
        app, actor = self._app, self._app.session.actor
        if actor is None:
            app.say(app.session.no_actor)
            return
        if actor.busy or self._busy:
            app.say("a change is under way: Esc cancels it")
            return
        self._set_busy("putting it back …")

        def put_back() -> str:
            wanted = [one for one in actor.in_force() if txn in (None, one.txn)][:1]
            root = any(part.root for change in wanted for part in change.parts)
            done = actor.undo(self.lending.hands(root), self._hearer("undo"), txn)
            app.session.note("undo", {"knob": done.knob, "restored": done.restored})
            return done.text

        self._carry_out(put_back, self._done)

    # Several

    def tune(self, wishes: Sequence[Wish] = ()) -> None:
        """Try these one by one, else what the findings propose now, after a look at the list."""
        app, actor = self._app, self._free()
        shown = app.playback.shown
        if actor is None or shown is None:
            return
        named = list(wishes) or [(remedy.knob, None) for _, remedy in numbered(shown.findings)]
        if not named:
            app.say("no finding proposes a change now; x marks a knob to try")
            return

        def work() -> None:
            plans: list[Plan] = []
            refused: list[str] = []
            for name, value in named:
                try:
                    plans.append(actor.plan(name, value))
                except QtopError as error:
                    refused.append(f"not {name}: {error.message}")
            app.run_later(lambda: self._confirm(plans, refused))

        in_background(work)

    def _confirm(self, plans: Sequence[Plan], refused: Sequence[str]) -> None:
        app = self._app
        if not plans:
            app.say(refused[0] if refused else "there is nothing to try")
            return
        told = [f"{number}  {plan.knob}: {plan.summary}" for number, plan in enumerate(plans, 1)]
        told += refused
        told += [f"careful: {warning}" for plan in plans for warning in plan.warnings]
        told += ["", "One by one, each measured: kept if the server gets better, else put back. Esc stops it."]

        def answered(go: bool | None) -> None:
            if go:
                self._tune(plans)
            else:
                app.say("nothing was changed")

        count = "it" if len(plans) == 1 else f"these {len(plans)}"
        app.push_screen(ConfirmDialog(app.look, "Tune", told, f"try {count}"), answered)

    def _tune(self, plans: Sequence[Plan]) -> None:
        app, actor = self._app, self._free()
        if actor is None:
            return
        names = [f"{plan.knob} {plan.value}" for plan in plans]
        self._begin("tuning", Progress(names[0], f"1 of {len(names)}"))

        report = ""

        def try_all() -> str:
            from qtop.act.documents import tuned_document
            from qtop.act.tuning import Tuned, tune
            from qtop.report.changes import tuned_text

            def stepped(tuned: Tuned) -> None:
                at = len(tuned.steps)
                note_tried(app.session, tuned.steps[-1])

                def show() -> None:
                    if self.progress is not None and at < len(names):
                        self.progress.next(names[at], f"{at + 1} of {len(names)}")

                app.run_later(show)

            nonlocal report
            hands = self.lending.hands(any(plan.root for plan in plans))
            wishes: list[Wish] = [(plan.knob, plan.value) for plan in plans]
            tuned = tune(actor, wishes, self._hearer("tuning"), None, hands, app.probing.heard, stepped)
            report = tuned_text(tuned_document(tuned))
            text = report.splitlines()[0]
            app.session.note("tune", {"kept": len(tuned.kept), "told": text})
            return text

        self._carry_out(try_all, lambda text: self._tuned(text, report))

    def _tuned(self, text: str, report: str) -> None:
        self._done(text)
        if report and not isinstance(self._app.screen, PageDialog):
            self._app.push_screen(PageDialog(f"# Tuned\n\n```\n{report}\n```"))
