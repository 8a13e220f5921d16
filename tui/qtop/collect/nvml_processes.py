"""The processes on a GPU: compute, graphics and MPS clients, with what each one holds."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

from qtop.collect.kept import read_text
from qtop.collect.nvml_calls import function
from qtop.collect.nvml_errors import INSUFFICIENT_SIZE, NOT_OFFERED, refused
from qtop.sample import Absent, GpuProcess, Reading, Why

NO_PROCESS_MEMORY = Absent(Why.UNSUPPORTED, "the driver does not say how much this process uses")
_UNKNOWN = (1 << 64) - 1
"""usedGpuMemory where the driver does not tell."""
_NEW, _OLD = struct.Struct("=I4xQII"), struct.Struct("=I4xQ")
"""nvmlProcessInfo_t since _v2 (pid, bytes, GPU instance, compute instance), and before."""
_ROOM = 32


class ProcessList:
    """One of NVML's process lists ("Compute", "Graphics", "MPSCompute"), read into the same memory each time."""

    def __init__(self, nvml: Any, handle: Any, kind: str) -> None:
        self._nvml, self._handle = nvml, handle
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        found = [(function(nvml, f"{name}{suffix}"), layout) for suffix, layout in
                 (("_v3", _NEW), ("_v2", _NEW), ("", _OLD))]  # fmt: skip
        self._ways = [(call, layout) for call, layout in found if call is not None]
        self._count = ctypes.c_uint()
        self._make_room(_ROOM)

    def _make_room(self, room: int) -> None:
        self._room = room
        self._memory = ctypes.create_string_buffer(room * _NEW.size)

    def read(self) -> dict[int, int] | Absent:
        """Bytes by pid, ``_UNKNOWN`` where the driver does not tell. Raises GpuLost or DriverGone."""
        while self._ways:
            call, layout = self._ways[0]
            code = INSUFFICIENT_SIZE
            for _ in range(3):  # the list may grow between two calls
                self._count.value = self._room
                code = call(self._handle, ctypes.byref(self._count), self._memory)
                if code != INSUFFICIENT_SIZE:
                    break
                self._make_room(2 * max(self._count.value, self._room))
            if code == 0:
                count = self._count.value
                if not count:
                    return {}
                rows = layout.iter_unpack(memoryview(self._memory).cast("B")[: count * layout.size])
                return {row[0]: row[1] for row in rows}
            why = refused(self._nvml, code)
            if why.why is not Why.UNSUPPORTED:
                return why
            self._ways.pop(0)
        return NOT_OFFERED


class Processes:
    """All processes of one GPU with their names; a list that has not changed is the same object."""

    def __init__(self, nvml: Any, handle: Any, proc: Path) -> None:
        self._compute = ProcessList(nvml, handle, "Compute")
        self._graphics = ProcessList(nvml, handle, "Graphics")
        self._mps = ProcessList(nvml, handle, "MPSCompute")
        self._proc = proc
        self._mps_pids: frozenset[int] = frozenset()
        self._names: dict[int, str] = {}
        self._key: tuple[object, ...] = ()
        self._last: tuple[GpuProcess, ...] = ()

    def read(self, anew: bool) -> tuple[GpuProcess, ...] | Absent:
        """The processes; ``anew`` also asks for MPS clients and names again, which change rarely.

        A process in several lists is one process: its kind is "mps", else "compute", else "graphics". Names are
        those of this pid namespace ("" where it has no such process): NVML counts pids as the host does.
        """
        compute = self._compute.read()
        if isinstance(compute, Absent):
            return compute
        graphics = self._graphics.read()
        others: dict[int, int] = {} if isinstance(graphics, Absent) else graphics
        if anew:
            clients = self._mps.read()
            self._mps_pids = frozenset() if isinstance(clients, Absent) else frozenset(clients)
            self._names.clear()
        key = (compute, others, self._mps_pids)
        if key == self._key and not anew:
            return self._last
        pids = sorted({*compute, *others})
        self._names = {pid: self._names.get(pid) or self._name(pid) for pid in pids}
        self._key = key
        self._last = tuple(
            GpuProcess(
                pid,
                _bytes(max((held[pid] for held in (compute, others) if pid in held), default=_UNKNOWN)),
                "mps" if pid in self._mps_pids else "compute" if pid in compute else "graphics",
                self._names[pid],
            )
            for pid in pids
        )
        return self._last

    def _name(self, pid: int) -> str:
        text = read_text(self._proc / str(pid) / "comm")
        return "" if isinstance(text, Absent) else text.rstrip("\n")


def _bytes(used: int) -> Reading[int]:
    return NO_PROCESS_MEMORY if used == _UNKNOWN else used
