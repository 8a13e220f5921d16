"""What QT501 to QT505 share: how requests ended lately, or why that is not known and how to get it."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.model.frame import Frame
from qtop.model.requests import RequestsView
from qtop.sample import Absent, PromptEnds, Why

PROBE = "qtop's own test prompts (p, or qtop probe)"
BODY = "qtop probe --body FILE"
_NO_PROMPT = CannotTell("no test prompt yet: send one with p, or one of yours with qtop probe --body FILE")
_NOT_RECORDED = CannotTell("how test prompts ended is not in this recording")
_NO_SERVER = CannotTell("no server")


WRONG = 0.1
"""Impact of what makes answers wrong or late without slowing the server: of a request's time it explains nothing that
can be measured, so it leads over facts that slow nothing and gives way to whatever slows requests noticeably."""


ANY = (Enter(Severity.WARNING, at=0.01, seconds=2.0, of=3.0),)
"""A warning soon after the first that is seen, but for a stray one among more than a hundred."""
NONE = Clear(below=0.005, seconds=3.0)
"""Clear once none is left in the window."""


def requests_of(frame: Frame) -> RequestsView | CannotTell:
    """The view, or that there is no server."""
    if isinstance(frame.server, Absent) and frame.server.why is not Why.NOT_RECORDED:
        return CannotTell(frame.server.detail) if frame.server.detail else _NO_SERVER
    return CannotTell(str(frame.requests)) if isinstance(frame.requests, Absent) else frame.requests


def own_of(view: RequestsView) -> PromptEnds | CannotTell:
    """How qtop's test prompts of the window ended; one must have been sent since qtop's start."""
    if isinstance(view.own, Absent):
        return _NOT_RECORDED
    return view.own if view.ever else _NO_PROMPT


def sent(own: PromptEnds, view: RequestsView) -> Evidence:
    """The test prompts that a count is of."""
    return Evidence("test prompts that ended", float(own.ended), f"in {view.seconds:.0f} s", None, PROBE)


def share(count: float, whole: float) -> float:
    """Of requests, 0–1; 0 where there were none."""
    return min(1.0, count / whole) if whole > 0 else 0.0


def times(count: float, one: str, many: str) -> str:
    """``1 answer``, ``3 answers``."""
    return f"{count:.0f} {one if count == 1 else many}"


class FaultyPrompts(Rule):
    """Share of the test prompts of the last two minutes that have a fault which only they tell, 0–1."""

    enter = ANY
    clear = NONE

    def faulty(self, own: PromptEnds) -> int:
        """How many have it."""
        raise NotImplementedError

    def told(self, view: RequestsView, own: PromptEnds) -> Told:
        """In words."""
        raise NotImplementedError

    def look(self, frame: Frame) -> Answer:
        """Of those that ended."""
        view = requests_of(frame)
        if isinstance(view, CannotTell):
            return view
        own = own_of(view)
        if isinstance(own, CannotTell):
            return own
        value = share(self.faulty(own), own.ended)
        return Observed(value, lambda: self.told(view, own), impact=WRONG if value else 0.0, figure="")
