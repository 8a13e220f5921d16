"""Tuning: every knob with its value now and the one proposed, and below them what was changed and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from qtop.errors import QtopError
from qtop.ui.commands import in_background
from qtop.ui.look import Line
from qtop.ui.panels import title
from qtop.ui.panels.header import Key
from qtop.ui.panels.tuning import KNOB, TXN, change_foot, change_items, offer_foot, offer_items, refused_items
from qtop.ui.screens.base import View
from qtop.ui.screens.chooser import ChooserScreen, Item
from qtop.ui.screens.dialogs import PageDialog

LOOK_S = 5.0
"""Between two looks at what is possible: each reads /proc for every knob."""
LEAST_FOR_FOOT = 34
"""Rows of a terminal from which what is chosen stands under the list in short."""
MOST = 100
"""Changes that are listed, the latest."""

Document = Mapping[str, Any]


class TuningScreen(ChooserScreen):
    """Up and down choose a knob or a change."""

    NAME = "tuning"
    KEYS: ClassVar[tuple[Key, ...]] = (
        ("↑↓", "choose", "screen.scroll(1)"),
        ("enter", "preview", "screen.open"),
        ("x", "mark", "screen.mark"),
        ("a", "try them", "screen.tune"),
        ("u", "undo", "screen.undo_chosen"),
        ("o", "overview", "app.show('overview')"),
        ("F", "findings", "app.show('findings')"),
        ("^p", "commands", "app.command_palette"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "mark", "Mark to try"),
        Binding("a", "tune", "Try the marked, or what findings propose"),
        Binding("u", "undo_chosen", "Undo this change"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._offers: Sequence[Document] = ()
        self._changes: Sequence[Document] = ()
        self._marked: list[str] = []
        self._looked, self._done = 0.0, -1
        self._looking = False
        self._failed = ""
        self._t = 0.0

    def draw_body(self, view: View) -> None:
        """Look again now and then, and at once when a change ended."""
        self._t = view.snapshot.frame.t
        self._look_again(view)
        super().draw_body(view)

    def _look_again(self, view: View) -> None:
        app, actor = self.qtop, self.qtop.session.actor
        stale = time.monotonic() - self._looked >= LOOK_S or self._done != app.changes.done
        if actor is None or self._looking or not stale or app.changes.busy_text:
            return
        self._looking, self._done = True, app.changes.done
        findings = view.snapshot.findings

        def work() -> None:
            from qtop.act.documents import change_document, offer_document

            offers, changes, failed = self._offers, self._changes, ""
            try:
                offers = [offer_document(one) for one in actor.survey(findings)]
                changes = [change_document(one) for one in actor.changes()[-MOST:]]
            except QtopError as error:
                failed = str(error)
            app.run_later(lambda: self._take(offers, changes, failed))

        in_background(work)

    def _take(self, offers: Sequence[Document], changes: Sequence[Document], failed: str) -> None:
        self._offers, self._changes, self._failed = offers, changes, failed
        self._looking, self._looked = False, time.monotonic()
        possible = {one["knob"] for one in offers if one["possible"]}
        self._marked = [name for name in self._marked if name in possible]
        self.qtop.redraw()

    def names(self, view: View) -> Sequence[str]:
        """Knobs that could be turned, changes, the other knobs."""
        possible, others = self._split()
        changes = [TXN + one["txn"] for one in reversed(self._changes)]
        return [*(KNOB + one["knob"] for one in possible), *changes, *(KNOB + one["knob"] for one in others)]

    def _split(self) -> tuple[list[Document], list[Document]]:
        """What is possible, and what is not."""
        return [one for one in self._offers if one["possible"]], [one for one in self._offers if not one["possible"]]

    def items(self, view: View, width: int) -> Sequence[Item]:
        """As ``names``, each block under its heading."""
        if not self._looked:
            return []
        possible, others = self._split()
        return [
            *offer_items(self.look, possible, self._marked, width),
            *change_items(self.look, self._changes, self._t, width),
            *refused_items(self.look, others, width),
        ]

    def head(self, view: View, width: int) -> Sequence[Line]:
        """What this is, or why there is nothing."""
        session = self.qtop.session
        if session.actor is None:
            note = session.no_actor
        elif self._failed:
            note = self._failed
        elif not self._looked:
            note = "looking what is possible …"
        else:
            note = f"{sum(bool(one['possible']) for one in self._offers)} possible now"
        return [title(self.look, f"Tuning: {note}", width), ()]

    def foot(self, view: View, width: int) -> Sequence[Line]:
        """The chosen one in short, where there is room."""
        if self.size.height < LEAST_FOR_FOOT:
            return ()
        offer, change = self._offer(self.chosen), self._change(self.chosen)
        if offer is not None:
            return offer_foot(self.look, offer, width)
        return change_foot(self.look, change, width) if change is not None else ()

    def _offer(self, name: str) -> Document | None:
        return next((one for one in self._offers if KNOB + one["knob"] == name), None)

    def _change(self, name: str) -> Document | None:
        return next((one for one in self._changes if TXN + one["txn"] == name), None)

    def open(self, name: str) -> None:
        """Preview a knob; all values of a change."""
        if name.startswith(KNOB):
            self.qtop.changes.preview_knob(name.removeprefix(KNOB))
        else:
            self._open_change(name.removeprefix(TXN))

    def _open_change(self, txn: str) -> None:
        app, actor = self.qtop, self.qtop.session.actor
        if actor is None:
            return

        def work() -> None:
            from qtop.act.documents import change_document, values_document
            from qtop.report.changes import change_text

            try:
                change = next((one for one in actor.changes() if one.txn == txn), None)
            except QtopError as error:
                told = str(error)
                app.run_later(lambda: app.say(told))
                return
            if change is not None:
                text = change_text(change_document(change), values_document(change))
                app.run_later(lambda: self._show(text))

        in_background(work)

    def _show(self, text: str) -> None:
        if self.is_current:
            self.qtop.push_screen(PageDialog(f"```\n{text}\n```"))

    def action_mark(self) -> None:
        """Try this one with ``a``, or not."""
        if self.qtop.session.actor is None:
            self.qtop.say(self.qtop.session.no_actor)
            return
        offer = self._offer(self.chosen)
        if offer is None or not offer["possible"]:
            self.qtop.say("only what is possible now can be marked")
            return
        name = offer["knob"]
        if name in self._marked:
            self._marked.remove(name)
        else:
            self._marked.append(name)
        self.qtop.redraw()

    def action_tune(self) -> None:
        """Those that are marked, else those that findings propose."""
        self.qtop.changes.tune([(name, None) for name in self._marked])

    def action_undo_chosen(self) -> None:
        """The chosen change; the latest where a knob is chosen."""
        change = self._change(self.chosen)
        if change is None:
            self.qtop.changes.undo()
        elif change["state"] == "closed":
            self.qtop.say("this change was put back already")
        else:
            self.qtop.changes.undo(change["txn"])
