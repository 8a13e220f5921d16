"""The knobs, by id."""

from __future__ import annotations

from qtop.act.change import Knob
from qtop.act.knobs.cpu_affinity import CpuAffinity
from qtop.errors import QtopError

KNOBS: dict[str, Knob] = {knob.id: knob for knob in (CpuAffinity(),)}


def knob(name: str) -> Knob:
    """The knob of this id; QtopError naming those there are."""
    if name not in KNOBS:
        raise QtopError(f"no knob is called {name!r}", f"There is: {', '.join(KNOBS)}.")
    return KNOBS[name]
