"""GPU performance metrics (Hopper and newer): one sample a tick, the metrics between it and the one before."""

from __future__ import annotations

import ctypes
import math
import struct
from typing import Any

from qtop.collect.nvml_calls import Question, Way
from qtop.collect.nvml_errors import NOT_OFFERED, refused
from qtop.sample import NOT_YET, Absent, Gpm, Reading, Why

METRICS = (2, 3, 5, 10, 20, 21, 1)
"""nvmlGpmMetricId_t (source: nvml.h) of Gpm's fields, in their order."""
_METRIC = struct.Struct("=IId24x")
"""nvmlGpmMetric_t: id, return code, value, three names."""
MIN_APART_S = 0.1
"""Two samples have to be so far apart (source: nvml.h)."""

NO_GPM = Absent(Why.UNSUPPORTED, "needs GPM: a Hopper GPU or newer")
REFUSED = Absent(Why.UNSUPPORTED, "the driver refuses GPM for this GPU (in MIG mode it does)")
NO_NUMBER = Absent(Why.NOT_YET, "the driver gave no number for this interval")
_FEW = Absent(Why.NOT_YET, "needs two GPM samples")


class GpmReader:
    """Two GPM samples that take turns. One thread; ``close`` gives them back to the driver.

    On a GPU in MIG mode the samples of the whole GPU may be refused; then this says so and asks no more.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._samples: list[Any] = []
        self._at: float | None = None
        self._last: Gpm | Absent = _FEW
        self.never: Absent | None = None
        """Why there is no GPM here, None while there is."""

    def _open(self) -> Absent | None:
        """Ask whether the GPU has GPM and take the two samples; None if it worked."""
        nvml = self._nvml
        support = nvml.c_nvmlGpmSupport_t()
        support.version = nvml.NVML_GPM_SUPPORT_VERSION
        there = ctypes.byref(support)
        query = Question(
            nvml, Way("nvmlGpmQueryDeviceSupport", (self._handle, there), lambda: bool(support.isSupportedDevice))
        )
        answer = query.ask()
        if isinstance(answer, Absent):
            return NO_GPM if answer.why is Why.UNSUPPORTED else answer
        if not answer:
            return NO_GPM
        for _ in range(2):
            sample = nvml.c_nvmlGpmSample_t()
            failed = Question(nvml, Way("nvmlGpmSampleAlloc", (ctypes.byref(sample),), lambda: True)).ask()
            if isinstance(failed, Absent):
                return failed
            self._samples.append(sample)
        self._ask = nvml.c_nvmlGpmMetricsGet_t()
        self._ask.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._ask.numMetrics = len(METRICS)
        for place, number in enumerate(METRICS):
            self._ask.metrics[place].metricId = number
        begin = type(self._ask).metrics.offset
        self._answers = memoryview(self._ask).cast("B")[begin : begin + len(METRICS) * _METRIC.size]
        self._get = Question(nvml, Way("nvmlGpmMetricsGet", (ctypes.byref(self._ask),), lambda: True))
        self._take = [
            Question(nvml, Way("nvmlGpmSampleGet", (self._handle, sample), lambda: True)) for sample in self._samples
        ]
        return None

    def read(self, now: float) -> Gpm | Absent:
        """The metrics since the last call at ``now``, monotonic seconds. Raises GpuLost or DriverGone."""
        if self.never is not None:
            return self.never
        if not self._samples:
            failed = self._open()
            if failed is not None:
                return self._give_up(failed)
        if self._at is not None and now - self._at < MIN_APART_S:
            return self._last
        taken = self._take[0].ask()
        if isinstance(taken, Absent):
            self._at = None
            return self._give_up(taken)
        before, self._at = self._at, now
        self._take.reverse()
        self._samples.reverse()
        if before is None:
            return _FEW
        self._ask.sample1, self._ask.sample2 = self._samples  # the older one is first: it is the next to be overwritten
        got = self._get.ask()
        if isinstance(got, Absent):
            return self._give_up(got)
        self._last = Gpm(*(self._value(code, value) for _, code, value in _METRIC.iter_unpack(self._answers)))
        return self._last

    def _value(self, code: int, value: float) -> Reading[float]:
        if code:
            return refused(self._nvml, code)
        return value if math.isfinite(value) else NO_NUMBER

    def _give_up(self, why: Absent) -> Absent:
        """What is not offered is not asked again; anything else may pass."""
        if why.why is Why.UNSUPPORTED:
            self.close()
            self.never = REFUSED if why == NOT_OFFERED else why
            return self.never
        return why

    def close(self) -> None:
        """Free the samples."""
        samples, self._samples, self._at, self._last = self._samples, [], None, NOT_YET
        for sample in samples:
            try:
                self._nvml.nvmlGpmSampleFree(sample)
            except Exception:
                pass  # a driver that went away took them along
