"""A change under way: which of its steps are done, what it does now. Two rows above the keys."""

from __future__ import annotations

from dataclasses import dataclass

from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title

STAGES = ("before", "change", "after", "check", "decide")
"""Of a transaction, in order: measured before, made, measured after, measured to and fro, kept or put back."""
_STEPS = {"journal": 1, "apply": 1, "verify": 1, "check": 3, "keep": 4, "ask": 4, "revert": 4}


@dataclass
class Progress:
    """Where a transaction stands."""

    name: str
    """What is changed: "cpu-affinity 0-1"."""
    of: str = ""
    """Which of several: "2 of 3"."""
    stage: int = -1
    text: str = ""
    cancelling: bool = False

    def step(self, step: str, text: str) -> None:
        """A step of the transaction, as it tells of it."""
        self.text = text
        if step == "measure":
            self.stage = 2 if self.stage >= 1 else 0
        elif not (step == "apply" and self.stage == 3):  # made again, to and fro
            self.stage = max(self.stage, _STEPS.get(step, self.stage))

    def next(self, name: str, of: str) -> None:
        """Another change begins."""
        self.name, self.of, self.stage, self.text = name, of, -1, ""


def progress_lines(look: Look, progress: Progress | None, width: int) -> list[Line]:
    """Nothing where nothing is under way."""
    if progress is None:
        return []
    note = "the old values come back" if progress.cancelling else "Esc puts it back"
    name = f"{progress.name}  {progress.of}".rstrip()
    chain: list[tuple[str, str]] = []
    for number, stage in enumerate(STAGES):
        mark, pen = (
            ("✓", "good")
            if number < progress.stage
            else ("▸", "accent")
            if number == progress.stage
            else ("·", "label")
        )
        chain.append((f"{mark} {stage}  ", pen))
    used = sum(width_of(text) for text, _ in chain)
    segments = [look.seg(text, pen) for text, pen in chain]
    segments.append(look.seg(fit(progress.text, max(0, width - used)), "text"))
    return [title(look, fit(name, max(8, width - width_of(note) - 6)), width, note), tuple(segments)]
