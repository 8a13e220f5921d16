"""From the sampler's thread to the screen: the latest snapshot wins, and at most one call waits.

A terminal that nobody reads stops the UI thread in its write; samplers go on, and nothing piles up here.
"""

from __future__ import annotations

from collections.abc import Callable

from qtop.session import Snapshot


class Bridge:
    """Hands snapshots to ``show``; ``run_later`` brings a call to the screen's thread."""

    def __init__(self, run_later: Callable[[Callable[[], None]], None], show: Callable[[Snapshot], None]) -> None:
        self._run_later = run_later
        self._show = show
        self._latest: Snapshot | None = None
        self._pending = False
        self._closed = False

    def put(self, snapshot: Snapshot) -> None:
        """Called on the sampler's thread."""
        self._latest = snapshot
        if not self._pending and not self._closed:
            self._pending = True
            self._run_later(self._deliver)

    def close(self) -> None:
        """Deliver nothing more."""
        self._closed = True

    def _deliver(self) -> None:
        self._pending = False
        if self._latest is not None and not self._closed:
            self._show(self._latest)
