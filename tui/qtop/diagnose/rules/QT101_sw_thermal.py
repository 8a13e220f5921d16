"""QT101: the driver lowers the GPU's clock because the GPU or its memory is at its highest operating temperature."""

from __future__ import annotations

from qtop.diagnose.rule import Clear, Enter, Severity
from qtop.diagnose.rules.clock_limits import ClockLimit
from qtop.diagnose.rules.gpus import at_clock
from qtop.model.frame import GpuView
from qtop.units import percent


class SoftwareThermal(ClockLimit):
    """SW thermal slowdown."""

    id = "QT101"
    title = "GPU slowed by heat (software thermal)"
    enter = (Enter(Severity.WARNING, at=0.05, seconds=1.0, of=1.0),)
    clear = Clear(below=0.02, seconds=5.0)
    explains = ("QT110", "QT130", "QT131")
    limit_name = "sw_thermal"
    signal = "SW thermal slowdown"
    source = "proposed: half a second of ten; a GPU that is cooled well never does it"

    def headline(self, gpu: GpuView, share: float) -> str:
        """The one line."""
        return f"GPU {gpu.index} TOO HOT: slowed {percent(share)} of the time{at_clock(gpu)} — fans, dust, airflow?"


RULE = SoftwareThermal()
