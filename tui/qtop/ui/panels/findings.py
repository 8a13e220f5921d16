"""The findings: every rule with its state, the number key of its remedy beside it; and the verdict on row 2."""

from __future__ import annotations

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Remedy, Severity, State
from qtop.report.text import MARKS, evidence_text, figure_text
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.units import duration

PLANS = {"d": "app.demo", "s": "app.choose"}
"""What the keys do that the verdict offers where no finding fires."""


NAME_CELLS = 16
"""Of a finding's name that more than one key beside it must leave."""


def numbered(findings: tuple[Finding, ...]) -> list[tuple[Finding, Remedy]]:
    """The remedies behind the keys 1–9: those of firing findings, in order; one that several offer has one key."""
    first: dict[str, tuple[Finding, Remedy]] = {}
    for one in findings:
        for remedy in one.remedies:
            first.setdefault(remedy.knob, (one, remedy))
    return list(first.values())[:9]


def _keys(findings: tuple[Finding, ...]) -> dict[str, int]:
    """The number of each remedy, by its knob."""
    return {remedy.knob: number for number, (_, remedy) in enumerate(numbered(findings), 1)}


def finding_lines(look: Look, findings: tuple[Finding, ...], width: int, height: int, now: float = 0.0) -> list[Line]:
    """What fires, with as much of its evidence as there is room for; what came and went; how many are clear, and what
    cannot be told, one by one as far as they fit."""
    keys = _keys(findings)
    firing = [one for one in findings if one.state is State.FIRING]
    past = [one for one in findings if one.state is not State.FIRING and one.record.times]
    past.sort(key=lambda one: one.record.last_end or 0.0, reverse=True)
    unknown = [one for one in findings if one.state is State.CANNOT_TELL and not one.watching]
    room = max(0, height - 1)
    summary = _summary(look, findings, width)
    spare = max(0, room - len(firing) - len(summary))
    past = past[: spare if firing else max(0, spare - min(3, len(unknown)))]
    spare -= len(past)
    lines = [title(look, "Findings", width)]
    for finding in firing[:room] if len(firing) <= room else [*firing[: room - 1]]:
        lines.append(_line(look, finding, keys, width))
        shown = finding.evidence[:spare]
        spare -= len(shown)
        lines += [(look.seg("  "), look.seg(_evidence(evidence_text(line), width - 2), "label")) for line in shown]
        if finding.reason and spare:
            spare -= 1
            lines.append((look.seg("  "), look.seg(fit(finding.reason, width - 2), "warn")))
    if len(firing) > room > 0:
        lines.append((look.seg(f"  and {len(firing) - room + 1} more: F lists them", "warn", FINDINGS),))
    lines += [_past(look, one, width, now) for one in past]
    lines += summary
    for finding in unknown[: max(0, min(spare, height - len(lines)))]:
        lines.append(_line(look, finding, keys, width))
    return lines[: max(1, height)]


FINDINGS = "app.show('findings')"


def _past(look: Look, finding: Finding, width: int, now: float) -> Line:
    """A finding that does not fire now: when, how often, how long."""
    ago = "" if finding.record.last_end is None else f", until {duration(max(0.0, now - finding.record.last_end))} ago"
    times = "once" if finding.record.times == 1 else f"{finding.record.times}×"
    told = f" {times}, {duration(finding.record.seconds)} in all{ago}"
    name = fit(finding.title, max(8, width - 8 - width_of(told)))
    page = f"app.page('{finding.rule}')"
    head = look.seg(f"{MARKS[State.CLEAR]} {finding.rule} ", "label", page)
    return (head, look.seg(fit(name + told, width - 8), "label", page))


def _summary(look: Look, findings: tuple[Finding, ...], width: int) -> list[Line]:
    """How many are clear, cannot tell, and do not apply; nothing before anything was read."""
    if not findings:
        return []
    clear = sum(one.state is State.CLEAR for one in findings)
    watching = sum(one.watching for one in findings)
    unknown = sum(one.state is State.CANNOT_TELL for one in findings) - watching
    other = sum(one.state is State.NOT_APPLICABLE for one in findings)
    parts = [f"{clear} clear"]
    parts += [f"{watching} being watched"] if watching else []
    parts += [f"{unknown} cannot tell"] if unknown else []
    parts += [f"{other} not applicable"] if other else []
    return [(look.seg(fit(f"{MARKS[State.CLEAR]} {' · '.join(parts)}", width), "label", FINDINGS),)]


def _evidence(text: str, width: int) -> str:
    """An evidence line in ``width`` cells: first the threshold goes, then the end of the name, never the figure."""
    if width_of(text) <= width:
        return text
    text = text.partition(" (threshold")[0]
    name, _, figure = text.rpartition(": ")
    room = width - width_of(figure) - 2
    return f"{fit(name, room)}: {figure}" if name and room >= 8 else fit(text, width)


def finding_pen(finding: Finding) -> str:
    """The pen of a finding by what it says: an info is no alarm."""
    if finding.state is not State.FIRING or finding.severity is Severity.INFO:
        return "label"
    return "crit" if finding.severity is Severity.CRITICAL else "warn"


def _line(look: Look, finding: Finding, keys: dict[str, int], width: int) -> Line:
    pen = finding_pen(finding)
    page = f"app.page('{finding.rule}')"
    head = [look.seg(f"{MARKS[finding.state]} ", pen), look.seg(f"{finding.rule} ", pen, page)]
    room = width - 9
    if finding.state in (State.FIRING, State.CLEAR):
        share = f" {figure_text(finding, 5)}"
        mine = [keys.get(remedy.knob) for remedy in finding.remedies]
        tail = [look.seg(share, pen if finding.state is State.FIRING else "label")]
        used = len(share)
        for place, number in enumerate(one for one in mine if one is not None):
            label = f"  [{number}] fix" if place == 0 else f" [{number}]"
            if place and room - used - len(label) < NAME_CELLS:
                break  # the keys work all the same, and the rule's page names them
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
    keys = _keys(findings)
    tail = ""
    if verdict.rule is not None:
        leading = next((one for one in findings if one.rule == verdict.rule), None)
        remedies = leading.remedies if leading is not None else ()
        mine = [(keys[remedy.knob], remedy) for remedy in remedies if remedy.knob in keys]
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
