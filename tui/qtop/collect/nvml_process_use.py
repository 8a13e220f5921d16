"""What each process does on a GPU's SMs, as the driver samples it: 1.5–2.3 ms a call on an H100, so asked rarely."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from qtop.collect.nvml_calls import function
from qtop.collect.nvml_errors import INSUFFICIENT_SIZE, NOT_FOUND, NOT_OFFERED, refused
from qtop.sample import Absent, ProcessUse, Why

_ROW = struct.Struct("=I4xQIIII")
"""nvmlProcessUtilizationSample_t: pid, µs since 1970, and % of SMs, memory, encoder and decoder (source: nvml.h)."""
_ROOM = 64
_FIRST_S = 2.0
"""The first reading looks back so far."""


class ProcessUseReader:
    """nvmlDeviceGetProcessUtilization, read into the same memory each time."""

    def __init__(self, nvml: Any, handle: Any, clock: Callable[[], float]) -> None:
        self._nvml, self._handle, self._clock = nvml, handle, clock
        self._function = function(nvml, "nvmlDeviceGetProcessUtilization")
        self._count = ctypes.c_uint()
        self._since: int | None = None
        self._never: Absent | None = None if self._function is not None else NOT_OFFERED
        self._make_room(_ROOM)

    def _make_room(self, room: int) -> None:
        self._room = room
        self._memory = ctypes.create_string_buffer(room * _ROW.size)

    def read(self) -> tuple[ProcessUse, ...] | Absent:
        """Mean use since the last reading, by process; those that did nothing are missing. Raises GpuLost or
        DriverGone."""
        if self._never is not None:
            return self._never
        if self._since is None:
            self._since = max(0, int((self._clock() - _FIRST_S) * 1e6))
        code = self._call()
        if code == NOT_FOUND:
            return ()  # nothing newer: no process did anything
        if code:
            why = refused(self._nvml, code)
            if why.why is Why.UNSUPPORTED:
                self._never = why
            return why
        since = self._since
        used: dict[int, list[int]] = {}
        # The driver leaves rows that it did not fill as zeros.
        for pid, at, sm, *_ in _ROW.iter_unpack(memoryview(self._memory).cast("B")[: self._count.value * _ROW.size]):
            if pid and at > since:
                used.setdefault(pid, []).append(sm)
                self._since = max(self._since, at)
        return tuple(ProcessUse(pid, sum(values) / len(values)) for pid, values in sorted(used.items()))

    def _call(self) -> int:
        assert self._function is not None
        code = INSUFFICIENT_SIZE
        for _ in range(3):
            self._count.value = self._room
            since = ctypes.c_ulonglong(self._since or 0)
            code = self._function(self._handle, self._memory, ctypes.byref(self._count), since)
            if code != INSUFFICIENT_SIZE:
                break
            self._make_room(2 * max(self._count.value, self._room))
        return code
