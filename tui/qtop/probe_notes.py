"""What a recording keeps of a test: the figures of each request that ended, and those that were cut short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from qtop.clock import wall
from qtop.probe.messages import ProbeEvent, ProbeRequest


class Note(Protocol):
    """Puts an event into the recording, if there is one."""

    def __call__(self, kind: str, data: dict[str, object]) -> None: ...


class ProbeNotes:
    """Feed it the events of one test. ``prompts`` says whether the recording keeps what is asked and answered."""

    def __init__(self, request: ProbeRequest, note: Note, prompts: Callable[[], bool]) -> None:
        self._request, self._note, self._prompts = request, note, prompts
        self._sent: dict[int, float] = {}
        """Unix times at which those under way began."""
        self._answers: dict[int, list[str]] = {}

    def take(self, event: ProbeEvent) -> None:
        """One event of the prober."""
        if event.kind == "started" and not event.warmup:
            self._sent[event.i] = wall()
        elif event.kind == "end" and self._sent:
            told = f"{len(self._sent)} of the test prompts cut short"
            self._note("probe-cut", {"started": min(self._sent.values()), "told": told})
        elif event.kind == "done" and event.result is not None:
            self._sent.pop(event.i, None)
            answer = "".join(self._answers.pop(event.i, ()))  # "": not followed
            texts = {"prompt": self._request.prompt, "answer": answer} if self._prompts() else {}
            self._note("probe", {**msgspec.to_builtins(event.result), **texts})
        elif event.kind == "delta" and self._prompts():
            self._answers.setdefault(event.i, []).append(event.text)
