"""What the driver samples by itself: utilization five times a second, power fifty; read as what is new since the last
reading, so that swings within a tick are seen at the price of one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from qtop.collect.nvml_calls import function
from qtop.collect.nvml_errors import INSUFFICIENT_SIZE, NOT_FOUND, NOT_OFFERED, refused
from qtop.sample import Absent, PowerSamples, UtilSamples, Why

TOTAL_POWER, GPU_UTILIZATION = 0, 1
"""nvmlSamplingType_t (source: nvml.h)."""
_UNSIGNED = (1, 2, 3)
"""nvmlValueType_t."""
_UNSIGNED_INT = 1
_PAIR_BYTES = 16
"""nvmlSample_t: CPU time in µs, a union of 64 bits."""
_NOTHING_NEW = Absent(Why.NOT_YET, "the driver has no new sample")


class SampleBuffer:
    """One of the driver's sample buffers, read into the same memory each time."""

    def __init__(self, nvml: Any, handle: Any, kind: int) -> None:
        self._nvml, self._handle, self._kind = nvml, handle, ctypes.c_uint(kind)
        self._function = function(nvml, "nvmlDeviceGetSamples")
        self._type, self._count = ctypes.c_uint(), ctypes.c_uint()
        self._since = ctypes.c_ulonglong()
        self._memory: Any = None
        self._room = 0
        self.never: Absent | None = None if self._function is not None else NOT_OFFERED

    def new(self) -> Sequence[tuple[int, int]] | Absent:
        """Pairs (µs, value) since the last call; the first call only finds out where the buffer ends."""
        if self.never is not None:
            return self.never
        first = self._since.value == 0
        code = self._read()
        if code == INSUFFICIENT_SIZE:
            self._room = 0
            code = self._read()
        if code == NOT_FOUND:
            return _NOTHING_NEW
        if code:
            why = refused(self._nvml, code)
            if why.why is Why.UNSUPPORTED:
                self.never = why
            return why
        count = min(self._count.value, self._room)
        kind = self._type.value
        if kind not in _UNSIGNED:
            self.never = Absent(Why.UNSUPPORTED, "the driver's samples have a type that qtop does not know")
            return self.never
        since = self._since.value
        both = memoryview(self._memory).cast("B")[: count * _PAIR_BYTES].cast("Q").tolist()
        times, values = both[::2], both[1::2]
        if kind == _UNSIGNED_INT:
            values = [value & 0xFFFFFFFF for value in values]  # the driver leaves the upper half as it was
        pairs = list(zip(times, values, strict=True))
        if pairs and min(times) <= since:
            pairs = [pair for pair in pairs if pair[0] > since]
        if pairs:
            self._since.value = pairs[-1][0]
        return _NOTHING_NEW if first or not pairs else pairs

    def _read(self) -> int:
        call = self._function
        assert call is not None
        type_, count = ctypes.byref(self._type), ctypes.byref(self._count)
        if not self._room:
            self._count.value = 0
            code = call(self._handle, self._kind, ctypes.c_ulonglong(0), type_, count, None)
            if code:
                return code
            self._room = max(1, self._count.value)
            self._memory = (self._nvml.c_nvmlSample_t * self._room)()
        self._count.value = self._room
        return call(self._handle, self._kind, self._since, type_, count, self._memory)


def util_samples(buffer: SampleBuffer) -> UtilSamples | Absent:
    """Every new utilization value."""
    pairs = buffer.new()
    if isinstance(pairs, Absent):
        return pairs
    first, last = pairs[0][0], pairs[-1][0]
    return UtilSamples(first, last - first, tuple(value for _, value in pairs))


def power_samples(buffer: SampleBuffer) -> PowerSamples | Absent:
    """The new power values folded to their bounds and mean: fifty a second would fill a recording."""
    pairs = buffer.new()
    if isinstance(pairs, Absent):
        return pairs
    values = [value for _, value in pairs]
    first, last = pairs[0][0], pairs[-1][0]
    return PowerSamples(first, last - first, len(values), min(values), round(sum(values) / len(values)), max(values))
