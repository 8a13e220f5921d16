"""Root's helper for the dashboard: without a word where that can be, else the password is asked for on the real
terminal while the screen stands aside. The helper is kept for a while, so that a change can be undone as it was made.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported
from textual.timer import Timer

from qtop.errors import QtopError, Refused

if TYPE_CHECKING:
    from qtop.act.hands import Hands
    from qtop.ui.app import QtopApp

KEPT_S = 300.0
"""After its last change or undo; sudo itself remembers for about as long."""
WAIT_S = 0.5


class Lending:
    """Who makes the dashboard's changes. ``hands`` is for the thread that makes them, the rest for the screen's."""

    def __init__(self, app: QtopApp) -> None:
        self._app = app
        self._hands: Hands | None = None
        self._timer: Timer | None = None

    def hands(self, root: bool) -> Hands:
        """Those that can do it; blocks while a password is typed. Refused, in one line, where they cannot be had."""
        from qtop.act.hands import Hands

        self._app.run_later(self._stay)
        if not root or os.geteuid() == 0:
            return Hands(interactive=False)
        if self._hands is None:
            self._hands = self._quiet() or self._asked()
        return self._hands

    @staticmethod
    def _quiet() -> Hands | None:
        """Those that ask nobody; None where somebody has to be asked. pkexec would ask across the screen."""
        from qtop.act.hands import Hands

        if shutil.which("sudo") is None:
            return None
        hands = Hands(interactive=False)
        try:
            hands.ready()
        except Refused:
            return None
        return hands

    def _asked(self) -> Hands:
        from qtop.act.hands import elevation

        elevation(interactive=True)  # nobody is asked to look at an empty terminal where there is no sudo
        answer: queue.SimpleQueue[Hands | QtopError] = queue.SimpleQueue()
        self._app.run_later(lambda: answer.put(self._lend()))
        while True:
            try:
                got = answer.get(timeout=WAIT_S)
            except queue.Empty:
                if not self._app.is_running:
                    raise Refused("qtop is leaving", "Nothing was changed.") from None
                continue
            if isinstance(got, QtopError):
                raise got
            return got

    def _lend(self) -> Hands | QtopError:
        """Stand aside while the password is typed."""
        from qtop.act.hands import Hands

        hands = Hands(interactive=True)
        try:
            with self._app.suspend():
                # A Ctrl-C at the prompt is sudo's: it must not end the dashboard. Handlers, unlike SIG_IGN, are not
                # inherited by sudo.
                old = signal.signal(signal.SIGINT, lambda *_: None)
                try:
                    print(
                        "qtop: this change takes root; Ctrl-C leaves everything as it is",
                        file=sys.__stdout__,
                        flush=True,
                    )
                    hands.ready()
                except QtopError as error:
                    return error
                finally:
                    signal.signal(signal.SIGINT, old)
        except SuspendNotSupported:
            return Refused(
                "this terminal cannot be lent to ask for a password", "Nothing was changed. Run qtop as root."
            )
        return hands

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def over(self) -> None:
        """What it was wanted for has ended: let go of it after a while."""
        self._stay()
        if self._hands is not None:
            self._timer = self._app.set_timer(KEPT_S, self.close)

    def close(self) -> None:
        """Let the helper end."""
        hands, self._hands = self._hands, None
        if hands is not None:
            hands.close()
