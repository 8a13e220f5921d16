"""``qtop plan --screen``: the dashboard, the plan shown first."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qtop.act.plan_here import Asked
from qtop.config import Settings
from qtop.errors import QtopError
from qtop.session import Session
from qtop.verbs.dashboard import look_of, need_terminal, run_app
from qtop.verbs.live import make_session

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp

INSTEAD = "`qtop plan` without --screen works without one"


def plan_screen(args: argparse.Namespace, settings: Settings, asked: Asked) -> int:
    """The screen, on this host or with ``--from`` beside the server of a recording.

    Errors: QtopError for a model, card or file that is not known, and for what is no matter of a screen."""
    for name in ("json", "write", "measure", "scenario"):
        if getattr(args, name):
            raise QtopError(f"--{name} is not for --screen", "Leave one of them out.")
    need_terminal(INSTEAD)
    asked.check()
    look = look_of(args, settings)

    def prepare(app: QtopApp) -> None:
        app.planning.ask(asked, args.vllm)
        app.first_screen = "plan"

    if args.source:
        from qtop.source.replay import ReplaySource

        source = ReplaySource(Path(args.source))
        return run_app(Session(source), settings, look, None, lambda count: None,
                       prepare=prepare)  # fmt: skip
    session, live = make_session(args, settings)
    return run_app(session, settings, look, None, live.count_tty,
                   prepare=prepare)  # fmt: skip
