"""The test prompt: what it says, TTFT, every gap as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from qtop.probe.messages import ProbeEvent
from qtop.probe.timing import ProbeResult
from qtop.report.figures import probe_line
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.widgets.marks import spark

KEEP_TEXT = 8000
"""Characters of an answer kept for the screen."""


@dataclass
class ProbeState:
    """What is known of the test prompt on screen. Changed on the UI thread only."""

    plan: str = ""
    warning: str = ""
    text: str = ""
    running: bool = False
    error: str = ""
    result: ProbeResult | None = None
    ttft_ms: float | None = None
    gaps_ms: list[float] = field(default_factory=list)
    note: str = ""
    """Whose prompt it is, when a change measures."""
    _sent: float = 0.0
    _last: float = 0.0

    def take(self, event: ProbeEvent) -> None:
        """Fold in one event of the prober."""
        if event.kind == "started":
            self.text, self.error, self.result, self.ttft_ms, self.gaps_ms = "", "", None, None, []
            self.running, self._sent, self._last = True, event.t, 0.0
            self.note = "warm-up" if event.warmup else ""
        elif event.kind == "first":
            self.ttft_ms = (event.t - self._sent) * 1000.0
            self._last = event.t
        elif event.kind == "delta":
            if self._last and event.t > self._last:
                self.gaps_ms = [*self.gaps_ms, (event.t - self._last) * 1000.0][-512:]
            self._last = event.t
            self.text = (self.text + event.text)[-KEEP_TEXT:]
        elif event.kind == "done":
            self.result = event.result
            if event.result is not None:
                self.error = event.result.error
                self.gaps_ms = list(event.result.gaps_ms)
        elif event.kind == "error":
            self.error = event.error
        elif event.kind == "end":
            self.running = False
            self.note = ""


def probe_lines(look: Look, state: ProbeState, width: int, height: int) -> list[Line]:
    """The answer's last lines, then the figures, then the gaps."""
    note = "streaming" if state.running else ""
    lines = [title(look, "Test prompt", width, state.note or note or "p streams one")]
    if not state.plan and not state.text and not state.running:
        return [*lines, (look.seg(fit("p sends a short prompt to this server and times every token", width), "label"),)]
    foot: list[Line] = []
    if state.warning:
        foot.append((look.seg(fit(state.warning, width), "warn"),))
    if state.error:
        foot.append((look.seg(fit(state.error, width), "warn"),))
    if state.result is not None and state.result.ok:
        figures = probe_line(state.result)
        while width_of(figures) > width and "   " in figures:  # whole figures go, the last ones first
            figures = figures.rpartition("   ")[0]
        foot.append((look.seg(fit(figures, width)),))
    elif state.ttft_ms is not None:
        sofar = f"TTFT {state.ttft_ms:.0f} ms   {len(state.gaps_ms) + 1} tokens so far"
        foot.append((look.seg(fit(sofar, width)),))
    elif state.plan:
        foot.append((look.seg(fit(state.plan, width), "label"),))
    if state.gaps_ms:
        values: list[float | None] = list(state.gaps_ms)
        label = " gaps"
        room = width - len(label)
        foot.append((look.seg(spark(values[-room:], room, None, ascii=look.ascii), "accent"), look.seg(label, "label")))
    room = max(1, height - len(lines) - len(foot))
    cursor = "▌" if state.running and not look.ascii else ""
    body = wrap(state.text + cursor, width)[-room:] if state.text or state.running else []
    return [*lines, *((look.seg(line),) for line in body), *foot]
