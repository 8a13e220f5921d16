"""Findings as plain text, for a terminal, a log or a bug report."""

from __future__ import annotations

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
    return f"{value:.3g} {line.unit}".strip()


def evidence_text(line: Evidence) -> str:
    """One line: signal, value, threshold, where the threshold comes from."""
    text = f"{line.signal}: {value_text(line)}"
    if line.threshold is not None:
        text += (
            f" (threshold {percent(line.threshold)})"
            if line.unit.startswith("of ")
            else f" (threshold {line.threshold:g})"
        )
    return text


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


def findings_text(verdict: Verdict, findings: tuple[Finding, ...], end: float, scope: str, plain: bool = False) -> str:
    """The verdict, then every rule: firing ones with their evidence."""
    marks = PLAIN_MARKS if plain else MARKS
    lines = [verdict.headline, f"({scope})", ""]
    for finding in findings:
        share = figure_text(finding) if finding.state in (State.FIRING, State.CLEAR) else ""
        lines.append(
            f"{marks[finding.state]} {finding.rule} {finding.title:<32} {WORDS[finding.state]:<15} {share}".rstrip()
        )
        if finding.state is State.FIRING:
            if finding.since is not None:
                lines.append(f"    for {max(0.0, end - finding.since):.0f} s, {finding.severity.value}")
            if finding.record.times > 1:
                lines.append(f"    {episodes_text(finding, end)}")
            lines += [f"    {evidence_text(line)}" for line in finding.evidence]
            lines += [f"    → qtop apply {remedy.knob}   ({remedy.label})" for remedy in finding.remedies]
        if finding.reason:
            lines.append(f"    {finding.reason}")
    return "\n".join(lines)
