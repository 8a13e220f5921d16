"""A test prompt under way: progress, the answer that is followed, the gaps as they come."""

from __future__ import annotations

from statistics import median

from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.panels.histogram import LEAST_ROWS, histogram_lines
from qtop.ui.panels.probe import answer_lines, figures_of, gap_line, shortened
from qtop.ui.trials import ProbeState
from qtop.ui.widgets.marks import bar
from qtop.units import clock, milliseconds, number

WIDE = 100
"""Columns from which the histogram stands beside the answer."""
HISTOGRAM_ROWS, HISTOGRAM_ROWS_WIDE = 9, 15
LEAST_TEXT = 3
BAR = 20
LEAST_FOR_BAR = 92
GAP = 3


def live_lines(look: Look, state: ProbeState, width: int, height: int, now: float) -> list[Line]:
    """At most ``height`` rows."""
    head: list[Line] = [title(look, "Test under way", width, _progress(state, now)), _asked(look, state, width)]
    if state.error:
        head.append((look.seg(fit(f"failed: {state.error}", width), "warn"),))
    head.append((look.seg(shortened(_figures(state), width)),))
    head.append(gap_line(look, state, width) if state.gaps_ms else ())
    room = max(LEAST_TEXT, height - len(head))
    kind = "icl" if state.result is not None and state.result.gap_kind == "icl" else "itl"
    if width >= WIDE:
        left = (width - GAP) // 2
        answer = [title(look, "Answer", left), *answer_lines(look, state, left, room - 1)]
        right = histogram_lines(look, state.counts, kind, width - left - GAP, min(room, HISTOGRAM_ROWS_WIDE))
        return [*head, *beside(look, answer, right, left)]
    bars = min(HISTOGRAM_ROWS, room - LEAST_TEXT)
    below = histogram_lines(look, state.counts, kind, width, bars) if bars >= LEAST_ROWS else []
    answer = answer_lines(look, state, width, room - max(bars, 0))
    pad: list[Line] = [()] * (room - max(bars, len(below)) - len(answer))
    return [*head, *answer, *pad, *below][:height]


def _progress(state: ProbeState, now: float) -> str:
    if state.note == "warm-up":
        return "warming up"
    if not state.sent:
        return "making it ready"
    parts = []
    if state.asked is not None and state.several:
        parts.append(f"{number(state.done)} of {number(state.asked.requests)} done")
        parts.append(f"{number(state.in_flight)} in flight")
    if state.failed:
        parts.append(f"{number(state.failed)} failed")
    parts.append(clock(state.elapsed(now)))
    return "   ".join(parts)


def _asked(look: Look, state: ProbeState, width: int) -> Line:
    text = str(state.asked) if state.asked is not None else "measuring a change"
    hint = "Esc cancels"
    part: Line = ()
    room = width - width_of(hint) - 2
    if state.asked is not None and state.several and width >= LEAST_FOR_BAR:
        done = bar(state.done / state.asked.requests, BAR, ascii=look.ascii)
        part = (look.seg(done, "accent"), look.seg("  "))
        room -= BAR + 2
    text = fit(text, room)
    pad = " " * (room - width_of(text) + 2)
    key = (look.seg("Esc", "key", "app.cancel"), look.seg(" cancels", "label"))
    return (look.seg(text, "label"), look.seg(pad), *part, *key)


def _figures(state: ProbeState) -> str:
    if not state.several:
        return figures_of(state)
    if not state.ttfts_ms:
        return ""
    ttft = f"TTFT {milliseconds(state.ttfts_ms[-1])}   p50 of {number(len(state.ttfts_ms))} so far "
    parts = [ttft + milliseconds(median(state.ttfts_ms))]
    if state.counts.n:
        parts.append(f"largest gap {milliseconds(state.counts.largest)}")
    return "   ".join(parts)


def beside(look: Look, left: list[Line], right: list[Line], width: int) -> list[Line]:
    """Two blocks in a row, the left one brought to ``width`` cells."""
    lines: list[Line] = []
    for place in range(max(len(left), len(right))):
        here: Line = left[place] if place < len(left) else ()
        used = sum(width_of(segment.text) for segment in here)
        there: Line = right[place] if place < len(right) else ()
        lines.append((*here, look.seg(" " * (width - used + GAP)), *there) if there else here)
    return lines
