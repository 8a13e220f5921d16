"""QT131: the GPU computes as much as it can: the good limit."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.gpus import clock_line, is_idle, less_to_compute, watched, worst
from qtop.model.frame import Frame, GpuView
from qtop.sample import NOT_RECORDED, Absent, Reading
from qtop.units import percent

AT = 0.90
SM_WORKS, UTIL_WORKS = 0.70, 0.95
"""SM use, or where GPM is not there utilization, from which a power limit is one of real work."""
TENSOR = 0.60
"""Tensor cores at work for so much of the time is what large matrix products reach (0.73–0.75 measured in prefill on an
H100 at its power limit)."""
SOURCE = (
    "proposed: SMs ≥ 90 %, tensor cores ≥ 60 %, or a power limit that holds the clock ≥ 90 % of the time under work"
)

REASON = (
    "nothing is wrong, and no setting of the host makes it faster; smaller batches make each request faster and all of "
    "them together slower"
)


class GpuAtLimit(Rule):
    """The largest of: SM use, tensor use over 0.67 (so that 60 % is 0.9), time at the power limit while it works."""

    id = "QT131"
    title = "GPU at its limit"
    enter = (Enter(Severity.INFO, at=AT, seconds=8.0, of=10.0),)
    clear = Clear(below=0.75, seconds=15.0)
    limit = True

    def look(self, frame: Frame) -> Answer:
        """The busiest of the server's GPUs."""
        gpus = watched(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, _use)
        if isinstance(found, CannotTell):
            return found
        use, gpu = found
        if is_idle(frame):
            use = 0.0
        return Observed(use, lambda: _told(frame, gpu, use), impact=use if use >= AT else 0.0)


RULE = GpuAtLimit()


def _use(gpu: GpuView) -> Reading[float]:
    sm, tensor, util = gpu.sm, gpu.tensor, gpu.util
    cap = gpu.duty_window.get("power_cap", NOT_RECORDED)
    held = 0.0 if isinstance(cap, Absent) else cap
    if not isinstance(sm, Absent):
        best = sm if sm < SM_WORKS else max(sm, held)
        return best if isinstance(tensor, Absent) else max(best, min(1.0, tensor * AT / TENSOR))
    # Utilization alone is no measure of how busy a GPU is: 99 % with one request where SM use is 49 %.
    if isinstance(util, Absent):
        return util
    if util >= UTIL_WORKS and held >= AT:
        return held
    if util < AT:
        return util  # not even always a kernel there: it is not at its limit
    return sm


def _told(frame: Frame, gpu: GpuView, use: float) -> Told:
    lines: list[Evidence] = []
    for name, value, unit in (
        ("SMs at work", gpu.sm, "of them"),
        ("tensor cores work", gpu.tensor, "of the time"),
        ("a kernel runs", gpu.util, "of the time"),
        ("the power limit holds its clock", gpu.duty_window.get("power_cap", NOT_RECORDED), "of the last 30 s"),
    ):
        if not isinstance(value, Absent):
            lines.append(Evidence(f"GPU {gpu.index}: {name}", value, unit, None, SOURCE if not lines else ""))
    return Told(
        f"GPU {gpu.index} IS AT ITS LIMIT: {_by_what(gpu)} — {less_to_compute(frame)} or more GPUs raise it",
        (*lines, *clock_line(gpu)),
        reason=REASON if use >= AT else "",
    )


def _by_what(gpu: GpuView) -> str:
    cap = gpu.duty_window.get("power_cap", NOT_RECORDED)
    if not isinstance(cap, Absent) and cap >= AT:
        return f"power limit {percent(cap)} of the time"
    if not isinstance(gpu.tensor, Absent) and gpu.tensor >= TENSOR:
        return f"tensor cores busy {percent(gpu.tensor)} of the time"
    return "busy all the time" if isinstance(gpu.sm, Absent) else f"{percent(gpu.sm)} of its SMs busy"
