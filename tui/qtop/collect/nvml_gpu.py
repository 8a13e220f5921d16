"""One GPU through NVML: its readings, each on its own. NVML is passed in, never imported.

What it costs decides how often it is read (figures: one H100, driver 580, CPU time a call). Each tick: utilization,
memory, temperature, power, clocks, reasons, processes (together 1 ms), GPM (2.2 ms), the ns counters (0.7 ms), power
samples (0.4 ms). Every ``SLOW`` ticks: the thermal margin (1 ms), ECC, replays, MIG mode (0.4 ms each), where several
processes share the GPU what each one does (2 ms), and, where GPM tells how busy the SMs are, the utilization samples
(1.4 ms; the driver keeps 14 s of them, so none is missed). Once: what does not change. Never: PCIe throughput (blocks
for 20 ms), energy, average power.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtop.collect.nvml_calls import Question, Way, plain, unsigned, unsigned64
from qtop.collect.nvml_errors import NOT_OFFERED
from qtop.collect.nvml_facts import Facts
from qtop.collect.nvml_fields import PcieCounters, ReasonCounters, memory_temperature, replays
from qtop.collect.nvml_gpm import GpmReader
from qtop.collect.nvml_process_use import ProcessUseReader
from qtop.collect.nvml_processes import Processes
from qtop.collect.nvml_samples import GPU_UTILIZATION, TOTAL_POWER, SampleBuffer, power_samples, util_samples
from qtop.sample import NOT_RECORDED, Absent, GpuSample, GpuSlow, Reading, Why

SLOW = 5
"""Ticks from one reading of the slow ones to the next; the GPUs of a host take turns."""
_SM, _MEMORY = 1, 2
"""nvmlClockType_t."""
_CORRECTED, _UNCORRECTED, _VOLATILE = 0, 1, 0
"""nvmlMemoryErrorType_t and nvmlEccCounterType_t."""

NO_RESERVE = Absent(Why.UNSUPPORTED, "this driver counts what it reserves as used")
GEFORCE_MEMORY = Absent(Why.UNSUPPORTED, "GeForce does not tell the temperature of its memory")


class Gpu:
    """One GPU while NVML stays open: its handle, its kept buffers, and what it does not offer (asked once)."""

    def __init__(
        self,
        nvml: Any,
        handle: Any,
        driver: Reading[str],
        sysfs: Path,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.handle = handle
        self.facts = Facts(nvml, handle, sysfs)
        self._clock = clock
        util = plain(nvml.c_nvmlUtilization_t)()
        self._util = Question(
            nvml, Way("nvmlDeviceGetUtilizationRates", (handle, ctypes.byref(util)), lambda: (util.gpu, util.memory))
        )
        self._memory = _memory_question(nvml, handle)
        self._temperature = _temperature_question(nvml, handle)
        self._power = unsigned(nvml, handle, ("nvmlDeviceGetPowerUsage",))
        self._limit = unsigned(nvml, handle, ("nvmlDeviceGetEnforcedPowerLimit",))
        self._sm = unsigned(nvml, handle, ("nvmlDeviceGetClockInfo", _SM))
        self._mem = unsigned(nvml, handle, ("nvmlDeviceGetClockInfo", _MEMORY))
        self._pstate = unsigned(nvml, handle, ("nvmlDeviceGetPerformanceState",))
        self._gen = unsigned(nvml, handle, ("nvmlDeviceGetCurrPcieLinkGeneration",))
        self._width = unsigned(nvml, handle, ("nvmlDeviceGetCurrPcieLinkWidth",))
        names = ("EventReasons", "ThrottleReasons")
        self._reasons = unsigned64(nvml, handle, *((f"nvmlDeviceGetCurrentClocks{name}",) for name in names))
        self._supported = unsigned64(nvml, handle, *((f"nvmlDeviceGetSupportedClocks{name}",) for name in names))
        self._mask: int | None = None
        self._counters = ReasonCounters(nvml, handle, driver)
        self._pcie = PcieCounters(nvml, handle, clock)
        self._processes = Processes(nvml, handle, proc)
        self._use = ProcessUseReader(nvml, handle, clock)
        self._gpm = GpmReader(nvml, handle)
        self._utils = SampleBuffer(nvml, handle, GPU_UTILIZATION)
        self._powers = SampleBuffer(nvml, handle, TOTAL_POWER)
        self._margin = _margin_question(nvml, handle)
        ecc = "nvmlDeviceGetTotalEccErrors"
        self._corrected = unsigned64(nvml, handle, (ecc, _CORRECTED, _VOLATILE))
        self._uncorrected = unsigned64(nvml, handle, (ecc, _UNCORRECTED, _VOLATILE))
        self._replays = replays(nvml, handle)
        self._memory_temperature = memory_temperature(nvml, handle)
        self._mig = _mig_question(nvml, handle)
        self._slow: GpuSlow | None = None
        self._ticks = 0

    def uuid(self) -> Reading[str]:
        """The GPU's identity, "GPU-…". Raises GpuLost or DriverGone."""
        return self.facts.uuid()

    def close(self) -> None:
        """Give back what the driver lent."""
        self._gpm.close()

    def _reason_bits(self) -> Reading[int]:
        reasons = self._reasons.ask()
        if isinstance(reasons, Absent):
            return reasons
        if self._mask is None:
            supported = self._supported.ask()
            if isinstance(supported, Absent):
                return reasons
            self._mask = supported
        return reasons & self._mask if self._mask else NOT_OFFERED

    def _read_slow(self, name: Reading[str]) -> GpuSlow:
        geforce = isinstance(name, str) and "GeForce" in name
        return GpuSlow(
            at=self._clock(),
            margin_c=self._margin.ask(),
            mem_temp_c=GEFORCE_MEMORY if geforce else self._memory_temperature.read(),
            ecc_corrected=self._corrected.ask(),
            ecc_uncorrected=self._uncorrected.ask(),
            replays=self._replays.read(),
            mig=self._mig.ask(),
        )

    def sample(self, at: float, index: int) -> GpuSample:
        """All readings of this GPU. Raises GpuLost or DriverGone."""
        facts = self.facts
        slow = self._slow is None or (self._ticks + index) % SLOW == 0
        self._ticks += 1
        util = self._util.ask()
        memory = self._memory.ask()
        name = facts.name()
        gpm = self._gpm.read(self._clock())
        has_gpm = not isinstance(gpm, Absent) or gpm.why is Why.NOT_YET
        if slow or self._slow is None:
            self._slow = self._read_slow(name)
        processes = self._processes.read(anew=slow)
        shared = not isinstance(processes, Absent) and len(processes) > 1
        return GpuSample(
            at=at,
            index=index,
            uuid=facts.uuid(),
            name=name,
            bus_id=facts.bus_id(),
            local_cpus=facts.local_cpus(),
            util=util if isinstance(util, Absent) else util[0],
            mem_util=util if isinstance(util, Absent) else util[1],
            mem_total=memory if isinstance(memory, Absent) else memory[0],
            mem_used=memory if isinstance(memory, Absent) else memory[1],
            mem_reserved=memory if isinstance(memory, Absent) else memory[2],
            temp_c=self._temperature.ask(),
            power_mw=self._power.ask(),
            power_limit_mw=self._limit.ask(),
            sm_mhz=self._sm.ask(),
            sm_max_mhz=facts.clock_max(_SM),
            mem_mhz=self._mem.ask(),
            mem_max_mhz=facts.clock_max(_MEMORY),
            reasons=self._reason_bits(),
            reason_ns=self._counters.read(),
            pcie_gen=self._gen.ask(),
            pcie_width=self._width.ask(),
            gpm=gpm,
            processes=processes,
            pstate=self._pstate.ask(),
            facts=facts.all(),
            slow=self._slow,
            util_samples=util_samples(self._utils) if slow or not has_gpm else NOT_RECORDED,
            power_samples=power_samples(self._powers),
            pcie_bytes=NOT_RECORDED if has_gpm else self._pcie.read(),
            process_use=self._use.read() if shared and slow else NOT_RECORDED,
        )


def _memory_question(nvml: Any, handle: Any) -> Question[tuple[int, int, Reading[int]]]:
    """Total, used and reserved bytes; v1 has no reserved, and its used includes it."""
    new, old = plain(nvml.c_nvmlMemory_v2_t)(), plain(nvml.c_nvmlMemory_t)()
    new.version = nvml.nvmlMemory_v2
    return Question(
        nvml,
        Way(
            "nvmlDeviceGetMemoryInfo_v2", (handle, ctypes.byref(new)), lambda: (new.total, new.used, int(new.reserved))
        ),
        Way("nvmlDeviceGetMemoryInfo", (handle, ctypes.byref(old)), lambda: (old.total, old.used, NO_RESERVE)),
    )


class _Temperature(ctypes.Structure):
    """nvmlTemperature_v1_t and, without its sensor, nvmlMarginTemperature_v1_t."""

    _fields_ = (("version", ctypes.c_uint), ("sensor", ctypes.c_uint), ("celsius", ctypes.c_int))


class _Margin(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint), ("celsius", ctypes.c_int))


def _temperature_question(nvml: Any, handle: Any) -> Question[int]:
    """°C of the core."""
    old, new = ctypes.c_uint(), _Temperature(version=ctypes.sizeof(_Temperature) | 1 << 24)
    return Question(
        nvml,
        Way("nvmlDeviceGetTemperature", (handle, 0, ctypes.byref(old)), lambda: old.value),
        Way("nvmlDeviceGetTemperatureV", (handle, ctypes.byref(new)), lambda: int(new.celsius)),
    )


def _margin_question(nvml: Any, handle: Any) -> Question[int]:
    """°C left to T.Limit; pynvml has the struct only since 12.560."""
    out = _Margin(version=ctypes.sizeof(_Margin) | 1 << 24)
    return Question(nvml, Way("nvmlDeviceGetMarginTemperature", (handle, ctypes.byref(out)), lambda: int(out.celsius)))


def _mig_question(nvml: Any, handle: Any) -> Question[bool]:
    """Whether the GPU is split into instances now."""
    now, later = ctypes.c_uint(), ctypes.c_uint()
    there = (handle, ctypes.byref(now), ctypes.byref(later))
    return Question(nvml, Way("nvmlDeviceGetMigMode", there, lambda: bool(now.value)))
