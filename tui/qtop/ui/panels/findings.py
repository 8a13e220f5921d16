"""The findings: every rule with its state, the number key of its remedy beside it; and the verdict on row 2."""

from __future__ import annotations

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Remedy, Severity, State
from qtop.report.text import evidence_text, figure_text
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title

MARKS = {State.FIRING: "●", State.CLEAR: "○", State.CANNOT_TELL: "?", State.NOT_APPLICABLE: "–"}


PLANS = {"d": "app.demo", "s": "app.choose"}
"""What the keys do that the verdict offers where no finding fires."""


def numbered(findings: tuple[Finding, ...]) -> list[tuple[Finding, Remedy]]:
    """The remedies behind the keys 1–9: those of firing findings, in order."""
    return [(one, remedy) for one in findings if one.state is State.FIRING for remedy in one.remedies][:9]


def finding_lines(look: Look, findings: tuple[Finding, ...], width: int, height: int) -> list[Line]:
    """A line each; under a firing one as much of its evidence as there is room for."""
    lines = [title(look, "Findings", width)]
    keys = {(one.rule, remedy.knob): number for number, (one, remedy) in enumerate(numbered(findings), 1)}
    spare = max(0, height - 1 - len(findings))
    for finding in findings:
        lines.append(_line(look, finding, keys, width))
        if finding.state is State.FIRING and spare:
            shown = finding.evidence[:spare]
            spare -= len(shown)
            lines += [(look.seg("  "), look.seg(_evidence(evidence_text(line), width - 2), "label")) for line in shown]
        if finding.state is State.FIRING and finding.reason and spare:
            spare -= 1
            lines.append((look.seg("  "), look.seg(fit(finding.reason, width - 2), "warn")))
    return lines


def _evidence(text: str, width: int) -> str:
    """An evidence line in ``width`` cells: first the threshold goes, then the end of the name, never the figure."""
    if width_of(text) <= width:
        return text
    text = text.partition(" (threshold")[0]
    name, _, figure = text.rpartition(": ")
    room = width - width_of(figure) - 2
    return f"{fit(name, room)}: {figure}" if name and room >= 8 else fit(text, width)


def _line(look: Look, finding: Finding, keys: dict[tuple[str, str], int], width: int) -> Line:
    pen = "label"
    if finding.state is State.FIRING:
        pen = "crit" if finding.severity is Severity.CRITICAL else "warn"
    page = f"app.page('{finding.rule}')"
    head = [look.seg(f"{MARKS[finding.state]} ", pen), look.seg(f"{finding.rule} ", pen, page)]
    room = width - 9
    if finding.state in (State.FIRING, State.CLEAR):
        share = figure_text(finding, 6)
        mine = [keys.get((finding.rule, remedy.knob)) for remedy in finding.remedies]
        tail = [look.seg(share, pen if finding.state is State.FIRING else "label")]
        used = len(share)
        for number in (one for one in mine if one is not None):
            label = f"  [{number}] fix"
            tail.append(look.seg(label, "key", f"app.fix({number})"))
            used += width_of(label)
        name = fit(finding.title, max(0, room - used))
        body = look.seg(
            name.ljust(max(0, min(30, room - used))), "text" if finding.state is State.FIRING else "label", page
        )
        return (*head, body, *tail)
    name = finding.title
    why = finding.reason.split(": ")[-1] if finding.state is State.NOT_APPLICABLE else finding.reason
    text = f"{name}: {why}" if finding.state is State.NOT_APPLICABLE else f"{name}: cannot tell, {why}"
    return (*head, look.seg(fit(text, room), "label", page))


def verdict_line(look: Look, verdict: Verdict, findings: tuple[Finding, ...], width: int, plan: str = "") -> Line:
    """Row 2: the one line, with its key at the right end."""
    keys = numbered(findings)
    tail = ""
    if verdict.rule is not None:
        mine = [(number, remedy) for number, (one, remedy) in enumerate(keys, 1) if one.rule == verdict.rule]
        tail = f" [{mine[0][0]}] {mine[0][1].label if width >= 80 else 'fix'} " if mine else ""
    tail = tail or (f" {plan} " if plan else "")
    pen = {Severity.CRITICAL: "crit_bar", Severity.WARNING: "warn_bar"}.get(verdict.severity or Severity.INFO, "title")
    room = width - width_of(tail) - 3
    text = fit(verdict.headline, room)
    if pen == "title":
        mark = "good" if verdict.headline.startswith("Nothing that") else "label"
        body = (look.seg(" ▌ ", mark), look.seg(text, "text"))
    else:
        body = (look.seg(" ▌ ", pen), look.seg(text, pen))
    pad = look.seg(" " * max(0, room - width_of(text)), pen if pen != "title" else "text")
    key = tail.strip()[1:2]
    action = f"app.fix({key})" if key.isdigit() else PLANS.get(key, "")
    return (*body, pad, look.seg(tail, pen if pen != "title" else "key", action))
