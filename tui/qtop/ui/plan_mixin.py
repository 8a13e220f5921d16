"""Gives a Textual App the plan and what starts it, loaded when they are first asked for: a dashboard begins without."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

    from qtop.ui.launching import Launching
    from qtop.ui.planning import Planning

    _Base = App[None]
else:
    _Base = object


class PlanMixin(_Base):
    """``class QtopApp(PlanMixin, App[None])``."""

    first_screen = ""
    """A screen to show instead of the overview when the app begins."""

    @cached_property
    def planning(self) -> Planning:
        """The plan of this session."""
        from qtop.ui.planning import Planning

        return Planning(self)  # type: ignore[arg-type]

    @cached_property
    def launching(self) -> Launching:
        """What writes and starts it."""
        from qtop.ui.launching import Launching

        return Launching(self)  # type: ignore[arg-type]
