"""The one who acts: plans, applies and undoes changes on the live server. A session on a recording has none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qtop.act.change import Knob, Plan
from qtop.act.journal import Change, Journal
from qtop.act.knobs import KNOBS, knob
from qtop.act.meter import REQUESTS, TOKENS, WARMUP, ProbeMeter
from qtop.act.transaction import Outcome, Say, Undone, run, undo
from qtop.errors import Refused
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.prompts import ENGLISH
from qtop.probe.runner import plan_text
from qtop.sample import ServerInfo

MakeRequest = Callable[[str, int, int, int], ProbeRequest]
"""(prompt, max_tokens, requests, warmup) → a request for the attached server; Unreachable without one."""


class Actor:
    """Applies one change at a time. ``frame()`` gives the latest frame, ``request`` builds test prompts."""

    def __init__(self, frame: Callable[[], Frame | None], request: MakeRequest) -> None:
        self._frame = frame
        self._request = request
        self._busy = threading.Lock()
        self._meter: ProbeMeter | None = None

    def now(self) -> Frame:
        """The latest frame; Refused before the first."""
        frame = self._frame()
        if frame is None:
            raise Refused("nothing was read yet", "Wait a second.")
        return frame

    def plan(self, name: str, value: str | None = None) -> Plan:
        """What a change would do, without doing it."""
        return knob(name).plan(self.now(), value)

    def knobs(self) -> tuple[Knob, ...]:
        """All knobs."""
        return tuple(KNOBS.values())

    def cost(self) -> tuple[str, str | None]:
        """What measuring the change will send, before and after, and a warning when the server is saturated."""
        request = self._measuring()
        frame = self.now()
        running = waiting = cap = None
        if isinstance(frame.engine, EngineView):
            running, waiting = _int(frame.engine.running), _int(frame.engine.waiting)
        if isinstance(frame.server, ServerInfo):
            cap = _int(cap_of(frame))
        text, warning = plan_text(request, running, waiting, cap)
        return f"measured with test prompts before and after: each time {text}", warning

    def _measuring(self) -> ProbeRequest:
        return self._request(ENGLISH, TOKENS, REQUESTS, WARMUP)

    def apply(
        self,
        name: str,
        value: str | None,
        say: Say,
        measure: bool = True,
        keep_anyway: bool = False,
        on_event: Callable[[ProbeEvent], None] | None = None,
    ) -> Outcome:
        """Make a change as a transaction; blocks for the measurements. Refused while another is under way."""
        if not self._busy.acquire(blocking=False):
            raise Refused("a change is under way", "Wait for it to end.")
        try:
            target = knob(name)
            self._meter = ProbeMeter(self._measuring(), on_event) if measure else None
            return run(target, lambda: target.plan(self.now(), value), self._meter, say, keep_anyway)
        finally:
            self._meter = None
            self._busy.release()

    @property
    def busy(self) -> bool:
        """A change is under way."""
        return self._busy.locked()

    def cancel(self, timeout: float = 5.0) -> None:
        """Cancel a change under way and wait until its old values are back."""
        meter = self._meter
        if meter is not None:
            meter.cancel()
        if self._busy.acquire(timeout=timeout):
            self._busy.release()

    def undo(self) -> Undone:
        """Put the latest change back."""
        if self.busy:
            raise Refused("a change is under way", "Wait for it to end.")
        return undo()

    def in_force(self) -> list[Change]:
        """Changes that undo would find, the latest first."""
        return Journal().in_force()


def _int(reading: object) -> int | None:
    return int(reading) if isinstance(reading, (int, float)) else None
