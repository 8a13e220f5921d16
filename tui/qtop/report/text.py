"""Findings as plain text, for a terminal, a log or a bug report."""

from __future__ import annotations

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Evidence, State
from qtop.units import percent

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


def findings_text(verdict: Verdict, findings: tuple[Finding, ...], end: float, scope: str, plain: bool = False) -> str:
    """The verdict, then every rule: firing ones with their evidence."""
    marks = PLAIN_MARKS if plain else MARKS
    lines = [verdict.headline, f"({scope})", ""]
    for finding in findings:
        share = percent(finding.value) if finding.state in (State.FIRING, State.CLEAR) else ""
        lines.append(
            f"{marks[finding.state]} {finding.rule} {finding.title:<32} {WORDS[finding.state]:<15} {share}".rstrip()
        )
        if finding.state is State.FIRING:
            if finding.since is not None:
                lines.append(f"    for {max(0.0, end - finding.since):.0f} s, {finding.severity.value}")
            lines += [f"    {evidence_text(line)}" for line in finding.evidence]
            lines += [f"    → qtop apply {remedy.knob}   ({remedy.label})" for remedy in finding.remedies]
        if finding.reason:
            lines.append(f"    {finding.reason}")
    return "\n".join(lines)
