#!/usr/bin/env python3
"""The floor that bench.py compares with: a Textual app of two lines, of which one changes once a second."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Static


class Floor(App[None]):
    """Shows for how many seconds it has run."""

    BINDINGS = [("q", "quit", "Quit")]  # noqa: RUF012 - Textual's own form

    def compose(self) -> ComposeResult:
        """Two lines."""
        yield Static("floor")
        yield Static("run   0 %", id="count")

    def on_mount(self) -> None:
        """Once a second, as qtop does."""
        self._count = 0
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        self._count += 1
        self.query_one("#count", Static).update(f"run {self._count % 100:3d} %")


if __name__ == "__main__":
    Floor().run()
