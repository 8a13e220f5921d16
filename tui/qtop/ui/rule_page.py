"""The page of a rule as it is shown: what it says now with its evidence, what it saw in the last minutes, the text."""

from __future__ import annotations

from qtop.diagnose.engine import Finding
from qtop.diagnose.registry import BY_ID, page
from qtop.diagnose.rule import State
from qtop.report.plot import line_plot, share_plot
from qtop.report.text import WORDS, episodes_text, evidence_text
from qtop.session import Session, Snapshot
from qtop.units import duration

ROWS = 12
"""Of the chart."""


def rule_page(session: Session, shown: Snapshot | None, rule: str, width: int) -> tuple[str, str, str]:
    """Markdown, the chart ("" where too little was seen), and what is drawn in it; KeyError for an unknown rule."""
    text = page(rule)
    finding = None if shown is None else next((one for one in shown.findings if one.rule == rule), None)
    if finding is not None and shown is not None:
        text = f"{_now(finding, shown.frame.t)}\n\n{text}"
    points, threshold = session.observed(rule)
    if all(enter.at <= 1.0 for enter in BY_ID[rule].enter) and (finding is None or finding.figure is None):
        return text, share_plot(points, threshold, width, ROWS), "The last minutes, as a share (%), with the threshold:"
    shown_points = [(-ago, value) for ago, value in points]
    return text, line_plot(shown_points, width, ROWS, level=threshold), "The last minutes, with the threshold:"


def _now(finding: Finding, end: float) -> str:
    """What it says at this moment, in Markdown."""
    since = "" if finding.since is None else f" for {duration(max(0.0, end - finding.since))}"
    lines = [f"**Now: {WORDS[finding.state]}{since}.** "]
    if finding.state is State.FIRING:
        lines[0] += f"{_plain(finding.headline)} ({finding.severity.value})"
    if finding.reason:
        lines.append(f"- {_plain(finding.reason)}")
    for one in finding.evidence:
        source = f" — {_plain(one.source)}" if one.source else ""
        lines.append(f"- {_plain(evidence_text(one))}{source}")
    if finding.record.times:
        lines.append(f"- fired {_plain(episodes_text(finding, end))}")
    return "\n".join([lines[0], "", *lines[1:]])


def _plain(text: str) -> str:
    """Text that must not be taken for Markdown: names of processes and flags hold what it takes for its own."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|~" else char for char in text)
