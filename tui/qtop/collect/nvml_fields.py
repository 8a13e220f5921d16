"""Counters that NVML keeps as fields: how long each clock limit was in force, PCIe bytes and replays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtop.collect.nvml_calls import Fields
from qtop.collect.nvml_errors import NOT_OFFERED
from qtop.sample import Absent, PcieBytes, Reading, Why

_RENUMBERED = (580, 82)
"""Driver from which field ids 251–273 mean something else (nvidia-ml-py 13.580.65 against 13.580.82)."""
TYPES_64 = frozenset({2, 3, 4})
"""nvmlValueType_t of 64 bits: a ns counter has one of these; a smaller type means that the id names another field."""
_UNSIGNED = frozenset({1, 2, 3})
_TX, _RX, _REPLAYS, _MEMORY_TEMPERATURE = 197, 198, 94, 82


def counter_ids(driver: Reading[str]) -> dict[str, tuple[int, ...]]:
    """Field ids of the cumulative ns that each clock limit was in force, best first, for a driver ("580.159.03")."""
    base = 269
    if not isinstance(driver, Absent):
        numbers = [int(part) for part in driver.split(".")[:2] if part.isdigit()]
        if numbers and tuple(numbers) < _RENUMBERED:
            base = 251
    return {"power_cap": (74,), "sw_thermal": (base, 75), "hw_thermal": (base + 1,), "power_brake": (base + 2,)}


class ReasonCounters:
    """Cumulative ns by reason; which of several ids serves is found out in the first reading."""

    def __init__(self, nvml: Any, handle: Any, driver: Reading[str]) -> None:
        self._nvml, self._handle = nvml, handle
        self._ids = counter_ids(driver)
        self._fields = Fields(nvml, handle, tuple(number for ids in self._ids.values() for number in ids))
        self._chosen: dict[str, int] | None = None
        """Place among the fields by reason, once it is known."""

    def read(self) -> dict[str, Reading[int]]:
        """One answer a reason. Raises GpuLost or DriverGone."""
        answers = self._fields.read(TYPES_64)
        if self._chosen is None:
            if all(isinstance(answer, Absent) and answer.why is not Why.UNSUPPORTED for answer in answers):
                return dict.fromkeys(self._ids, answers[0])  # the call failed as a whole: it may yet work
            by_id = dict(zip(self._fields.ids, answers, strict=True))
            return self._choose(by_id)
        return {key: _counter(answers[self._chosen[key]]) if key in self._chosen else NOT_OFFERED for key in self._ids}

    def _choose(self, by_id: dict[int, Reading[int]]) -> dict[str, Reading[int]]:
        found: dict[str, int] = {}
        for key, ids in self._ids.items():
            for number in ids:
                answer = by_id[number]
                if not (isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED):
                    found[key] = number
                    break
        self._fields = Fields(self._nvml, self._handle, tuple(found.values()))
        self._chosen = {key: place for place, key in enumerate(found)}
        return {key: _counter(by_id[found.get(key, ids[0])]) for key, ids in self._ids.items()}


def _counter(answer: Reading[int]) -> Reading[int]:
    if not isinstance(answer, Absent) and answer < 0:
        return Absent(Why.FAILED, "the counter is negative")
    return answer


class PcieCounters:
    """Bytes over the link, 32 bits each."""

    def __init__(self, nvml: Any, handle: Any, clock: Callable[[], float]) -> None:
        self._fields, self._clock = Fields(nvml, handle, (_TX, _RX)), clock
        self._never: Absent | None = None

    def read(self) -> PcieBytes | Absent:
        """Both counters with the time of their reading. Raises GpuLost or DriverGone."""
        if self._never is not None:
            return self._never
        at = self._clock()
        sent, received = self._fields.read(_UNSIGNED)
        if isinstance(sent, Absent) and isinstance(received, Absent) and sent.why is Why.UNSUPPORTED:
            self._never = sent
            return sent
        return PcieBytes(at, sent, received)


class OneField:
    """A single field that is asked until the driver says that it has none."""

    def __init__(self, nvml: Any, handle: Any, number: int) -> None:
        self._fields = Fields(nvml, handle, (number,))
        self._never: Absent | None = None

    def read(self) -> Reading[int]:
        """Its value. Raises GpuLost or DriverGone."""
        if self._never is not None:
            return self._never
        answer = self._fields.read(_UNSIGNED)[0]
        if isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED:
            self._never = answer
        return answer


def replays(nvml: Any, handle: Any) -> OneField:
    """PCIe packets sent again, since the driver was loaded."""
    return OneField(nvml, handle, _REPLAYS)


def memory_temperature(nvml: Any, handle: Any) -> OneField:
    """°C. Costs a millisecond even where it is refused, as on GeForce: do not ask there."""
    return OneField(nvml, handle, _MEMORY_TEMPERATURE)
