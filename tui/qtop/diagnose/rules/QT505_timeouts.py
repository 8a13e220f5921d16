"""QT505: requests end because somebody gave up waiting."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.requests import PROBE, WRONG, own_of, requests_of, share
from qtop.model.frame import Frame
from qtop.model.requests import RequestsView, ServedView
from qtop.sample import Absent, PromptEnds
from qtop.units import percent

AT = 0.10
LEAST = 2.0
"""Requests of all clients that were given up: a single one may have ended between the readings of two counters."""


class Timeouts(Rule):
    """Share of requests of the last two minutes that were given up before their answer had ended, 0–1."""

    id = "QT505"
    title = "time-outs"
    enter = (Enter(Severity.WARNING, at=AT, seconds=3.0, of=5.0),)
    clear = Clear(below=0.05, seconds=5.0)

    def look(self, frame: Frame) -> Answer:
        """qtop's own that timed out, and those of all clients that hung up; the larger share."""
        view = requests_of(frame)
        if isinstance(view, CannotTell):
            return view
        own, served = own_of(view), view.served
        if isinstance(own, CannotTell):
            if isinstance(served.given_up, Absent):
                return own
            own = PromptEnds()
        value = max(_share(served), share(own.timed_out, own.ended))
        return Observed(value, lambda: _told(view, own, served, value), impact=WRONG * value, figure="")


RULE = Timeouts()


def _share(served: ServedView) -> float:
    if isinstance(served.given_up, Absent) or isinstance(served.answered, Absent) or served.given_up < LEAST:
        return 0.0
    return served.given_up / max(served.answered, served.given_up)


def _told(view: RequestsView, own: PromptEnds, served: ServedView, value: float) -> Told:
    lines = [
        Evidence("test prompts that timed out", float(own.timed_out), "requests", None, PROBE),
        Evidence("test prompts that ended", float(own.ended), f"in {view.seconds:.0f} s"),
    ]
    if not isinstance(served.given_up, Absent) and not isinstance(served.answered, Absent):
        source = "http_requests_total{2xx} less vllm:request_success_total, and its aborts"
        lines.append(Evidence("given up by their clients", served.given_up, "requests of all clients", LEAST, source))
        lines.append(Evidence("answered", served.answered, f"requests in {view.seconds:.0f} s"))
    lines.append(Evidence("the larger share", value, "of requests", AT, "qtop's choice: one in ten"))
    if not value:
        return Told("", tuple(lines))
    if own.ended and share(own.timed_out, own.ended) >= _share(served):
        what = f"REQUESTS TIME OUT: {percent(value)} of test prompts were given up"
    else:
        what = f"CLIENTS HANG UP on {percent(value)} of requests before the answer ends"
    return Told(
        f"{what} — stream answers, or wait longer than they take",
        tuple(lines),
        reason="people who press stop look the same; what slows the server is in the other findings; a proxy's "
        "time-out ends what does not stream first",
    )
