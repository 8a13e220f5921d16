"""The one who acts: plans, applies and undoes changes on the live server. A session on a recording has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from qtop.act.change import Knob, Plan
from qtop.act.hands import Hands
from qtop.act.journal import Change, Journal
from qtop.act.knobs import OFFERED, knob
from qtop.act.knobs.lasting import LASTING, plan_lasting
from qtop.act.meter import MOST, REQUESTS, TOKENS, WARMUP, Block, ProbeMeter
from qtop.act.proof import Judgement
from qtop.act.survey import Offer, survey
from qtop.act.transaction import Ask, Outcome, Policy, Say, run
from qtop.act.undo import Undone, undo
from qtop.diagnose.engine import Finding
from qtop.errors import QtopError, Refused, Unreachable
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.prompts import ENGLISH
from qtop.probe.runner import plan_text
from qtop.sample import Absent, ServerInfo, Why

CHECKED = "a difference is checked by going to and fro"
PATIENCE_S = 4.0
"""For the threads of a server to be read."""
LOOK_S = 0.2
Wish = tuple[str, str | None]
"""A knob's name, and the value wanted; None: what it proposes."""
MakeRequest = Callable[[str, int, int, int], ProbeRequest]
"""(prompt, max_tokens, requests, warmup) → a request for the attached server; Unreachable without one."""


class Actor:
    """Applies one change at a time. ``frame()`` gives the latest frame, ``request`` builds test prompts."""

    def __init__(self, frame: Callable[[], Frame | None], request: MakeRequest) -> None:
        self._frame = frame
        self._request = request
        self._busy = threading.Lock()
        self._cancelled = threading.Event()
        self._meter: ProbeMeter | None = None

    def now(self) -> Frame:
        """The latest frame; Refused before the first."""
        frame = self._frame()
        if frame is None:
            raise Refused("nothing was read yet", "Wait a second.")
        return frame

    def plan(self, name: str, value: str | None = None) -> Plan:
        """What a change would do, without doing it."""
        return self._planned(knob(name), value)

    def plans(self, wishes: Sequence[Wish], persist: bool = False) -> list[Plan]:
        """What a change of several parts would do, in order; with ``persist``, also what makes each last.

        Errors: as ``plan``; Refused where nothing can make one last.
        """
        return [replan() for _, replan in self._asks(wishes, persist)]

    def _asks(self, wishes: Sequence[Wish], persist: bool) -> list[Ask]:
        asks: list[Ask] = []
        for name, value in wishes:
            target = knob(name)
            asks.append((target, partial(self._planned, target, value)))
            if persist:
                asks.append((LASTING, partial(self._lasting, target, value)))
        return asks

    def _planned(self, target: Knob, value: str | None) -> Plan:
        """The plan; a busy host takes a moment for two readings of the threads, and misses one now and then."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return target.plan(self.now(), value)
            except Unreachable:
                if not _to_come(self.now()) or time.monotonic() >= deadline:
                    raise
            time.sleep(LOOK_S)

    def _lasting(self, target: Knob, value: str | None) -> Plan:
        plan = self._planned(target, value)
        file = target.lasting(plan)
        if file is None:
            raise Refused(f"{target.id} cannot be made to last by a file", "Leave out --persist.")
        return plan_lasting(plan, file)

    def knobs(self) -> tuple[Knob, ...]:
        """Those that a user may turn."""
        return OFFERED

    def survey(self, findings: Sequence[Finding]) -> tuple[Offer, ...]:
        """Every knob as it stands now; flags of other servers than this one are left out."""
        frame = self.now()
        return survey([one for one in self.knobs() if one.fits(frame)], self.plan, findings)

    def cost(self) -> tuple[str, str | None]:
        """What measuring the change will send, before and after, and a warning when the server is saturated."""
        request = self._measuring()
        frame = self.now()
        running = waiting = cap = None
        if isinstance(frame.engine, EngineView):
            running, waiting = _int(frame.engine.running), _int(frame.engine.waiting)
        if isinstance(frame.server, ServerInfo):
            cap = _int(cap_of(frame))
        _, warning = plan_text(request, running, waiting, cap)
        sent = f"{WARMUP + REQUESTS} to {WARMUP + MOST} of up to {TOKENS} tokens"
        return f"measured with test prompts, {sent}, without the change and with it; {CHECKED}", warning

    def _measuring(self) -> ProbeRequest:
        return self._request(ENGLISH, TOKENS, REQUESTS, WARMUP)

    def apply(
        self,
        wishes: Sequence[Wish],
        say: Say,
        measure: bool = True,
        policy: Policy | None = None,
        hands: Hands | None = None,
        persist: bool = False,
        on_event: Callable[[ProbeEvent], None] | None = None,
    ) -> Outcome:
        """Make a change as a transaction; blocks for the measurements. Refused while another is under way."""
        if not self._busy.acquire(blocking=False):
            raise Refused("a change is under way", "Wait for it to end.")
        try:
            self._cancelled.clear()
            first = self._measuring() if measure else None
            self._meter = (
                ProbeMeter(lambda: self._measuring_as(first), self.now, on_event) if first is not None else None
            )
            policy = replace(policy or Policy(), cancelled=self._cancelled.is_set)
            return run(self._asks(wishes, persist), self._meter, say, policy, hands=hands)
        finally:
            self._meter = None
            self._busy.release()

    def measure(self, on_event: Callable[[ProbeEvent], None] | None = None) -> Block:
        """Measure the server as it is; blocks. Refused while a change is under way, and where no request succeeds."""
        if not self._busy.acquire(blocking=False):
            raise Refused("a change is under way", "Wait for it to end.")
        try:
            self._cancelled.clear()
            meter = self._meter = ProbeMeter(self._measuring, self.now, on_event)
            return meter.before()
        finally:
            self._meter = None
            self._busy.release()

    @staticmethod
    def compared(before: Block, after: Block) -> Judgement:
        """What two measurements with nothing but changes between them say."""
        return ProbeMeter.compared([before], [after])

    @property
    def cancelling(self) -> bool:
        """What ran last was cancelled."""
        return self._cancelled.is_set()

    def _measuring_as(self, first: ProbeRequest) -> ProbeRequest:
        """The test prompts for the server as it is now; as it was where it is not seen at the moment."""
        try:
            return self._measuring()
        except QtopError:
            return first

    @property
    def busy(self) -> bool:
        """A change is under way."""
        return self._busy.locked()

    def cancel(self, timeout: float = 5.0) -> None:
        """Cancel a change under way and wait until its old values are back."""
        self._cancelled.set()
        meter = self._meter
        if meter is not None:
            meter.cancel()
        if self._busy.acquire(timeout=timeout):
            self._busy.release()

    def undo(self, hands: Hands | None = None, say: Say | None = None, txn: str | None = None) -> Undone:
        """Put the latest change back, or the one named."""
        if self.busy:
            raise Refused("a change is under way", "Wait for it to end.")
        return undo(txn=txn, hands=hands, say=say)

    def changes(self) -> list[Change]:
        """All that the journal tells of, the oldest first."""
        return Journal().changes()

    def in_force(self) -> list[Change]:
        """Changes that undo would find, the latest first."""
        return Journal().in_force()


def _to_come(frame: Frame) -> bool:
    """The server is there, and its threads will be read with one of the next samples."""
    waits = isinstance(frame.sched, Absent) and frame.sched.why in (Why.NOT_YET, Why.STALE)
    return waits and isinstance(frame.server, ServerInfo)


def _int(reading: object) -> int | None:
    return int(reading) if isinstance(reading, (int, float)) else None
