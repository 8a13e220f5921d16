"""What QT203 and QT208 share: whether requests lose their time before the engine sees them."""

from __future__ import annotations

from qtop.model.frame import Frame
from qtop.sample import Absent

LARGE = 0.10
"""Share of a request's time; healthy on an H100: 0.002 with one request, 0.05 with 16."""
SOURCE = "proposed: measured 0.05 on a healthy H100 with 16 requests"


def frontend_gap(frame: Frame) -> float | None:
    """Share of a request's time between its arrival and the engine, 0–1, where it is longer than queue and prefill
    together and more than ``LARGE``; 0 where it is not; None where the waterfall does not tell (yet)."""
    fall = frame.waterfall
    if isinstance(fall, Absent) or not fall.trusted:
        return None
    times = {stage.name: stage.ms for stage in fall.stages if not isinstance(stage.ms, Absent)}
    if not {"frontend", "queue", "prefill", "decode"} <= times.keys():
        return None
    whole = sum(times.values())
    share = times["frontend"] / whole if whole > 0 else 0.0
    return share if share >= LARGE and times["frontend"] > times["queue"] + times["prefill"] else 0.0


def whole_ms(frame: Frame) -> float:
    """Mean time of a request, ms; 0 where the waterfall does not tell."""
    fall = frame.waterfall
    return 0.0 if isinstance(fall, Absent) else sum(one.ms for one in fall.stages if not isinstance(one.ms, Absent))
