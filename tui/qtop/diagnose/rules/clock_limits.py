"""What QT101, QT102 and QT103 share: for how long of the last ten seconds something slowed the GPU down."""

from __future__ import annotations

from typing import ClassVar

from qtop.diagnose.rule import Answer, CannotTell, Evidence, NotApplicable, Observed, Rule, Told
from qtop.diagnose.rules.common import are_servers, gpus_of
from qtop.diagnose.rules.gpus import clock_line, how_known, lost_clock, works, worst
from qtop.model.frame import Frame, GpuView
from qtop.sample import NOT_RECORDED, Reading

WINDOW_S = 10.0


class ClockLimit(Rule):
    """The share of the last ten seconds in which one limit held a clock of the server's GPUs down."""

    limit_name: ClassVar[str]
    """As in ``GpuView.held``."""
    least_lost: ClassVar[float] = 0.0
    """Share of its speed that a GPU loses at least while it is held."""
    signal: ClassVar[str]
    source: ClassVar[str]

    def seconds(self, gpu: GpuView) -> Reading[float]:
        """Seconds of the last ten."""
        return gpu.held.get(self.limit_name, NOT_RECORDED)

    def headline(self, gpu: GpuView, share: float) -> str:
        """The one line."""
        raise NotImplementedError

    def look(self, frame: Frame) -> Answer:
        """The GPU that was held for longest."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, self.seconds)
        if isinstance(found, CannotTell):
            return found
        seconds, gpu = found
        share = min(1.0, seconds / WINDOW_S)
        costs = share and works(gpu) and are_servers(frame, gpus)
        impact = share * max(self.least_lost, lost_clock(gpu) or 0.0) if costs else 0.0
        return Observed(share, lambda: self._told(gpu, share), impact=impact)

    def _told(self, gpu: GpuView, share: float) -> Told:
        first = Evidence(
            f"GPU {gpu.index}: {self.signal}",
            share,
            "of the last 10 s",
            self.enter[0].at,
            how_known(gpu, self.limit_name),
        )
        return Told(self.headline(gpu, share), (first, *clock_line(gpu), Evidence("threshold", self.source, "")))
