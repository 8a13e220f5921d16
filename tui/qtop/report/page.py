"""A report as one page of HTML that asks nobody for anything: no script, font or image from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from qtop.diagnose.engine import Finding
from qtop.diagnose.registry import BY_ID, page
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
from qtop.report.gathered import ACTIONS, NO_FINDING, Gathered, Span, led, utc
from qtop.report.page_style import STYLE
from qtop.report.plots import chart_svg, ticks
from qtop.report.text import WORDS, episodes_text, figure_text, threshold_text, value_text
from qtop.sample import Absent, ServerInfo
from qtop.units import NONE, duration, milliseconds, number, percent

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even a browser that is asked to loads nothing."""


class _NoLinks(RendererHTML):
    """Rule pages without anchors: the address stands behind the words."""

    def link_open(self, tokens: Sequence[Token], idx: int, *_: object) -> str:
        return ""

    def link_close(self, tokens: Sequence[Token], idx: int, *_: object) -> str:
        opened = next((one for one in reversed(tokens[:idx]) if one.type == "link_open"), None)
        address = str(opened.attrs.get("href", "")) if opened is not None else ""
        return f" ({escape(address)})" if address else ""


def page_html(report: Gathered) -> str:
    """The whole document; the same for the same recording."""
    model = report.server.model if isinstance(report.server, ServerInfo) else NONE
    title = f"qtop report: {_say(report, NONE if isinstance(model, Absent) else model)}"
    rows, missing = settings_rows(report)
    body = [
        _head(report),
        _section("Timeline", _timeline(report)),
        _section("Where a request's time goes", _waterfall(report)),
        _section("Over time", _plots(report)),
        _section("Findings", _findings(report)),
        _section("Actions and marks", _events(report)),
        _section("Test prompts", _probes(report)),
        _section("Configuration in force", _settings(report, rows, missing)),
        _section("Server", _facts(report, server_facts(report))),
        _section("Host", _facts(report, host_facts(report))),
        _section("Versions", _facts(report, version_facts(report))),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _say(report: Gathered, text: object) -> str:
    """A text of the recording for HTML: redacted, escaped."""
    return escape(report.text(text))


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def _head(report: Gathered) -> str:
    verdict, server = report.whole.verdict, report.server
    severity = verdict.severity.value if verdict.severity else ""
    who = ""
    if isinstance(server, ServerInfo):
        named = (server.model, server.engine, server.version)
        who = " · ".join(str(one) for one in named if not isinstance(one, Absent))
    lines = [
        f'<header class="head {severity}">',
        f'<div class="meta">{_say(report, who) or "qtop report"}</div>',
        f"<h1>{_say(report, verdict.headline)}</h1>",
        f'<div class="meta">{escape(span_text(report))}</div></header>',
    ]
    return "\n".join(lines)


def _title(rule: str | None) -> str:
    if rule is None:
        return NO_FINDING
    return f"{rule} {BY_ID[rule].title}" if rule in BY_ID else rule


def _timeline(report: Gathered) -> str:
    whole = report.whole
    severities = {one.rule: one.severity.value for one in whole.findings}
    rows = [("verdict", _track(report, report.history, severities))]
    rows += [(_title(rule), _track(report, spans, severities)) for rule, spans in report.firing.items()]
    if report.events:
        marks = [Span(event.t, event.t, None) for event in report.events]
        rows.append(("actions and marks", _track(report, marks, {}, "event")))
    if report.probes:
        sent = [Span(one.started, one.ended or one.started, None) for one in report.probes]
        rows.append(("test prompts", _track(report, sent, {}, "event")))
    lines = [f"<div>{escape(name)}</div>{track}" for name, track in rows]
    span = max(whole.seconds, 1e-9)
    marks_text = "".join(
        f'<span style="left:{100 * at:.2f}%">{text}</span>'
        for t, text in ticks(whole.begin, whole.end, 4)
        if 0.04 <= (at := (t - whole.begin) / span) <= 0.96
    )
    lines.append(f'<div></div><div class="axis">{marks_text}</div>')
    return '<div class="time">' + "\n".join(lines) + "</div>\n" + _history(report)


def _track(report: Gathered, spans: Iterable[Span], severities: dict[str, str], kind: str = "") -> str:
    """Bars on a line of time. Those that touch are drawn as one: a rule may fire ten thousand times in a day."""
    begin, seconds = report.whole.begin, max(report.whole.seconds, 1e-9)
    bars: list[list[float | str]] = []
    for span in spans:
        style = kind or (severities.get(span.rule, "info") if span.rule is not None else "none")
        left = min(max(1000 * (span.begin - begin) / seconds, 0.0), 998.0)
        right = min(max(1000 * (span.end - begin) / seconds, left + 2.0), 1000.0)
        last = bars[-1] if bars else None
        if last is not None and last[2] == style and left <= float(last[1]) + 0.5:
            last[1] = max(float(last[1]), right)
        else:
            bars.append([left, right, style])
    drawn = "".join(
        f'<rect class="{style}" x="{float(left):.1f}" width="{float(right) - float(left):.1f}" height="14"/>'
        for left, right, style in bars
    )
    return f'<svg viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


def _history(report: Gathered) -> str:
    whole = max(report.whole.seconds, 1e-9)
    rows = [
        (_title(rule), duration(seconds), percent(seconds / whole), utc(a, "%T"), utc(b, "%T"))
        for rule, seconds, a, b in led(report.history)
    ]
    return _table(report, ("what led the verdict", "for", "of the time", "first", "last"), rows, numbers=(1, 2, 3, 4))


def _table(
    report: Gathered,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> str:
    """Columns of ``numbers`` are flush right, those of ``whole`` are not broken into lines."""

    def cell(tag: str, at: int, text: str) -> str:
        mark = ' class="n"' if at in numbers else ' class="w"' if at in whole else ""
        return f"<{tag}{mark}>{_say(report, text)}</{tag}>"

    lines = ["<tr>" + "".join(cell("td", at, text) for at, text in enumerate(row)) + "</tr>" for row in rows]
    top = "".join(cell("th", at, text) for at, text in enumerate(head))
    # A head of its own is printed again where the table goes on on another page.
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _waterfall(report: Gathered) -> str:
    fall = report.waterfall
    if isinstance(fall, Absent):
        return f'<p class="dim">{_say(report, fall)}</p>'
    known = [stage.ms for stage in fall.stages if not isinstance(stage.ms, Absent)]
    total, left, lines = max(sum(known), 1e-9), 0.0, []
    for stage in fall.stages:
        if isinstance(stage.ms, Absent):
            lines.append(
                f'<div>{escape(stage.name)}</div><div class="dim">{_say(report, stage.ms)}</div>'
                f'<div class="n">{NONE}</div>'
            )
            continue
        bar = f'<rect x="{1000 * left / total:.1f}" width="{max(1000 * stage.ms / total, 2):.1f}" height="16" rx="1"/>'
        left += stage.ms
        lines.append(
            f'<div>{escape(stage.name)}</div><svg viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">'
            f'{bar}</svg><div class="n">{milliseconds(stage.ms)}</div>'
        )
    told = [f"TTFT {milliseconds(fall.ttft_ms)}", f"ITL {milliseconds(fall.itl_ms)}"]
    told.append(f"{number(fall.tokens)} tokens a request")
    told += [fall.why] if fall.why else []
    note = f'<p class="meta">means: {_say(report, ", ".join(told))}</p>'
    return '<div class="fall">' + "\n".join(lines) + "</div>\n" + note


def _plots(report: Gathered) -> str:
    whole = report.whole
    figures = []
    for chart in report.charts:
        names = [name for name, line in chart.lines.items() if line.seen]
        keys = "".join(f'<span class="key"><i class="c{at}"></i>{escape(name)}</span>' for at, name in enumerate(names))
        unit = f'<span class="key">{escape(chart.unit)}</span>'
        caption = f"<figcaption><b>{escape(chart.title)}</b>{unit}{keys}</figcaption>"
        figures.append(f"<figure>{caption}{chart_svg(chart, whole.begin, whole.end, report.gap_s)}</figure>")
    if not figures:
        return '<p class="dim">no figure was recorded</p>'
    return '<div class="plots">\n' + "\n".join(figures) + '\n</div>\n<p class="meta">times in UTC</p>'


def _findings(report: Gathered) -> str:
    firing = [one for one in report.whole.findings if one.state is State.FIRING]
    lines = [_card(report, one) for one in firing] or ['<p class="dim">nothing fired</p>']
    rest = [one for one in report.whole.findings if one.state is not State.FIRING]
    rows = [(one.rule, one.title, WORDS[one.state], one.reason) for one in rest]
    if rows:
        table = _table(report, ("rule", "what", "state", "why"), rows, whole=(0, 2))
        lines.append(f"<details><summary>{len(rows)} other rules</summary>{table}</details>")
    return "\n".join(lines)


def _card(report: Gathered, finding: Finding) -> str:
    lines = [
        f'<article class="card {finding.severity.value}"><header>'
        f"<h3>{escape(finding.rule)} {escape(finding.title)}</h3>"
        f'<span class="dim">{finding.severity.value}</span>'
        f'<span class="figure">{_say(report, figure_text(finding))}</span></header>'
    ]
    if finding.headline != finding.title:
        lines.append(f"<p>{_say(report, finding.headline)}</p>")
    lines.append(f'<p class="meta">{escape(episodes_text(finding, report.whole.end))}</p>')
    rows = [(one.signal, value_text(one), threshold_text(one), one.source) for one in finding.evidence]
    if rows:
        lines.append(_table(report, ("signal", "value", "threshold", "source"), rows, numbers=(1, 2)))
    lines += [
        f"<p><code>qtop apply {_say(report, one.knob)}</code> {_say(report, one.label)}</p>" for one in finding.remedies
    ]
    if finding.reason:
        lines.append(f"<p>{_say(report, finding.reason)}</p>")
    lines.append(f"<details><summary>The rule</summary>{rule_html(finding.rule)}</details></article>")
    return "\n".join(lines)


def rule_html(rule: str) -> str:
    """A rule's page; "" for a rule that this qtop does not have."""
    if rule not in BY_ID:
        return ""
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_NoLinks).enable("table").disable("image")
    return f'<div class="page">{parser.render(page(rule))}</div>'


def _events(report: Gathered) -> str:
    rows = list(event_rows(report))
    if not rows:
        return '<p class="dim">nothing was changed or noted</p>'
    changed = sum(event.kind in ACTIONS for event in report.events)
    return f'<p class="meta">{changed} actions</p>' + _table(
        report, ("when (UTC)", "what", "what came of it"), rows, whole=(0, 1)
    )


def _probes(report: Gathered) -> str:
    if not report.probes:
        return '<p class="dim">none were sent</p>'
    rows = probe_rows(report)
    left = len(report.probes) - len(rows)
    more = f'<p class="meta">{left} more are not listed</p>' if left else ""
    return _table(report, PROBE_HEAD, rows, numbers=(1, 2, 3, 4, 5)) + more


def _settings(report: Gathered, rows: Sequence[Sequence[str]], missing: Sequence[tuple[str, str]]) -> str:
    lines = [_table(report, ("setting", "value", "from", "note"), rows, whole=(2,))] if rows else []
    lines += [f'<p class="meta">{_say(report, name)}: {_say(report, why)}</p>' for name, why in missing]
    return "\n".join(lines)


def _facts(report: Gathered, facts: Iterable[tuple[str, str]]) -> str:
    return '<dl class="facts">' + "\n".join(_fact(report, *one) for one in facts) + "</dl>"


def _fact(report: Gathered, name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{_say(report, value)}</dd></div>"
