"""All GPUs of the host through NVML: finding the driver, keeping each GPU's number, coping with what goes away."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qtop.clock import mono
from qtop.collect.nvml_errors import ALL_GONE, NOT_OFFERED, DriverGone, GpuLost, code_why, text_of
from qtop.collect.nvml_events import XidWatcher
from qtop.collect.nvml_gpu import Gpu
from qtop.sample import Absent, GpuSample, GpuSection, Reading, Why

_SONAME = "libnvidia-ml.so.1"

NO_LIBRARY = Absent(Why.UNSUPPORTED, "no NVIDIA driver on this host")
NO_BINDING = Absent(Why.UNSUPPORTED, "the Python package nvidia-ml-py is not installed")
NO_GPU = Absent(Why.UNSUPPORTED, "the NVIDIA driver lists no GPU")
UNLISTED = Absent(Why.LOST, "the driver no longer lists this GPU; the kernel log (Xid) says why")


class _Backoff:
    """When to try again: after ``first`` seconds, then after twice as long each time, up to ``most``."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._delay, self._at = first, float("-inf")

    def due(self, now: float) -> bool:
        """Whether it is time to try."""
        return now >= self._at

    def failed(self, now: float, at_least: float = 0.0) -> None:
        """It did not work: wait, ``at_least`` so many seconds."""
        self._at = now + max(self._delay, at_least)
        self._delay = min(2 * self._delay, self._most)

    def reset(self) -> None:
        """It worked: a later failure starts from ``first`` again."""
        self._delay, self._at = self._first, float("-inf")


def place(uuids: Sequence[str | None], known: Mapping[str, int]) -> list[int]:
    """An index for each GPU listed: the one it had before, else its place in the list if free, else the next free.

    NVML renumbers the rest when a GPU falls off the bus; here a GPU keeps its number, and so its counters stay its own.
    None is a GPU that does not say who it is: it is taken for the missing one of that place, if one is missing there.
    """
    missing = {index for uuid, index in known.items() if uuid not in uuids}
    taken = set(known.values())
    places = []
    for number, uuid in enumerate(uuids):
        index = known.get(uuid, -1) if uuid is not None else (number if number in missing else -1)
        if index < 0:
            index = number
            while index in taken:
                index += 1
        taken.add(index)
        missing.discard(index)
        places.append(index)
    return places


class NvmlCollector:
    """Reads every GPU once a call; for one thread only, ``close`` included, since NVML may hang on a sick GPU.

    NVML counts its users within a process, so a shutdown here takes nothing from whoever else has initialised it.
    """

    def __init__(
        self, sysfs: Path = Path("/sys"), clock: Callable[[], float] = mono, proc: Path = Path("/proc")
    ) -> None:
        self._sysfs, self._proc, self._clock = sysfs, proc, clock
        self._xids = XidWatcher()
        self._nvml: Any = None
        self._is_open = self._worked = False
        self._failure: Absent = NO_LIBRARY
        self._retry, self._retry_lost = _Backoff(1.0, 60.0), _Backoff(10.0, 600.0)
        self._driver: Reading[str] = NO_LIBRARY
        self._gpus: dict[int, Gpu] = {}
        self._lost: dict[int, Absent] = {}
        self._known: dict[str, int] = {}

    def read(self) -> GpuSection | Absent:
        """One section, or why there is none; never raises.

        Where there is no driver it looks again once a minute, where the driver went away after 1 s and then ever more
        rarely (60 s at most), for a lost GPU after 10 s and then ever more rarely (10 min at most).
        """
        now = self._clock()
        if self._is_open and self._lost and self._retry_lost.due(now):
            self.close()  # NVML finds a GPU that came back only when it is opened anew
        if not self._is_open:
            if not self._retry.due(now):
                return self._failure
            failure = self._start()
            if failure is not None:
                return self._give_up(now, failure)
            if self._lost:
                self._retry_lost.failed(now)
            else:
                self._retry_lost.reset()
        at = self._clock()
        try:
            gpus = tuple(self._samples(now))
        except DriverGone as gone:
            return self._give_up(now, gone.why)
        self._retry.reset()
        lost = {str(index): why for index, why in sorted(self._lost.items())}
        return GpuSection(at=at, driver=self._driver, gpus=gpus, lost=lost, xids=self._xids.take())

    def close(self) -> None:
        """Shut NVML down; a later ``read`` opens it again. Takes up to half a second for a wait that is under way."""
        for gpu in self._gpus.values():
            gpu.close()
        self._gpus = {}
        if self._is_open:
            self._is_open = False
            if not self._xids.stop():
                return  # a thread is inside the driver: it must not be shut down under it
            try:
                self._nvml.nvmlShutdown()
            except Exception:
                pass  # a driver that went away cannot be shut down, and the next start is a new one anyway

    def _give_up(self, now: float, why: Absent) -> Absent:
        self.close()
        self._failure = why
        self._retry.failed(now, 60.0 if why in (NO_LIBRARY, NO_BINDING, NO_GPU) else 0.0)
        return why

    def _load(self) -> Absent | None:
        """Make pynvml ready. The library is tried first: a host without it never pays for the import."""
        if self._nvml is None:
            try:
                ctypes.CDLL(_SONAME)
            except OSError:
                return NO_LIBRARY
            try:
                import pynvml
            except ImportError:
                return NO_BINDING
            self._nvml = pynvml
        return None

    def _start(self) -> Absent | None:
        """Open NVML and find the GPUs; None if it worked."""
        failure = self._load()
        if failure is not None:
            return failure
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            self._is_open = True
            self._driver = self._driver_version()
            self._find(int(nvml.nvmlDeviceGetCount()))
        except Exception as error:
            why = error.why if isinstance(error, DriverGone) else code_why(nvml, error)[1]
            if why is NOT_OFFERED:
                return Absent(Why.FAILED, "the NVIDIA driver is too old to be read")
            return why if self._worked or why.why is not Why.LOST else Absent(Why.FAILED, why.detail)
        if not self._gpus and not self._lost:
            return NO_GPU
        self._worked = True
        self._xids.start(nvml, {index: gpu.handle for index, gpu in self._gpus.items()})
        return None

    def _driver_version(self) -> Reading[str]:
        try:
            return text_of(self._nvml.nvmlSystemGetDriverVersion())
        except Exception as error:
            return code_why(self._nvml, error)[1]

    def _find(self, count: int) -> None:
        """Take a handle of each GPU; what gives none, and what was known before and is not listed now, is lost."""
        nvml = self._nvml
        found: list[Gpu | Absent] = []
        uuids: list[str | None] = []
        for number in range(count):
            uuid: Reading[str] = NOT_OFFERED
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                gpu = Gpu(nvml, handle, self._driver, self._sysfs, self._proc, self._clock)
                uuid = gpu.uuid()
                found.append(gpu)
            except GpuLost as lost:
                found.append(lost.why)
            except nvml.NVMLError as error:
                code, why = code_why(nvml, error)
                if code in ALL_GONE:
                    raise DriverGone(why) from error
                found.append(why)
            uuids.append(None if isinstance(uuid, Absent) else uuid)
        places = place(uuids, self._known)
        self._gpus, self._lost = {}, dict.fromkeys(self._known.values(), UNLISTED)
        for index, one, name in zip(places, found, uuids, strict=True):
            if isinstance(one, Absent):
                self._lost[index] = one
                continue
            self._lost.pop(index, None)
            self._gpus[index] = one
            if name is not None:
                self._known[name] = index

    def _samples(self, now: float) -> list[GpuSample]:
        samples = []
        for index, gpu in sorted(self._gpus.items()):
            try:
                samples.append(gpu.sample(self._clock(), index))
            except GpuLost as lost:
                self._gpus.pop(index).close()
                self._lost[index] = lost.why
                self._retry_lost.failed(now)
        return samples
