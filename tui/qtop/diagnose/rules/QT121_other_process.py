"""QT121: another process computes on the server's GPU and takes turns with it."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import MIB, engine_of, gpus_of, known, said
from qtop.diagnose.rules.gpus import is_idle, process_lines, process_name
from qtop.model.frame import EngineView, Frame, GpuView
from qtop.model.gpu_view import OtherProcess
from qtop.sample import NOT_RECORDED, Absent
from qtop.units import percent, size

SOURCE = "NVML, use by process over the last seconds; measured: 0.4–0.6 under a matrix product, 0 for an idle notebook"
CONTEXT_BYTES = 64 * MIB
"""What holds less is no CUDA context."""


class OtherProcessComputes(Rule):
    """The share of the SMs' time that processes other than the server's take while it has requests."""

    id = "QT121"
    title = "another process computes on this GPU"
    enter = (
        Enter(Severity.WARNING, at=0.10, seconds=8.0, of=10.0),
        Enter(Severity.CRITICAL, at=0.30, seconds=8.0, of=10.0),
    )
    clear = Clear(below=0.05, seconds=10.0, ease=0.20)
    explains = ("QT110", "QT130", "QT131")

    def look(self, frame: Frame) -> Answer:
        """The GPU on which others take most. A process that only holds memory takes nothing."""
        engine = engine_of(frame)
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        if isinstance(engine, CannotTell) and isinstance(frame.server, Absent):
            return engine
        worst: tuple[float, GpuView, tuple[OtherProcess, ...]] | None = None
        why: CannotTell | None = None
        for gpu in gpus:
            others = gpu.others
            if isinstance(others, Absent):
                why = CannotTell(said(others))
                continue
            taken = _taken(gpu, others, frame)
            if isinstance(taken, CannotTell):
                why = taken
            elif worst is None or taken > worst[0]:
                worst = taken, gpu, others
        if worst is None:
            return why or CannotTell(said(NOT_RECORDED))
        taken, gpu, others = worst
        if taken <= 0 and why is not None:
            return why
        if is_idle(frame):
            taken = 0.0  # nobody waits for the GPU
        own = known(gpu.server_sm) or 0.0
        impact = taken / (taken + own) if taken > 0 else 0.0
        return Observed(
            taken, lambda: _told(frame, gpu, others, taken), impact=impact, figure=f"{taken:.0%} of its SMs"
        )


RULE = OtherProcessComputes()


def _taken(gpu: GpuView, others: tuple[OtherProcess, ...], frame: Frame) -> float | CannotTell:
    """Share of the SMs' time, or why it cannot be known although somebody is there."""
    total, unknown = 0.0, None
    for one in others:
        if not isinstance(one.sm, Absent):
            total += one.sm
        elif isinstance(one.bytes, Absent) or one.bytes >= CONTEXT_BYTES:
            unknown = one
    if unknown is not None:
        return CannotTell(
            f"{process_name(unknown)} is on GPU {gpu.index} too; whether it computes, the driver does not say here"
        )
    if others and total <= 0 and known(gpu.server_sm) == 0 and not is_idle(frame) and (known(gpu.util) or 0.0) > 0.5:
        return CannotTell("the driver tells no use by process although the GPU works")
    return min(1.0, total)


def _told(frame: Frame, gpu: GpuView, others: tuple[OtherProcess, ...], taken: float) -> Told:
    busy = [one for one in others if (known(one.sm) or 0.0) >= 0.01]
    lines = [Evidence(f"others compute on GPU {gpu.index}", taken, "of the SMs' time", 0.10, SOURCE)]
    if not isinstance(gpu.server_sm, Absent):
        lines.append(Evidence("the server computes", gpu.server_sm, "of the SMs' time"))
    lines += process_lines(others)
    if isinstance(frame.engine, EngineView) and not isinstance(frame.engine.itl_ms, Absent):
        lines.append(Evidence("gap between tokens", frame.engine.itl_ms, "ms", None, "the server's own figure"))
    for name, value in (
        ("tensor cores work", gpu.tensor),
        ("the power limit holds its clock", gpu.duty.get("power_cap")),
    ):
        if value is not None and not isinstance(value, Absent):
            lines.append(Evidence(name, value, "of the time"))
    if not busy:
        reason = "others hold memory of this GPU and do not compute" if others else ""
        if is_idle(frame) and any((known(one.sm) or 0.0) > 0 for one in others):
            reason = "another process computes, but no request runs that would wait for it"
        return Told("", tuple(lines), reason=reason)
    first = busy[0]
    more = f" and {len(busy) - 1} more" if len(busy) > 1 else ""
    held = "" if isinstance(first.bytes, Absent) else f", {size(first.bytes)}"
    return Told(
        f"ANOTHER PROCESS TAKES THE GPU: {process_name(first)}{held}{more} computes {percent(taken)} of the time on "
        f"GPU {gpu.index} — end or move it",
        tuple(lines),
        reason="without MPS two processes take turns on a GPU: each token waits for the other's kernels",
    )
