"""What the events of a recording are to who looks at it, and where they stand on its timeline."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from qtop.sample import Event

MARK: Final = "marker"
"""The kind of event that a marker is kept as; its note is ``data["note"]``."""


class Kind(StrEnum):
    """What is shown alike."""

    MARKER = "marker"
    CHANGED = "changed"
    BACK = "put back"
    PROBE = "test prompt"


class Point(NamedTuple):
    """Something that happened at Unix second ``t``. One event may be two of them: its beginning and its end."""

    t: float
    kind: Kind
    event: Event


def points_of(event: Event) -> tuple[Point, ...]:
    """Where an event stands; () for a kind that this qtop does not know."""
    data = event.data
    match event.kind:
        case "marker":
            kinds = [(event.t, Kind.MARKER)]
        case "applied" | "tune":
            kinds = [(event.t, Kind.CHANGED)]
        case "change":
            kinds = [(event.t, Kind.BACK if data.get("kept") is False else Kind.CHANGED)]
        case "undo" if data.get("restored") == 0:
            kinds = []  # there was nothing to undo
        case "reverted" | "undo":
            kinds = [(event.t, Kind.BACK)]
        case "probe" | "probe-cut":
            began = data.get("started")
            kinds = [(event.t, Kind.PROBE)]
            if isinstance(began, int | float) and 0 < began < event.t:
                kinds.insert(0, (float(began), Kind.PROBE))
        case _:
            kinds = []
    return tuple(Point(t, kind, event) for t, kind in kinds)
