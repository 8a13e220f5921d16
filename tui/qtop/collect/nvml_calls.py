"""NVML calls that are made every second: the function looked up once, its buffers kept, no exception for what is
usual. pynvml gives the library and the struct layouts; its own wrappers allocate both anew in each call."""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from qtop.collect.nvml_errors import INVALID_ARGUMENT, NOT_OFFERED, refused
from qtop.sample import Absent, Reading, Why

T = TypeVar("T")


class Way(NamedTuple, Generic[T]):
    """One NVML function with its arguments, buffers included, and what to make of them when it returned 0."""

    name: str
    arguments: tuple[Any, ...]
    take: Callable[[], T]


def function(nvml: Any, name: str) -> Callable[..., int] | None:
    """A function of the library that pynvml has opened; None if this driver has none of that name."""
    try:
        found: Callable[..., int] = getattr(nvml.nvmlLib, name)
    except AttributeError:
        return None
    return found


class Question(Generic[T]):
    """One reading: the first of several ways that this GPU and driver offer, kept from then on."""

    __slots__ = ("_call", "_nvml", "_ways")

    def __init__(self, nvml: Any, *ways: Way[T]) -> None:
        self._nvml = nvml
        self._ways = deque(ways)
        self._call: tuple[Callable[..., int], tuple[Any, ...], Callable[[], T]] | None = None
        self._next()

    def _next(self) -> None:
        """Turn to the next way that the library has."""
        self._call = None
        while self._ways and self._call is None:
            way = self._ways.popleft()
            found = function(self._nvml, way.name)
            if found is not None:
                self._call = (found, way.arguments, way.take)

    def ask(self) -> Reading[T]:
        """The reading, or why not. Raises GpuLost or DriverGone where no other reading can follow."""
        call = self._call
        if call is None:
            return NOT_OFFERED
        code = call[0](*call[1])
        if code:
            why = refused(self._nvml, code)
            if why.why is not Why.UNSUPPORTED:
                return why
            self._next()
            return self.ask()
        return call[2]()


def unsigned(nvml: Any, handle: Any, *calls: tuple[Any, ...]) -> Question[int]:
    """A reading of one unsigned int behind the handle and other arguments: ("nvmlDeviceGetClockInfo", 1)."""
    out = ctypes.c_uint()
    there = ctypes.byref(out)
    take = lambda: out.value  # noqa: E731 - called every second: no def line inside a comprehension
    return Question(nvml, *(Way(name, (handle, *more, there), take) for name, *more in calls))


def unsigned64(nvml: Any, handle: Any, *calls: tuple[Any, ...]) -> Question[int]:
    """As ``unsigned``, for an unsigned long long."""
    out = ctypes.c_ulonglong()
    there = ctypes.byref(out)
    take = lambda: out.value  # noqa: E731
    return Question(nvml, *(Way(name, (handle, *more, there), take) for name, *more in calls))


class Fields:
    """Field values by id, read in one call into the same array each time; each has its own answer.

    A batch costs what its slowest member costs, so cheap and expensive ids belong into batches of their own.
    """

    def __init__(self, nvml: Any, handle: Any, ids: tuple[int, ...]) -> None:
        self.ids = ids
        array = (nvml.c_nvmlFieldValue_t * max(1, len(ids)))()
        for place, number in enumerate(ids):
            array[place].fieldId = number
        self._memory = memoryview(array).cast("B")[: len(ids) * _FIELD.size]
        self._nvml = nvml
        arguments = (handle, ctypes.c_int(len(ids)), ctypes.byref(array))
        self._question = Question(nvml, Way("nvmlDeviceGetFieldValues", arguments, lambda: None))

    def read(self, types: frozenset[int]) -> list[Reading[int]]:
        """One answer an id; what has another type than ``types`` (nvmlValueType_t) is another field on this driver."""
        if not self.ids:
            return []
        failed = self._question.ask()
        if isinstance(failed, Absent):
            return [failed] * len(self.ids)
        return [
            value_of(kind, raw) if not code and kind in types else self._no_value(number, code)
            for number, kind, code, raw in _FIELD.iter_unpack(self._memory)
        ]

    def _no_value(self, number: int, code: int) -> Absent:
        if not code:
            return Absent(Why.UNSUPPORTED, f"field {number} is something else on this driver")
        # this is how a driver answers for an id newer than itself
        return NOT_OFFERED if code == INVALID_ARGUMENT else refused(self._nvml, code)


_FIELD = struct.Struct("=I4x16xIIQ")
"""nvmlFieldValue_t: id, scope, two times of 64 bits, type, return code, a union of 64 bits."""


def value_of(kind: int, raw: int) -> int:
    """The integer in nvmlValue_t's 64 bits; the driver leaves the upper half as it was where the type is shorter."""
    if kind == 1:
        return raw & 0xFFFFFFFF
    if kind == 5:
        low = raw & 0xFFFFFFFF
        return low - (low >> 31 << 32)
    return raw - (raw >> 63 << 64) if kind == 4 else raw


def plain(layout: Any) -> Any:
    """pynvml's struct without its attribute access in Python, which costs more than the call."""
    return type(layout.__name__, (ctypes.Structure,), {"_fields_": layout._fields_})
