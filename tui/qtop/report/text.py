"""Findings as plain text, for a terminal, a log or a bug report."""

from __future__ import annotations

import textwrap

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Evidence, State
from qtop.units import duration, percent

MARKS = {State.FIRING: "●", State.CLEAR: "○", State.CANNOT_TELL: "?", State.NOT_APPLICABLE: "–"}
WORDS = {
    State.FIRING: "firing",
    State.CLEAR: "clear",
    State.CANNOT_TELL: "cannot tell",
    State.NOT_APPLICABLE: "not applicable",
}
PLAIN_MARKS = {State.FIRING: "*", State.CLEAR: "o", State.CANNOT_TELL: "?", State.NOT_APPLICABLE: "-"}


def value_text(line: Evidence) -> str:
    """A value with its unit: shares of time as %, other numbers with sensible digits."""
    value = line.value
    if value is None:
        return "–"
    if isinstance(value, str):
        return f"{value} {line.unit}".strip()
    if line.unit.startswith("of "):
        return f"{percent(value)} {line.unit}"
    return f"{_digits(value)} {line.unit}".strip()


def _digits(value: float) -> str:
    """Three digits, but never fewer than the whole part, in groups of three: "0.25", "3 142", "426 960"."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 999.5 else f"{value:.3g}"


def evidence_text(line: Evidence) -> str:
    """One line: signal, value, threshold, where the threshold comes from."""
    text = f"{line.signal}: {value_text(line)}"
    threshold = threshold_text(line)
    return f"{text} (threshold {threshold})" if threshold else text


def threshold_text(line: Evidence) -> str:
    """A threshold as its value reads; "" for a signal that is held against none."""
    if line.threshold is None:
        return ""
    return percent(line.threshold) if line.unit.startswith("of ") else _digits(line.threshold)


def figure_text(finding: Finding, width: int = 0) -> str:
    """How a finding's value reads: a share of time in percent, what its rule says instead, or nothing for a fact."""
    if finding.figure is None:
        return percent(finding.value, width)
    return finding.figure.rjust(width)


def episodes_text(finding: Finding, end: float) -> str:
    """How often it fired, how long in all, how long ago it last began: "3 times, 45 s in all, last 80 s ago"."""
    record = finding.record
    times = "once" if record.times == 1 else f"{record.times} times"
    text = f"{times}, {duration(record.seconds)} in all"
    return text if record.last_begin is None else f"{text}, last {duration(max(0.0, end - record.last_begin))} ago"


WIDTH = 100
"""Columns of the lists in a terminal or a log."""


def findings_text(verdict: Verdict, findings: tuple[Finding, ...], end: float, scope: str, plain: bool = False) -> str:
    """The verdict; what fires, with its evidence; what came and went; what cannot be told and why; the rest by name."""
    marks = PLAIN_MARKS if plain else MARKS
    lines = [verdict.headline, f"({scope})", ""]
    rest: dict[State, list[str]] = {State.CLEAR: [], State.NOT_APPLICABLE: []}
    watching: list[str] = []
    for finding in findings:
        mark = f"{marks[finding.state]} {finding.rule} {finding.title}"
        if finding.state is State.FIRING:
            lines += _firing_text(finding, end, mark)
        elif finding.record.times:
            lines.append(f"{mark}: {WORDS[finding.state]} now; {episodes_text(finding, end)}")
        elif finding.watching:
            watching.append(finding.title)
        elif finding.state is State.CANNOT_TELL:
            lines.append(f"{mark}: cannot tell, {finding.reason}")
        elif finding.state is State.CLEAR and finding.reason:
            lines.append(f"{mark}: clear; {finding.reason}")
        else:
            rest[finding.state].append(finding.title)
    if watching:
        lines += _listed(f"{marks[State.CANNOT_TELL]} not watched for long enough", watching)
    for state, titles in rest.items():
        if titles:
            lines += _listed(f"{marks[state]} {WORDS[state]}", titles)
    return "\n".join(lines)


def _firing_text(finding: Finding, end: float, mark: str) -> list[str]:
    figure = figure_text(finding)
    lines = [f"{mark}: {figure}" if figure else mark]
    if finding.headline != finding.title:
        lines.append(f"    {finding.headline}")
    if finding.since is not None:
        lines.append(f"    for {duration(max(0.0, end - finding.since))}, {finding.severity.value}")
    if finding.record.times > 1:
        lines.append(f"    {episodes_text(finding, end)}")
    lines += [f"    {evidence_text(line)}" for line in finding.evidence]
    lines += [f"    → qtop apply {remedy.knob}   ({remedy.label})" for remedy in finding.remedies]
    if finding.reason:
        lines.append(f"    {finding.reason}")
    return lines


def _listed(name: str, titles: list[str]) -> list[str]:
    """Many names in few lines."""
    text = f"{name} ({len(titles)}): {', '.join(titles)}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
