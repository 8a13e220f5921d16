"""What a GPU is: the readings that do not change while the driver stays loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qtop.collect.nvml_calls import Fields
from qtop.collect.nvml_errors import ALL_GONE, GPU_GONE, NOT_OFFERED, DriverGone, GpuLost, code_why, text_of
from qtop.collect.nvml_sysfs import local_cpus, numa_node, sysfs_bus_id
from qtop.sample import Absent, GpuFacts, Reading, Why

T = TypeVar("T")

ARCHITECTURES = {
    2: "Kepler", 3: "Maxwell", 4: "Pascal", 5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada", 9: "Hopper",
    10: "Blackwell", 13: "Rubin",
}  # fmt: skip
"""nvmlDeviceArchitecture_t (source: nvml.h 13)."""
_SHUTDOWN, _SLOWDOWN = 0, 1
"""nvmlTemperatureThresholds_t."""
_TLIMIT = (193, 194)
"""Fields: T.Limit values at shutdown and slowdown."""
_SIGNED = frozenset({5})
"""nvmlValueType_t of a signed int."""


def _architecture(number: int) -> str:
    return ARCHITECTURES.get(number, f"architecture {number}")


class Facts:
    """Readings that are asked until they are had, each on its own, and from then on remembered."""

    def __init__(self, nvml: Any, handle: Any, sysfs: Path) -> None:
        self._nvml, self._handle, self._sysfs = nvml, handle, sysfs
        self._known: dict[str, Any] = {}
        self._facts: GpuFacts | None = None

    def once(self, key: str, *ways: Callable[[], T]) -> Reading[T]:
        """The first of several calls that this driver offers, asked until it answers or none of them is offered.

        Raises GpuLost or DriverGone where no other reading can follow.
        """
        if key in self._known:
            known: Reading[T] = self._known[key]
            return known
        answer: Reading[T] = NOT_OFFERED
        for way in ways:
            answer = self._ask(way)
            if not (isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED):
                break
        if not isinstance(answer, Absent) or answer.why is Why.UNSUPPORTED:
            self._known[key] = answer
        return answer

    def _ask(self, call: Callable[[], T]) -> Reading[T]:
        try:
            return call()
        except Exception as error:
            code, why = code_why(self._nvml, error)
            if code in GPU_GONE:
                raise GpuLost(why) from error
            if code in ALL_GONE:
                raise DriverGone(why) from error
            return why

    def uuid(self) -> Reading[str]:
        """The GPU's identity, "GPU-…"."""
        return self.once("uuid", lambda: text_of(self._nvml.nvmlDeviceGetUUID(self._handle)))

    def name(self) -> Reading[str]:
        """The product's name."""
        return self.once("name", lambda: text_of(self._nvml.nvmlDeviceGetName(self._handle)))

    def bus_id(self) -> Reading[str]:
        """PCI bus id as sysfs writes it."""
        return self.once("bus id", lambda: sysfs_bus_id(text_of(self._nvml.nvmlDeviceGetPciInfo(self._handle).busId)))

    def local_cpus(self) -> Reading[str]:
        """CPUs near the GPU, as a kernel list."""
        return self._of_sysfs("local cpus", local_cpus)

    def _of_sysfs(self, key: str, read: Callable[[Path, Reading[str]], Reading[T]]) -> Reading[T]:
        if key not in self._known:
            bus_id = self.bus_id()
            answer = read(self._sysfs, bus_id)
            if isinstance(bus_id, Absent) and bus_id.why is not Why.UNSUPPORTED:
                return answer
            self._known[key] = answer
        known: Reading[T] = self._known[key]
        return known

    def clock_max(self, kind: int) -> Reading[int]:
        """Highest SM (1) or memory (2) clock, MHz."""
        return self.once(f"clock max {kind}", lambda: int(self._nvml.nvmlDeviceGetMaxClockInfo(self._handle, kind)))

    def all(self) -> GpuFacts:
        """The rest of them; the same object once nothing is left to ask."""
        if self._facts is not None:
            return self._facts
        nvml, handle, once = self._nvml, self._handle, self.once
        limits = once("limits", lambda: nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
        shutdown, slowdown = self._tlimit()
        facts = GpuFacts(
            arch=once("arch", lambda: _architecture(nvml.nvmlDeviceGetArchitecture(handle))),
            compute=once("compute", lambda: "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(handle))),
            bus_width_bits=once("bus", lambda: int(nvml.nvmlDeviceGetMemoryBusWidth(handle))),
            numa_node=self._of_sysfs("numa", numa_node),
            slowdown_c=once("slowdown", lambda: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, _SLOWDOWN))),
            shutdown_c=once("shutdown", lambda: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, _SHUTDOWN))),
            slowdown_tlimit=slowdown,
            shutdown_tlimit=shutdown,
            power_default_mw=once("power default", lambda: int(nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))),
            power_min_mw=limits if isinstance(limits, Absent) else int(limits[0]),
            power_max_mw=limits if isinstance(limits, Absent) else int(limits[1]),
            pcie_gen_max=once("gen max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle))),
            pcie_width_max=once("width max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle))),
            pcie_gen_device=once("gen device", lambda: int(nvml.nvmlDeviceGetGpuMaxPcieLinkGeneration(handle))),
        )
        values = (getattr(facts, name) for name in facts.__struct_fields__)
        if not any(isinstance(value, Absent) and value.why is not Why.UNSUPPORTED for value in values):
            self._facts = facts
        return facts

    def _tlimit(self) -> tuple[Reading[int], Reading[int]]:
        """T.Limit values at shutdown and slowdown, °C below the highest operating temperature (as negatives)."""
        known: list[Reading[int]] | None = self._known.get("tlimit")
        if known is None:
            known = Fields(self._nvml, self._handle, _TLIMIT).read(_SIGNED)
            if not any(isinstance(value, Absent) and value.why is not Why.UNSUPPORTED for value in known):
                self._known["tlimit"] = known
        return known[0], known[1]
