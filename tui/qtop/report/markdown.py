"""A report as Markdown, to paste into an issue: the verdict and what fires in sight, the rest folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from qtop.diagnose.rule import State
from qtop.report.facts import (
    PROBE_HEAD,
    event_rows,
    host_facts,
    probe_rows,
    server_facts,
    settings_rows,
    span_text,
    version_facts,
)
from qtop.report.gathered import NO_FINDING, Gathered, led
from qtop.report.text import WORDS, episodes_text, evidence_text, figure_text
from qtop.sample import Absent
from qtop.units import duration, milliseconds

_MARKUP = re.compile(r"([\\`*_{}\[\]|~#@!])")
"""What means something in GitHub's Markdown; @ would call somebody."""


def plain_markdown(text: str) -> str:
    """A text that reads as it stands: markup, HTML and line breaks mean nothing in it."""
    line = escape(" ".join(text.split()), quote=False)
    line = _MARKUP.sub(lambda found: f"&#{ord(found[1])};" if found[1] in "@#!" else f"\\{found[1]}", line)
    return line.replace("://", "&#58;//")


def page_markdown(report: Gathered) -> str:
    """The whole document; the same for the same recording."""
    whole = report.whole

    def say(text: object) -> str:
        return plain_markdown(report.text(text))

    lines = [f"### {say(whole.verdict.headline)}", "", say(span_text(report)), ""]
    firing = [one for one in whole.findings if one.state is State.FIRING]
    for one in firing:
        figure = figure_text(one)
        lines.append(
            f"- **{one.rule} {say(one.title)}**{f' {say(figure)}' if figure else ''}: {say(one.headline)} "
            f"({say(episodes_text(one, whole.end))})"
        )
    lines += ["", f"Time of a request: {say(_waterfall_text(report))}", ""]
    evidence = [f"- {one.rule} {say(evidence_text(line))}" for one in firing for line in one.evidence]
    if evidence:
        lines += ["<details><summary>Evidence</summary>", "", *evidence, "", "</details>", ""]
    history = [(rule or NO_FINDING, duration(seconds)) for rule, seconds, _, _ in led(report.history)]
    rest = [one for one in whole.findings if one.state is not State.FIRING]
    settings, missing = settings_rows(report)
    folded: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        ("What led the verdict", ("rule", "for"), history),
        ("Actions and marks", ("when (UTC)", "what", "what came of it"), list(event_rows(report))),
        ("Test prompts", PROBE_HEAD, probe_rows(report)),
        (
            "Configuration in force",
            ("setting", "value", "from", "note"),
            [*settings, *((*one, "", "") for one in missing)],
        ),
        ("Server", ("", ""), server_facts(report)),
        ("Host and versions", ("", ""), [*host_facts(report), *version_facts(report)]),
        ("Other rules", ("rule", "what", "state", "why"), [(o.rule, o.title, WORDS[o.state], o.reason) for o in rest]),
    ]
    for title, head, rows in folded:
        if rows:
            lines += [f"<details><summary>{title}</summary>", "", *_table(head, (map(say, row) for row in rows))]
            lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def _waterfall_text(report: Gathered) -> str:
    fall = report.waterfall
    if isinstance(fall, Absent):
        return str(fall)
    stages = [f"{one.name} {milliseconds(one.ms)}" for one in fall.stages if not isinstance(one.ms, Absent)]
    return ", ".join(stages) + (f" ({fall.why})" if fall.why else "")
