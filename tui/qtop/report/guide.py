"""The guide, checked here: as a table, as the page of one claim, as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtop.diagnose.engine import Finding
from qtop.guide.registry import Entry, counts
from qtop.guide.seen import State
from qtop.model.engines import TABLES
from qtop.model.frame import Frame
from qtop.record.redact import redact_text
from qtop.report.documents import SCHEMA, plain
from qtop.report.text import WORDS as RULE_WORDS
from qtop.sample import Absent
from qtop.units import NONE

WORDS = {
    State.HOLDS: "holds",
    State.DOES_NOT_HOLD: "does not hold",
    State.NOT_APPLICABLE: "not applicable",
    State.CANNOT_TELL: "cannot tell",
}
MARKS = {State.HOLDS: "✓", State.DOES_NOT_HOLD: "✗", State.NOT_APPLICABLE: "–", State.CANNOT_TELL: "?"}
PLAIN_MARKS = {State.HOLDS: "+", State.DOES_NOT_HOLD: "x", State.NOT_APPLICABLE: "-", State.CANNOT_TELL: "?"}


def checked_on(frame: Frame) -> str:
    """What it was checked on: the first GPU and the server."""
    parts = []
    gpus = frame.gpus
    if isinstance(gpus, Absent) or not gpus:
        parts.append("no GPU")
    else:
        name = gpus[0].name if isinstance(gpus[0].name, str) else "a GPU"
        parts.append(f"{len(gpus)} × {name}" if len(gpus) > 1 else name)
    server = frame.server
    if isinstance(server, Absent):
        return ", ".join([*parts, "no server"])
    table = TABLES.get(server.engine)
    title = table.title if table is not None else "a server"
    parts.append(title if isinstance(server.version, Absent) else f"{title} {server.version}")
    if isinstance(server.model, str):
        parts.append(server.model)
    return ", ".join(parts)


def counts_text(entries: Sequence[Entry]) -> str:
    """How many of each: "2 hold, 27 do not, 6 are not applicable, 5 cannot be told"."""
    found = counts(entries)
    return (
        f"{found[State.HOLDS]} hold, {found[State.DOES_NOT_HOLD]} do not, "
        f"{found[State.NOT_APPLICABLE]} not applicable, {found[State.CANNOT_TELL]} cannot tell"
    )


def shown(entry: Entry) -> str:
    """The measured value, else why there is none."""
    checked = entry.checked
    return redact_text(checked.measured or checked.note or NONE)


def guide_text(entries: Sequence[Entry], frame: Frame, scope: str, plain_text: bool = False) -> str:
    """A line a claim, under the sections of the guide."""
    marks = PLAIN_MARKS if plain_text else MARKS
    lines = [
        f"The guide, checked on {checked_on(frame)} ({scope})",
        f"{counts_text(entries)}; `qtop guide ID` tells more",
    ]
    section = ""
    for entry in entries:
        claim, state = entry.claim, entry.checked.state
        if claim.section != section:
            section = claim.section
            lines += ["", section]
        lines.append(f"{marks[state]} {claim.id:<5} {claim.title:<30}  {WORDS[state]:<14}  {shown(entry)}")
    return "\n".join(lines)


def claim_page(entry: Entry, findings: tuple[Finding, ...] = ()) -> str:
    """The whole entry, as Markdown."""
    claim, checked = entry.claim, entry.checked
    parts = [f"# {claim.id} · {claim.title}", f"Guide, {claim.section}", f"**The guide says.** {claim.says}"]
    here = ". ".join(_sentence(text) for text in (checked.measured, checked.note) if text)
    parts.append(f"**Here: {WORDS[checked.state]}.** {redact_text(here)}{'.' if here else ''}".rstrip())
    if checked.worked:
        parts.append("**Worked out.**")
        parts.append("\n".join(f"- {line}" for line in checked.worked))
    known = ", ".join(one.value for one in claim.known)
    parts.append(f"**What is true.** {claim.truth} ({known})")
    if entry.action:
        parts.append(f"**What to do.** {entry.action}")
    if (trial := entry.experiment) is not None:
        parts.append(f"**To try it.** `{trial.command}`: measured, kept if better. {_sentence(trial.note)}.")
    related = _related(entry, findings)
    if related:
        parts.append("**Rules that watch it.** " + "; ".join(f"{rule}: {state}" for rule, state in related))
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _related(entry: Entry, findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    by_rule = {finding.rule: finding for finding in findings}
    return [
        (f"{rule} {by_rule[rule].title}", RULE_WORDS[by_rule[rule].state])
        for rule in entry.claim.rules
        if rule in by_rule
    ]


def entry_document(entry: Entry, findings: tuple[Finding, ...] = ()) -> dict[str, Any]:
    """One claim."""
    claim, checked, trial = entry.claim, entry.checked, entry.experiment
    states = {finding.rule: finding.state.value for finding in findings}
    return {
        "id": claim.id,
        "section": claim.section,
        "title": claim.title,
        "says": claim.says,
        "state": checked.state.value,
        "measured": redact_text(checked.measured),
        "note": redact_text(checked.note),
        "worked": list(checked.worked),
        "truth": claim.truth,
        "known": [one.value for one in claim.known],
        "action": entry.action,
        "experiment": None if trial is None else {"knob": trial.knob, "value": trial.value, "note": trial.note},
        "rules": [{"rule": rule, "state": states[rule]} for rule in claim.rules if rule in states],
    }


def guide_document(
    source: str, observed_s: float, frame: Frame, findings: tuple[Finding, ...], entries: Sequence[Entry]
) -> dict[str, Any]:
    """What ``qtop guide --json`` prints; ``source`` is "live" or "recording"."""
    document: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "source": source,
            "observed_s": round(observed_s, 3),
            "t": frame.t,
            "checked_on": checked_on(frame),
            "counts": {state.value: number for state, number in counts(entries).items()},
        }
    )
    document["claims"] = [entry_document(entry, findings) for entry in entries]
    return document
