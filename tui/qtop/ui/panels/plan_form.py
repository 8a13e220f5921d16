"""The inputs of a plan: each a value that keys and the mouse change, with a slider where there is room."""

from __future__ import annotations

import math

from qtop.plan.goals import GOALS
from qtop.plan.making import Plan
from qtop.plan.serving import WEIGHTS
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.ui.plan_form import CHOICES, FIELDS, KV, NAMES, RANGES, PlanForm

NAME = 9
SLIDER = 12
LEAST_FOR_SLIDER = 42
"""Columns from which there are sliders."""


def form_lines(look: Look, form: PlanForm, made: Plan | None, width: int) -> list[Line]:
    """A row a field."""
    lines = [title(look, "Plan", width, "↑↓ choose  ←→ change")]
    return lines + [_field(look, form, made, place, width) for place in range(len(FIELDS))]


def _field(look: Look, form: PlanForm, made: Plan | None, place: int, width: int) -> Line:
    name, here = FIELDS[place], place == form.at
    action = f"screen.field({place})"
    slider = width >= LEAST_FOR_SLIDER
    value, about = form.text(name, made)
    if here and form.typing:
        value, about = f"{form.typed}▌", ""
    room = width - 2 - NAME - 4 - (SLIDER + 1 if slider else 0)
    shown = fit(value, room)
    told = f" {about}" if about and width_of(shown) + width_of(about) < room else ""
    pad = " " * (room - width_of(shown) - width_of(told))
    line = [
        look.seg("▸ " if here else "  ", "accent", action),
        look.seg(NAMES[name].ljust(NAME), "title" if here else "label", action),
        look.seg("◂ " if here else "  ", "key", "screen.step(-1)" if here else action),
        look.seg(shown, "title" if here else "text", "screen.type" if here else action),
        look.seg(f"{told}{pad}", "label", action),
        look.seg(" ▸" if here else "  ", "key", "screen.step(1)" if here else action),
    ]
    if slider:
        at = _place(form, made, name)
        line.append(look.seg(" "))
        line += [
            look.seg(
                "●" if cell == at else "─",
                ("accent" if here else "text") if cell == at else "rule",
                f"screen.slide({place}, {cell})",
            )
            for cell in range(SLIDER)
        ]
    return tuple(line)


def _place(form: PlanForm, made: Plan | None, name: str) -> int:
    """The slider's cell."""
    if name in CHOICES:
        names, now = _options(form, name), _now(form, name)
        share = names.index(now) / max(1, len(names) - 1) if now in names else 0.0
    else:
        low, high = _ends(form, name)
        value = min(high, max(low, form.value(name, made)))
        share = (value - low) / (high - low) if name == "utilization" else math.log(value / low) / math.log(high / low)
    return round(share * (SLIDER - 1))


def _ends(form: PlanForm, name: str) -> tuple[float, float]:
    """Of the slider; what is typed may lie beyond them."""
    bounds = RANGES[name]
    if name == "context":
        return 1024.0, max(2048.0, float(form.wish.model.shape.positions))
    return (bounds.least if name != "utilization" else 0.0), bounds.steps[-1]


def _options(form: PlanForm, name: str) -> tuple[str, ...]:
    return {
        "model": form.models, "gpu": form.gpus, "weights": WEIGHTS, "kv": KV, "goal": ("", *GOALS),
        "eager": ("no", "yes"),
    }[name]  # fmt: skip


def _now(form: PlanForm, name: str) -> str:
    if name in ("model", "gpu"):
        return form.shown_name(name)
    if name == "eager":
        return "yes" if form.wish.eager else "no"
    return str(getattr(form.wish, name))


def slid(form: PlanForm, name: str, cell: int) -> float | str:
    """What a cell of the slider stands for: a number on a step of the field, or a choice's name."""
    share = cell / (SLIDER - 1)
    if name in CHOICES:
        names = _options(form, name)
        return names[round(share * (len(names) - 1))]
    low, high = _ends(form, name)
    exact = low + share * (high - low) if name == "utilization" else low * (high / low) ** share
    steps = [step for step in RANGES[name].steps if low <= step <= high] or [low]
    return min(steps, key=lambda step: abs(step - exact) if name == "utilization" else abs(math.log(step / exact)))
