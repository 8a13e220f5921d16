"""One GPU through NVML: its readings, each on its own, and what an NVML error means. NVML is passed in, never imported.

No call here blocks: PCIe throughput (20 ms), energy, average power and memory temperature are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from qtop.collect.kept import read_text
from qtop.sample import Absent, GpuProcess, GpuSample, Reading, Why
from qtop.sample.cpulist import parse, show

T = TypeVar("T")

_RENUMBERED = (580, 82)
"""Driver from which field ids 251–273 mean something else (nvidia-ml-py 13.580.65 against 13.580.82)."""
_TYPES_64 = {2: "ulVal", 3: "ullVal", 4: "sllVal"}
"""nvmlValueType_t of 64 bits: a ns counter has one of these; a smaller type means that the id names another field."""

# nvmlReturn_t, as nvml.h fixes it; older bindings lack names for the newer ones.
_UNINITIALIZED, _INVALID_ARGUMENT, _NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND = 1, 2, 3, 4, 6
_DRIVER_NOT_LOADED, _FUNCTION_NOT_FOUND, _GPU_IS_LOST, _RESET_REQUIRED = 9, 13, 15, 16
_DRIVER_MISMATCH, _VERSION_MISMATCH, _DEPRECATED, _GPU_NOT_FOUND = 18, 25, 26, 28
_GPU_GONE = frozenset({_GPU_IS_LOST, _RESET_REQUIRED})
ALL_GONE = frozenset({_UNINITIALIZED, _DRIVER_NOT_LOADED, _DRIVER_MISMATCH})

NOT_OFFERED = Absent(Why.UNSUPPORTED, "this GPU or driver does not offer it")
NO_RESERVE = Absent(Why.UNSUPPORTED, "this driver counts what it reserves as used")
NO_PROCESS_MEMORY = Absent(Why.UNSUPPORTED, "the driver does not say how much this process uses")
_WHY = {
    **dict.fromkeys((_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _VERSION_MISMATCH, _DEPRECATED), NOT_OFFERED),
    _NO_PERMISSION: Absent(Why.DENIED, "the NVIDIA driver denies it to this user"),
    _GPU_IS_LOST: Absent(Why.LOST, "the GPU fell off the bus; the kernel log (Xid) says why"),
    _RESET_REQUIRED: Absent(Why.LOST, "the GPU needs a reset (nvidia-smi --gpu-reset)"),
    **dict.fromkeys((_NOT_FOUND, _GPU_NOT_FOUND), Absent(Why.LOST, "the NVIDIA driver does not find it")),
    _UNINITIALIZED: Absent(Why.LOST, "the connection to the NVIDIA driver was lost"),
    _DRIVER_NOT_LOADED: Absent(Why.LOST, "the NVIDIA driver is not loaded (modprobe nvidia)"),
    _DRIVER_MISMATCH: Absent(Why.FAILED, "the NVIDIA driver was updated: reload it or reboot, then restart qtop"),
}


class GpuLost(Exception):
    """This GPU answers nothing any more; the others may."""

    def __init__(self, why: Absent) -> None:
        super().__init__(why.detail)
        self.why = why


class DriverGone(Exception):
    """NVML as a whole has to be opened again."""

    def __init__(self, why: Absent) -> None:
        super().__init__(why.detail)
        self.why = why


def counter_ids(driver: Reading[str]) -> dict[str, tuple[int, ...]]:
    """Field ids of the cumulative ns that each clock limit was in force, best first, for a driver ("580.159.03")."""
    base = 269
    if not isinstance(driver, Absent):
        numbers = [int(part) for part in driver.split(".")[:2] if part.isdigit()]
        if numbers and tuple(numbers) < _RENUMBERED:
            base = 251
    return {"power_cap": (74,), "sw_thermal": (base, 75), "hw_thermal": (base + 1,), "power_brake": (base + 2,)}


def sysfs_bus_id(bus_id: str) -> str:
    """NVML's bus id ("00000000:17:00.0") as sysfs and lspci write it ("0000:17:00.0"); ValueError if it is none."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    if not rest:
        raise ValueError(f"not a PCI bus id: {bus_id!r}")
    return f"{int(domain, 16):04x}:{rest}"


def text_of(value: bytes | str) -> str:
    """NVML's text; pynvml hands out bytes from some functions and str from others."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _why(nvml: Any, code: int) -> Absent:
    """What an nvmlReturn_t means for a reading; a code without a meaning here comes with NVML's own words."""
    known = _WHY.get(code)
    if known is not None:
        return known
    try:
        return Absent(Why.FAILED, f"NVML: {text_of(nvml.nvmlErrorString(code))}")
    except Exception:
        return Absent(Why.FAILED, f"NVML error {code}")


def code_why(nvml: Any, error: Exception) -> tuple[int, Absent]:
    """The nvmlReturn_t of a failed call (0 if it has none) and why it failed.

    pynvml raises more than NVMLError: a mismatch error for a missing function, AttributeError for one that it does not
    know itself, UnicodeDecodeError for text that is none.
    """
    if isinstance(error, nvml.NVMLError):
        code = int(getattr(error, "value", 0))
        return code, _why(nvml, code)
    if isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError":
        return 0, NOT_OFFERED
    return 0, Absent(Why.FAILED, f"NVML answered what cannot be read ({type(error).__name__})")


class Gpu:
    """One GPU while NVML stays open: its handle, what never changes, and what it does not offer (asked once)."""

    def __init__(self, nvml: Any, handle: Any, driver: Reading[str], sysfs: Path) -> None:
        self._nvml, self._handle, self._sysfs = nvml, handle, sysfs
        self._never: dict[str, Absent] = {}
        self._static: dict[str, Any] = {}
        self._ids = counter_ids(driver)
        self._chosen: dict[str, int] | None = None

    def _ask(self, key: str, call: Callable[[], T]) -> Reading[T]:
        """One reading on its own. Raises GpuLost or DriverGone where no other reading can follow."""
        never = self._never.get(key)
        if never is not None:
            return never
        try:
            return call()
        except Exception as error:
            code, why = code_why(self._nvml, error)
            if code in _GPU_GONE:
                raise GpuLost(why) from error
            if code in ALL_GONE:
                raise DriverGone(why) from error
            if why.why is Why.UNSUPPORTED:
                self._never[key] = why
            return why

    def _either(self, key: str, *ways: Callable[[], T]) -> Reading[T]:
        """The first of several calls that this driver offers."""
        answer: Reading[T] = NOT_OFFERED
        for number, way in enumerate(ways):
            answer = self._ask(f"{key} {number}", way)
            if not (isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED):
                break
        return answer

    def _once(self, key: str, *ways: Callable[[], T]) -> Reading[T]:
        """A reading that does not change: asked until it is had."""
        if key in self._static:
            value: T = self._static[key]
            return value
        answer = self._either(key, *ways)
        if not isinstance(answer, Absent):
            self._static[key] = answer
        return answer

    def uuid(self) -> Reading[str]:
        """The GPU's identity, "GPU-…". Raises GpuLost or DriverGone."""
        return self._once("uuid", lambda: text_of(self._nvml.nvmlDeviceGetUUID(self._handle)))

    def _bus_id(self) -> Reading[str]:
        return self._once("bus id", lambda: sysfs_bus_id(text_of(self._nvml.nvmlDeviceGetPciInfo(self._handle).busId)))

    def _local_cpus(self) -> Reading[str]:
        bus_id = self._bus_id()
        if isinstance(bus_id, Absent):
            return bus_id
        if "local cpus" not in self._static:
            self._static["local cpus"] = self._ask("local cpus", lambda: self._near(bus_id))
        near: Reading[str] = self._static["local cpus"]
        return near

    def _near(self, bus_id: str) -> Reading[str]:
        """CPUs near the GPU by sysfs; the kernel gives an empty list where it does not know."""
        text = read_text(self._sysfs / "bus/pci/devices" / bus_id / "local_cpulist")
        if isinstance(text, Absent):
            return text
        return show(parse(text)) or Absent(Why.UNSUPPORTED, "the kernel does not say which CPUs are near the GPU")

    def _memory(self) -> tuple[Reading[int], Reading[int], Reading[int]]:
        """Total, used and reserved bytes; v1 has no reserved, and its used includes it."""
        nvml, handle = self._nvml, self._handle
        memory: Any = self._either(
            "memory",
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
        )
        if isinstance(memory, Absent):
            return memory, memory, memory
        return int(memory.total), int(memory.used), int(memory.reserved) if hasattr(memory, "reserved") else NO_RESERVE

    def _reasons(self) -> Reading[int]:
        nvml, handle = self._nvml, self._handle
        reasons: Reading[int] = self._either(
            "reasons",
            lambda: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
            lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        )
        if isinstance(reasons, Absent):
            return reasons
        supported: Reading[int] = self._once(
            "supported reasons",
            lambda: int(nvml.nvmlDeviceGetSupportedClocksEventReasons(handle)),
            lambda: int(nvml.nvmlDeviceGetSupportedClocksThrottleReasons(handle)),
        )
        if isinstance(supported, Absent):
            return reasons
        return reasons & supported if supported else NOT_OFFERED

    def _fields(self, ids: Sequence[int]) -> dict[int, Reading[int]] | Absent:
        """64-bit fields by id in one call; each has its own answer."""
        values: Any = self._ask("fields", lambda: self._nvml.nvmlDeviceGetFieldValues(self._handle, list(ids)))
        if isinstance(values, Absent):
            return values
        return {number: self._field(number, value) for number, value in zip(ids, values, strict=True)}

    def _field(self, number: int, field: Any) -> Reading[int]:
        code = int(field.nvmlReturn)
        if code in _GPU_GONE:
            raise GpuLost(_why(self._nvml, code))
        if code in ALL_GONE:
            raise DriverGone(_why(self._nvml, code))
        if code == _INVALID_ARGUMENT:
            return NOT_OFFERED  # how a driver answers for an id newer than itself
        if code:
            return _why(self._nvml, code)
        member = _TYPES_64.get(int(field.valueType))
        if member is None:
            return Absent(Why.UNSUPPORTED, f"field {number} is no counter on this driver")
        value = int(getattr(field.value, member))
        return value if value >= 0 else Absent(Why.FAILED, f"field {number} is negative")

    def _reason_ns(self) -> dict[str, Reading[int]]:
        chosen = self._chosen
        if chosen is not None:
            answers = self._fields(list(chosen.values())) if chosen else {}
            if isinstance(answers, Absent):
                return dict.fromkeys(self._ids, answers)
            return {key: answers[chosen[key]] if key in chosen else NOT_OFFERED for key in self._ids}
        answers = self._fields([number for ids in self._ids.values() for number in ids])
        if isinstance(answers, Absent):
            return dict.fromkeys(self._ids, answers)
        self._chosen = {}
        for key, ids in self._ids.items():
            for number in ids:
                answer = answers[number]
                if not (isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED):
                    self._chosen[key] = number
                    break
        return {key: answers[self._chosen.get(key, ids[0])] for key, ids in self._ids.items()}

    def _processes(self) -> tuple[GpuProcess, ...] | Absent:
        nvml, handle = self._nvml, self._handle
        listed: Any = self._either(
            "processes",
            lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle),
            lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle),
        )
        if isinstance(listed, Absent):
            return listed
        return tuple(
            GpuProcess(int(one.pid), NO_PROCESS_MEMORY if one.usedGpuMemory is None else int(one.usedGpuMemory))
            for one in listed
        )

    def sample(self, at: float, index: int) -> GpuSample:
        """All readings of this GPU. Raises GpuLost or DriverGone."""
        nvml, handle = self._nvml, self._handle
        sm, mem, core = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM, nvml.NVML_TEMPERATURE_GPU
        util: Any = self._ask("utilization", lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        total, used, reserved = self._memory()
        return GpuSample(
            gpm=Absent(Why.UNSUPPORTED, "this version of qtop does not read GPM"),
            at=at,
            index=index,
            uuid=self.uuid(),
            name=self._once("name", lambda: text_of(nvml.nvmlDeviceGetName(handle))),
            bus_id=self._bus_id(),
            local_cpus=self._local_cpus(),
            util=util if isinstance(util, Absent) else int(util.gpu),
            mem_util=util if isinstance(util, Absent) else int(util.memory),
            mem_total=total,
            mem_used=used,
            mem_reserved=reserved,
            temp_c=self._either(
                "temperature",
                lambda: int(nvml.nvmlDeviceGetTemperature(handle, core)),
                lambda: int(nvml.nvmlDeviceGetTemperatureV(handle, core)),
            ),
            power_mw=self._ask("power", lambda: int(nvml.nvmlDeviceGetPowerUsage(handle))),
            power_limit_mw=self._ask("power limit", lambda: int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))),
            sm_mhz=self._ask("SM clock", lambda: int(nvml.nvmlDeviceGetClockInfo(handle, sm))),
            sm_max_mhz=self._once("SM clock max", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, sm))),
            mem_mhz=self._ask("memory clock", lambda: int(nvml.nvmlDeviceGetClockInfo(handle, mem))),
            mem_max_mhz=self._once("memory clock max", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, mem))),
            reasons=self._reasons(),
            reason_ns=self._reason_ns(),
            pcie_gen=self._ask("PCIe gen", lambda: int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle))),
            pcie_width=self._ask("PCIe width", lambda: int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle))),
            processes=self._processes(),
        )
