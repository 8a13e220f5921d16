"""The one line on row 2: what holds the server back, or an honest word that nothing is seen to."""

from __future__ import annotations

from collections.abc import Iterable

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Severity, State
from qtop.model.frame import EngineView, Frame
from qtop.sample import Absent, unanswered

CLEARLY, LITTLE = 1.25, 0.02
"""A finding takes the verdict from another when it explains a quarter more, and two hundredths of a request's time."""
FEW = 3
"""So many rules that cannot tell are named in a verdict; more are counted."""


def verdict(frame: Frame, findings: tuple[Finding, ...], held: str | None = None) -> Verdict:
    """The finding that explains most of a request's time; without one, what is missing before all could be called
    well, and what the limit is when all is. ``held``: the rule of the verdict before, which keeps its place against
    one that explains hardly more."""
    firing = [finding for finding in findings if finding.state is State.FIRING]
    first = leading(firing, held)
    if first is not None:
        return Verdict(first.rule, first.headline, first.severity)
    if isinstance(frame.server, Absent):
        return Verdict(None, frame.server.detail or "No server found")
    if isinstance(frame.engine, Absent) and unanswered(frame.engine):
        return Verdict(None, f"The server does not answer: {frame.engine}")
    return _nothing(frame, findings, firing)


def leading(firing: Iterable[Finding], held: str | None = None) -> Finding | None:
    """Of firing findings the one that the verdict is about: a cause before its consequences, then the largest share
    of a request's time, then the worst; None where no warning fires. That of ``held`` stays unless another explains
    clearly more: two of the same size must not take turns on the screen."""
    faults = [one for one in firing if one.severity.rank >= Severity.WARNING.rank]
    if not faults:
        return None
    from qtop.diagnose.registry import BY_ID

    explained = {other for one in faults for other in BY_ID[one.rule].explains}
    # Two that explain each other: neither may hide the other.
    causes = [one for one in faults if one.rule not in explained] or faults
    first = min(causes, key=lambda one: (-one.impact, -one.severity.rank, one.rule))
    before = next((one for one in causes if one.rule == held), None)
    if before is None or before.severity.rank < first.severity.rank:
        return first
    return before if first.impact <= before.impact * CLEARLY + LITTLE else first


def _nothing(frame: Frame, findings: tuple[Finding, ...], firing: list[Finding]) -> Verdict:
    """No finding: how much was checked, what could not be, what the limit is."""
    checked = [one for one in findings if one.state is State.CLEAR or one.state is State.FIRING]
    unknown = [one for one in findings if one.state is State.CANNOT_TELL]
    if not checked:
        if unknown:
            return Verdict(None, f"Cannot tell: {unknown[0].reason} ({unknown[0].rule} {unknown[0].title})")
        return Verdict(None, "Nothing to check on this server")
    plural = "check" if len(checked) == 1 else "checks"
    told = f"{len(checked)} {plural} clear{_cannot(unknown)}"
    return Verdict(None, f"Nothing that qtop checks holds the server back ({told}){_limit(frame, firing)}")


def _cannot(unknown: list[Finding]) -> str:
    if not unknown:
        return ""
    if all(one.watching for one in unknown):
        return f"; {len(unknown)} not watched for long enough yet"
    if len(unknown) <= FEW:
        return f"; cannot tell {', '.join(one.rule for one in unknown)}"
    return f"; cannot tell {len(unknown)}"


def _limit(frame: Frame, firing: list[Finding]) -> str:
    """What bounds the server when nothing is wrong, as the rest of a sentence."""
    from qtop.diagnose.registry import BY_ID

    limits = [one for one in firing if BY_ID[one.rule].limit]
    if limits:
        return f"; the limit: {max(limits, key=lambda one: one.value).headline}"
    engine = frame.engine
    if not isinstance(engine, EngineView) or isinstance(engine.running, Absent):
        return ""
    waiting = 0.0 if isinstance(engine.waiting, Absent) else engine.waiting
    if engine.running <= 0 and waiting <= 0:
        return "; it is idle"
    return "; its clients set the pace" if waiting <= 0 else ""
