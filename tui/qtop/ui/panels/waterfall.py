"""Where a request's time goes: the stages of the last window on one axis, with waiting for a CPU marked on it."""

from __future__ import annotations

from rich.segment import Segment

from qtop.model.frame import Frame, SchedView, Waterfall
from qtop.sample import Absent, Why
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.units import milliseconds, number, percent

_PENS = {"frontend": "accent", "queue": "warn", "prefill": "good", "decode": "text"}


def waterfall_lines(look: Look, frame: Frame, width: int) -> list[Line]:
    """A heading, the bar, its legend."""
    fall = frame.waterfall
    if not isinstance(fall, Waterfall):
        why = "no requests yet" if fall.why is Why.NOT_YET else str(fall)
        return [title(look, "Where a request's time goes", width), (look.seg(fit(why, width), "label"),), ()]
    known = [(stage.name, stage.ms) for stage in fall.stages if not isinstance(stage.ms, Absent)]
    total = sum(ms for _, ms in known)
    head = title(look, f"Where a request's time goes (last {fall.seconds:.0f} s)", width, _note(fall))
    if total <= 0.0:
        return [head, (look.seg("no request finished in this window", "label"),), ()]
    waiting = 0.0
    if isinstance(frame.sched, SchedView) and frame.sched.critical:
        waiting = max(thread.contended for thread in frame.sched.critical)
    bar: list[Segment] = []
    named: list[tuple[float, Line]] = []
    left = width
    gap = "   " if width >= 100 else "  "
    for position, (name, ms) in enumerate(known):
        cells = left if position == len(known) - 1 else min(left, round(width * ms / total))
        if ms > 0 and cells == 0 and left:
            cells = 1
        left -= cells
        waits = round(cells * waiting) if name == "decode" else 0
        bar += [look.seg("█" * (cells - waits), _PENS.get(name, "text")), look.seg("▒" * waits, "crit")]
        named.append(
            (
                ms,
                (
                    look.seg("■ ", _PENS.get(name, "text")),
                    look.seg(f"{name} ", "label"),
                    look.seg(milliseconds(ms) + gap),
                ),
            )
        )
    share: Line = ()
    if waiting >= 0.05:
        waits_for = "waits for a CPU " if width >= 100 else "CPU wait "
        share = (look.seg("▒ ", "crit"), look.seg(waits_for, "label"), look.seg(percent(waiting), "crit"))
    return [head, tuple(bar), _legend(named, share, width)]


def _legend(named: list[tuple[float, Line]], share: Line, width: int) -> Line:
    """The stages in their order; where room is short, the shortest stages go without a name."""
    while True:
        legend = tuple(segment for _, group in named for segment in group) + share
        used = sum(width_of(segment.text) for segment in legend)
        if not named or used - (0 if share else 2) <= width:
            return legend
        named = [one for one in named if one is not min(named, key=lambda stage: stage[0])]


def _note(fall: Waterfall) -> str:
    parts = []
    if not isinstance(fall.finished, Absent):
        parts.append(f"{number(fall.finished)} finished")
    if not isinstance(fall.ttft_ms, Absent):
        parts.append(f"TTFT {milliseconds(fall.ttft_ms)}")
    if not isinstance(fall.itl_ms, Absent):
        parts.append(f"{milliseconds(fall.itl_ms)} a token")
    return "  ".join(parts)
