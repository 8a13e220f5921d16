"""The overview's test prompt: what it says, TTFT, every gap as it comes."""

from __future__ import annotations

from qtop.report.figures import probe_line
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.trials import ProbeState
from qtop.ui.widgets.marks import spark
from qtop.units import milliseconds


def probe_lines(look: Look, state: ProbeState, width: int, height: int) -> list[Line]:
    """The answer's last lines, then the figures, then the gaps."""
    lines = [title(look, "Test prompt", width, _note(state))]
    if not state.plan and not state.text and not state.running:
        return [*lines, (look.seg(fit("p: send a prompt and time every token", width), "label"),)]
    foot: list[Line] = []
    if state.warning:
        foot.append((look.seg(fit(state.warning, width), "warn"),))
    if state.error:
        foot.append((look.seg(fit(state.error, width), "warn"),))
    if figures := figures_of(state):
        foot.append((look.seg(shortened(figures, width)),))
    elif state.plan:
        foot.append((look.seg(fit(state.plan, width), "label"),))
    if state.gaps_ms:
        foot.append(gap_line(look, state, width))
    room = max(1, height - len(lines) - len(foot))
    return [*lines, *answer_lines(look, state, width, room), *foot]


def _note(state: ProbeState) -> str:
    if not state.running:
        return "p: choose and send"
    if state.asked is not None and state.several:
        return f"{state.done} of {state.asked.requests} done"
    return state.note or "streaming"


def figures_of(state: ProbeState) -> str:
    """The figures of the request that is followed, or of the latest that ended; "" before there are any."""
    if state.summary and not state.running:
        return state.summary
    if state.result is not None and state.result.ok and not state.in_flight:
        return probe_line(state.result)
    if state.ttft_ms is not None:
        tokens = f"{state.tokens} token{'' if state.tokens == 1 else 's'}"
        return f"TTFT {milliseconds(state.ttft_ms)}   {tokens} {'so far' if state.running else 'until it ended'}"
    return ""


def shortened(figures: str, width: int) -> str:
    """As many figures as fit whole, the first ones."""
    while width_of(figures) > width and "   " in figures:
        figures = figures.rpartition("   ")[0]
    return fit(figures, width)


def gap_line(look: Look, state: ProbeState, width: int) -> Line:
    """The latest gaps, each on the scale of the largest shown."""
    label = " gaps"
    room = width - len(label)
    values: list[float | None] = list(state.gaps_ms)
    return (look.seg(spark(values[-room:], room, None, ascii=look.ascii), "accent"), look.seg(label, "label"))


def answer_lines(look: Look, state: ProbeState, width: int, rows: int) -> list[Line]:
    """The last rows of the answer."""
    if not state.text and not state.running:
        return []
    cursor = "▌" if state.running and not look.ascii else ""
    return [(look.seg(line),) for line in wrap(state.text + cursor, width)[-rows:]]
