"""Who is on a GPU: the server's processes and the others, what each one holds and does. Pure functions."""

from __future__ import annotations

from qtop.model.gpu_view import OtherProcess
from qtop.sample import Absent, GpuProcess, GpuSample, ProcessUse, Reading, Why

UNSEEN_BYTES = 1 << 30
"""Memory in use that no listed process holds: from here on there are processes that the driver does not list here."""
NO_SERVER = Absent(Why.NOT_YET, "the server's processes are not known")
UNLISTED = Absent(Why.NOT_HERE, "the driver does not list the server here (a container, or no right to see it)")
ALONE = Absent(Why.NOT_YET, "asked only where several processes share the GPU")


def split(gpu: GpuSample, pids: frozenset[int] | None) -> tuple[list[GpuProcess], list[GpuProcess]] | Absent:
    """The server's processes on a GPU and the others; NVML counts pids as the host does, as ``pids`` must be."""
    listed = gpu.processes
    if isinstance(listed, Absent):
        return listed
    if pids is None:
        return NO_SERVER
    own = [process for process in listed if process.pid in pids]
    others = [process for process in listed if process.pid not in pids]
    if not own:
        seen = sum(process.bytes for process in others if not isinstance(process.bytes, Absent))
        unseen = 0 if isinstance(gpu.mem_used, Absent) else gpu.mem_used - seen
        # A process without a name here has a number of another namespace: the server may be it.
        nameless = any(not process.comm and process.bytes for process in others if isinstance(process.bytes, int))
        if unseen >= UNSEEN_BYTES or nameless:
            return UNLISTED
    return own, others


def shared_by(
    gpu: GpuSample, pids: frozenset[int] | None, use: tuple[ProcessUse, ...] | Absent
) -> tuple[tuple[OtherProcess, ...] | Absent, Reading[float]]:
    """The processes that are not the server's, and the share of the SMs' time that the server's took."""
    parts = split(gpu, pids)
    if isinstance(parts, Absent):
        return parts, parts
    own, others = parts
    if not others:
        return (), ALONE
    sm = use if isinstance(use, Absent) else {one.pid: one.sm / 100.0 for one in use}

    def of(pid: int) -> Reading[float]:
        return sm if isinstance(sm, Absent) else sm.get(pid, 0.0)

    found = [OtherProcess(one.pid, one.comm, one.kind, one.bytes, of(one.pid)) for one in others]
    mine: Reading[float] = sm if isinstance(sm, Absent) else sum(sm.get(one.pid, 0.0) for one in own)
    return tuple(sorted(found, key=_size, reverse=True)), mine


def _size(one: OtherProcess) -> tuple[float, int]:
    return 0.0 if isinstance(one.sm, Absent) else one.sm, 0 if isinstance(one.bytes, Absent) else one.bytes
