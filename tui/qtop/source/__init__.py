"""Where samples come from: a live host or a recording. Nothing above this package knows which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qtop.sample import Sample

OnSample = Callable[[Sample], None]


class Source(Protocol):
    """Yields samples in order, on a thread of its own."""

    @property
    def live(self) -> bool:
        """False for a recording: then nothing can be acted on."""
        ...

    @property
    def interval(self) -> float:
        """Seconds between samples."""
        ...

    @property
    def failure(self) -> str:
        """What went wrong inside qtop while a sample was taken in, "" for nothing."""
        ...

    def start(self, on_sample: OnSample) -> None:
        """Begin; ``on_sample`` is called from the source's thread."""
        ...

    def stop(self) -> None:
        """End; no call of ``on_sample`` begins after this returns."""
        ...
