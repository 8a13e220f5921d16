"""The tests of this session side by side, and one of them in full."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from qtop.probe.compare import Change, compare
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.summary import Stat, Summary
from qtop.report.probe_text import check_parts
from qtop.sample import Absent
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.panels.histogram import histogram_lines
from qtop.ui.panels.table import Cell, Column, heading, row
from qtop.ui.panels.waterfall import Laid, stage_lines
from qtop.ui.trials import Trial, differing
from qtop.units import NONE, milliseconds, number, percent
from qtop.watch import ServerWindow

FAILED_SHOWN = 3
"""Kinds of errors told in full."""
HISTOGRAM_ROWS = 9
STAMPS = {"kernel": "k", "user": "u", "mixed": "ku"}


def columns(kinds: set[str]) -> tuple[Column, ...]:
    """Of the table, when gaps are of these kinds: ITL, ICL."""
    gap = kinds.pop() if len(kinds) == 1 else "gap"
    return (
        Column("test", 5, right=False),
        Column("prompt", 0, right=False),
        Column("load", 6),
        Column("ok/bad", 6),
        Column("TTFT p50", 8),
        Column("95 % interval", 16, right=False, least=116),
        Column("gaps", 4, right=False, least=132),
        Column(f"{gap} p50", 8),
        Column(f"{gap} p99", 8, least=92),
        Column("stall", 8, least=64),
        Column("TPOT p50", 8, least=132),
        Column("E2E p50", 8, least=104),
        Column("tok/s", 6, least=76),
        Column("by", 3, right=False),
    )


def table_lines(
    look: Look, trials: Sequence[Trial], chosen: int, marked: Sequence[int], width: int, rows: int, cursor: bool
) -> list[Line]:
    """Heading, names of the columns, and as many tests as fit, the latest first and ``chosen`` among them."""
    note = ("", "mark another to compare them", "")[len(marked)] if marked else "space marks two to compare"
    note = note if len(trials) > 1 else ""
    kinds = {
        trial.summary.gap_kind.upper()
        for trial in trials
        if trial.summary is not None and trial.summary.itl_ms is not None
    }
    shape = columns(kinds)
    lines = [title(look, "Tests of this session", width, note), heading(look, shape, width)]
    ordered = sorted(trials, key=lambda trial: -trial.number)
    room = max(1, rows - len(lines))
    at = next((place for place, trial in enumerate(ordered) if trial.number == chosen), 0)
    first = max(0, min(at - room // 2, len(ordered) - room))
    for trial in ordered[first : first + room]:
        state = (trial.number == chosen, trial.number in marked, cursor)
        lines.append(row(look, _cells(trial, *state), shape, width))
    return lines


def _cells(trial: Trial, chosen: bool, marked: bool, cursor: bool) -> list[Cell]:
    action = f"screen.pick({trial.number})"
    pen = "title" if chosen else "text"
    name = f"{'▸' if chosen and cursor else '·' if chosen else ' '}{'×' if marked else ' '}{trial.number:>3}"
    ok, summary = f"{sum(result.ok for result in trial.results)}", trial.summary
    failed = len(trial.results) - int(ok)
    by, bad = _by(trial.check)
    if summary is None:
        figures = ["…"] * 9
    else:
        ttft, gaps = summary.ttft_ms, summary.itl_ms
        figures = [
            _p50(ttft),
            _interval(ttft),
            summary.gap_kind.upper() if gaps is not None else NONE,
            _p50(gaps),
            milliseconds(gaps.p99) if gaps is not None else NONE,
            milliseconds(summary.stall_ms),
            _p50(summary.tpot_ms),
            _p50(summary.e2e_ms),
            number(summary.output_tok_s),
        ]
    return [
        Cell(name, "accent" if chosen else pen, action),
        Cell(trial.asked.prompt, pen, action),
        Cell(trial.asked.load, pen, action),
        Cell(f"{ok}/{failed}" if failed else ok, "warn" if failed else pen, action),
        *(Cell(figure, pen, action) for figure in figures),
        Cell(by, "warn" if bad else pen, action),
    ]


def _by(check: SelfCheck | None) -> tuple[str, bool]:
    """Who stamped, with a mark where the self-check has any."""
    if check is None:
        return NONE, False
    return STAMPS[check.stamps] + ("!" if check.marks else ""), bool(check.marks)


def _p50(stat: Stat | None) -> str:
    return milliseconds(stat.p50) if stat is not None else NONE


def _interval(stat: Stat | None) -> str:
    if stat is None or stat.p50_low is None or stat.p50_high is None:
        return NONE
    low, high = milliseconds(stat.p50_low), milliseconds(stat.p50_high)
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return f"{low} – {high}"


# One test in full


def detail_lines(look: Look, trial: Trial, width: int, tall: bool) -> list[Line]:
    """The choices, all figures, the self-check, errors, the server meanwhile, the gaps, the answer."""
    at = time.strftime("%H:%M:%S", time.localtime(trial.at))
    lines = [title(look, f"Test {trial.number}   {fit(str(trial.asked), max(12, width - 24))}", width, at)]
    if trial.error:
        told = f"ended early: {trial.error}" if trial.results else trial.error
        lines += _wrapped(look, told, width, "warn")
    summary = trial.summary
    if summary is None:
        return [*lines, (look.seg("adding up …", "label"),)]
    if summary.ok:
        lines += [*_totals(look, summary, trial, width), *_figures(look, summary, trial.asked.rate > 0, width)]
    errors = list(summary.errors.items())
    for error, count in errors[:FAILED_SHOWN]:
        lines += _wrapped(look, f"failed: {number(count)} × {error}", width, "warn")
    if len(errors) > FAILED_SHOWN:
        lines.append((look.seg(f"and {len(errors) - FAILED_SHOWN} other kinds of errors", "warn"),))
    if trial.check is not None:
        lines += check_lines(look, trial.check, width)
    lines += _server(look, trial, width, tall)
    if trial.counts is not None and trial.counts.n > 1:
        median = summary.itl_ms.p50 if summary.itl_ms is not None else None
        lines += histogram_lines(look, trial.counts, summary.gap_kind, width, HISTOGRAM_ROWS, median)
    if trial.text:
        lines.append(title(look, "Answer", width, "the one followed last" if summary.requests > 1 else ""))
        lines += [(look.seg(line),) for line in wrap(trial.text, width)]
    return lines


def _wrapped(look: Look, text: str, width: int, pen: str) -> list[Line]:
    return [(look.seg(line, pen),) for line in wrap(text, width)]


def _totals(look: Look, summary: Summary, trial: Trial, width: int) -> list[Line]:
    took = f"{summary.seconds:.1f} s" if summary.seconds >= 1 else milliseconds(summary.seconds * 1000)
    parts = [f"{summary.ok} ok, {summary.failed} failed in {took}"]
    if summary.requests_s is not None and summary.ok > 1:
        parts.append(f"{summary.requests_s:.2g} requests/s" if summary.requests_s < 10 else _rate(summary))
    if summary.output_tokens is not None:
        parts.append(f"{number(summary.output_tokens)} tokens out, {number(summary.output_tok_s)} tok/s")
    if summary.input_tokens is not None:
        parts.append(f"{number(summary.input_tokens)} tokens in")
    text = parts[0]
    for part in parts[1:]:
        if width_of(text) + width_of(part) + 3 <= width:
            text += f"   {part}"
    return [(look.seg(text),)]


def _rate(summary: Summary) -> str:
    return f"{number(summary.requests_s)} requests/s"


_FIGURES = (("n", 7), ("p50", 10), ("95 % interval", 18), ("p90", 9), ("p95", 9), ("p99", 9), ("max", 9))
_NAME = 7


def _figures(look: Look, summary: Summary, scheduled: bool, width: int) -> list[Line]:
    """A row a figure. What the number of requests does not support is a dash."""
    stats = [
        ("TTFT", summary.ttft_ms),
        (summary.gap_kind.upper(), summary.itl_ms),
        ("TPOT", summary.tpot_ms),
        ("E2E", summary.e2e_ms),
    ]
    if scheduled:
        stats.insert(1, ("queue", summary.client_queue_ms))
    if summary.ttfo_ms is not None and summary.ttft_ms is not None and summary.ttfo_ms.p50 > summary.ttft_ms.p50:
        stats.insert(1, ("TTFO", summary.ttfo_ms))  # it reasons first
    kept = list(_FIGURES)
    while _NAME + sum(cells for _, cells in kept) > width and len(kept) > 3:
        kept.pop(-2)
    names = [name for name, _ in kept]
    lines: list[Line] = [
        (look.seg(" " * _NAME + "".join(name.rjust(cells) for name, cells in kept), "label"),),
    ]
    for name, stat in stats:
        if stat is None:
            continue
        told = {
            "n": number(stat.n),
            "p50": milliseconds(stat.p50),
            "95 % interval": _interval(stat),
            "p90": milliseconds(stat.p90),
            "p95": milliseconds(stat.p95),
            "p99": milliseconds(stat.p99),
            "max": milliseconds(stat.max),
        }
        text = "".join(told[one].rjust(cells) for one, (_, cells) in zip(names, kept, strict=True))
        lines.append((look.seg(name.ljust(_NAME), "label"), look.seg(text)))
    return lines


def check_lines(look: Look, check: SelfCheck, width: int) -> list[Line]:
    """The prober's own part: a line of figures, and each mark."""
    parts = check_parts(check)
    text = "self-check: " + parts[0]
    for part in parts[1:]:
        if width_of(text) + width_of(part) + 2 <= width:
            text += f", {part}"
    lines: list[Line] = [(look.seg(text, "label"),)]
    for mark in check.marks:
        lines += _wrapped(look, f"! {mark}", width, "warn")
    return lines


def _server(look: Look, trial: Trial, width: int, tall: bool) -> list[Line]:
    """The waterfall of exactly these requests' window, and the rules that fired in it."""
    window = trial.window
    if window is None:
        return [(look.seg("the server meanwhile: reading it once more …" if trial.reading else "", "label"),)]
    lines: list[Line] = []
    fall = window.waterfall
    name = f"Where these requests' time went ({window.seconds:.0f} s)"
    if isinstance(fall, Absent):
        lines += [title(look, "Where these requests' time went", width), *_wrapped(look, str(fall), width, "label")]
    else:
        rows = len(fall.stages) + 2 if tall else 3
        lines += stage_lines(look, replace(fall, why=""), Laid(window.cpu_wait), name, width, rows)
    if not isinstance(fall, Absent) and fall.why:
        lines += _wrapped(look, f"doubt: {fall.why}", width, "warn")
    elif not isinstance(window.others, Absent) and window.others >= 1:
        many = f"{number(round(window.others))} request{'s' if round(window.others) != 1 else ''}"
        lines += _wrapped(look, f"{many} of other clients finished in this window as well", width, "label")
    lines += _roof(look, trial.summary, window, width)
    for fired in window.fired:
        share = f"{fired.rule} fired in {percent(fired.share)} of it: "
        lines += _wrapped(look, share + fired.headline, width, "warn")
    if not window.fired:
        lines.append((look.seg("no rule fired meanwhile", "label"),))
    return lines


def _roof(look: Look, summary: Summary | None, window: ServerWindow, width: int) -> list[Line]:
    roof = window.roofline_tok_s
    if isinstance(roof, Absent) or roof <= 0 or summary is None or summary.output_tok_s is None:
        return []
    share = summary.output_tok_s / roof
    text = f"memory roofline {number(roof)} tok/s at this batch: these requests reached {percent(share)} of it"
    return _wrapped(look, text, width, "label")


# Two tests against each other


def compare_lines(look: Look, before: Trial, after: Trial, width: int) -> list[Line]:
    """What became better or worse, in words, with the band of noise."""
    told = compare(before.results, after.results)
    pen = {"better": "good", "worse": "crit"}.get(told.verdict, "text")
    name = f"Test {after.number} against test {before.number}"
    lines = [title(look, name, width, "medians of the requests"), (look.seg(told.verdict, pen),)]
    lines += [_change(look, change, width) for change in (told.ttft, told.itl, told.whole) if change is not None]
    failed = [sum(not result.ok for result in trial.results) for trial in (before, after)]
    if any(failed):
        many = f"failed: {failed[0]} of {len(before.results)} before, {failed[1]} of {len(after.results)} after"
        lines.append((look.seg(fit(many, width), "warn"),))
    if unlike := differing(before.asked, after.asked):
        text = f"they differ in {' and '.join(unlike)}: the difference is that of the load as well"
        lines += _wrapped(look, text, width, "warn")
    return lines


def _change(look: Look, change: Change, width: int) -> Line:
    figures = f"{milliseconds(change.before_ms)} → {milliseconds(change.after_ms)}"
    if change.change_pct is None or change.band_pct is None:
        told = f"{figures}   cannot tell: {change.why}"
    else:
        told = f"{figures}   {change.change_pct:+.0f} %, noise ±{change.band_pct:.0f} %: {change.verdict}"
    return (look.seg(change.metric.ljust(9), "label"), look.seg(fit(told, width - 9)))


def summary_text(summary: Summary) -> str:
    """The figures of several requests on one line."""
    parts = [f"{summary.ok} of {summary.requests} ok", f"TTFT p50 {_p50(summary.ttft_ms)}"]
    if summary.itl_ms is not None:
        parts.append(f"{summary.gap_kind.upper()} p50 {milliseconds(summary.itl_ms.p50)}")
        parts.append(f"stall {milliseconds(summary.stall_ms)}")
    if summary.output_tok_s is not None:
        parts.append(f"{number(summary.output_tok_s)} tok/s")
    return "   ".join(parts)
