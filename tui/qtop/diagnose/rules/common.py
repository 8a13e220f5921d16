"""What rules share: the sections of a frame or why they cannot be judged, and shares of a request's time."""

from __future__ import annotations

from qtop.diagnose.rule import CannotTell, NotApplicable
from qtop.model.frame import EngineView, Frame, GpuView, HostView
from qtop.model.roofline import gpus_of_server
from qtop.sample import Absent, Reading, Why

MIB, GIB = float(1 << 20), float(1 << 30)


def engine_of(frame: Frame) -> EngineView | CannotTell:
    """The server's own numbers, or why they are not there and how to get them."""
    if isinstance(frame.server, Absent) and frame.server.why is not Why.NOT_RECORDED:
        return CannotTell(frame.server.detail or "no server")
    return CannotTell(said(frame.engine)) if isinstance(frame.engine, Absent) else frame.engine


def gpus_of(frame: Frame) -> tuple[GpuView, ...] | CannotTell | NotApplicable:
    """The GPUs that the server uses (where the driver does not say: the only one, else all), at least one."""
    gpus = frame.gpus
    if not isinstance(gpus, Absent) and gpus:
        return gpus_of_server(gpus) or gpus
    if isinstance(gpus, Absent):
        if gpus.why is Why.UNSUPPORTED:
            return NotApplicable(gpus.detail or "no GPU that NVML knows")
        return CannotTell(said(gpus))
    return NotApplicable("no GPU")


_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def gpus_told(frame: Frame) -> int | None:
    """GPUs by the server's settings, None where they do not tell."""
    if isinstance(frame.settings, Absent):
        return None
    sizes = [frame.settings.number(name) for name in _PARALLEL]
    if sizes[0] is None:
        return None
    product = 1.0
    for size in sizes:
        product *= size or 1.0
    return int(product)


def are_servers(frame: Frame, gpus: tuple[GpuView, ...]) -> bool:
    """Whether ``gpus_of`` gave GPUs that the server is known to use, rather than all there are for want of knowing."""
    return len(gpus) == 1 or bool(gpus_of_server(gpus)) or gpus_told(frame) == len(gpus)


def host_of(frame: Frame) -> HostView | CannotTell:
    """The host, or why not."""
    return CannotTell(said(frame.host)) if isinstance(frame.host, Absent) else frame.host


def said(absent: Absent) -> str:
    """Why a reading is absent, in words."""
    return str(absent)


def known(reading: Reading[float]) -> float | None:
    """The number, None where it is absent."""
    return None if isinstance(reading, Absent) else reading


def running_of(engine: EngineView) -> float:
    """Requests that run, 0 where the server does not tell."""
    return 0.0 if isinstance(engine.running, Absent) else engine.running


def waiting_of(engine: EngineView) -> float:
    """Requests that wait, 0 where the server does not tell."""
    return 0.0 if isinstance(engine.waiting, Absent) else engine.waiting


def stage_share(frame: Frame, *names: str) -> float | None:
    """Share of a request's time, 0–1, that these stages of the waterfall took over its window; None where it does not
    tell. The decode stage is that of a whole request, so the stages add up to its time."""
    fall = frame.waterfall
    if isinstance(fall, Absent):
        return None
    times = {stage.name: stage.ms for stage in fall.stages if not isinstance(stage.ms, Absent)}
    whole = sum(times.values())
    if whole <= 0 or not any(name in times for name in names):
        return None
    return sum(times.get(name, 0.0) for name in names) / whole


def queued_share(frame: Frame, engine: EngineView) -> float:
    """Share of a request's time, 0–1, that it spends queueing while the engine works: as the waterfall has it, else as
    many as wait of all there are, less the part of it in which the engine could not work.

    What waits now is not in the waterfall until it has ended; the larger of the two is the truth of the moment."""
    waiting, running = waiting_of(engine), running_of(engine)
    now = waiting / (waiting + running) if waiting > 0 else 0.0
    return max(now, stage_share(frame, "queue") or 0.0) * (1.0 - withheld(frame))


def withheld(frame: Frame) -> float:
    """Share of the time, 0–1, for which the engine waits for a CPU or others compute on its GPU: a queue that grows
    meanwhile is a consequence (QT201, QT202, QT121), and no limit of the server's is what it waits for."""
    waits = taken = 0.0
    if not isinstance(frame.sched, Absent):
        waits = max((one.wait for one in frame.sched.critical if one.role != "api"), default=0.0)
    for gpu in () if isinstance(frame.gpus, Absent) else gpus_of_server(frame.gpus):
        others = 0.0 if isinstance(gpu.others, Absent) else sum(known(one.sm) or 0.0 for one in gpu.others)
        if others > 0:
            taken = max(taken, others / (others + (known(gpu.server_sm) or 0.0)))
    return min(1.0, max(waits, taken))
