"""The one line on row 2: what holds the server back, or an honest word that nothing is seen to."""

from __future__ import annotations

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import State
from qtop.model.frame import Frame
from qtop.sample import Absent, Why


def verdict(frame: Frame, findings: tuple[Finding, ...]) -> Verdict:
    """The worst firing finding; without one, what is missing before all could be called well."""
    firing = [finding for finding in findings if finding.state is State.FIRING]
    if firing:
        return Verdict(firing[0].rule, firing[0].headline, firing[0].severity)
    if isinstance(frame.server, Absent):
        return Verdict(None, frame.server.detail or "No server found")
    if isinstance(frame.engine, Absent) and frame.engine.why is Why.LOST:
        return Verdict(None, f"The server does not answer: {frame.engine}")
    checked = [finding for finding in findings if finding.state is State.CLEAR]
    unknown = [finding for finding in findings if finding.state is State.CANNOT_TELL]
    if checked:
        plural = "check" if len(checked) == 1 else "checks"
        rest = f"; cannot tell {', '.join(one.rule for one in unknown)}" if unknown else ""
        return Verdict(None, f"Nothing that qtop checks holds the server back ({len(checked)} {plural} clear{rest})")
    if unknown:
        return Verdict(None, f"Cannot tell: {unknown[0].reason} ({unknown[0].rule} {unknown[0].title})")
    return Verdict(None, "Nothing to check on this server")
