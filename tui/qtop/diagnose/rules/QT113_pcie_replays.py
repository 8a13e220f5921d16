"""QT113: PCIe packets have to be sent again and again: a bad link."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, said
from qtop.diagnose.rules.gpus import worst
from qtop.model.frame import Frame, GpuView
from qtop.sample import Absent

RATE = 10.0
"""A minute. Counters are read every five seconds: one packet in such a span reads as twelve."""


REASON = "each packet arrives in the end; the link may fall back to a lower speed, or the GPU fall off the bus"


class PcieReplays(Rule):
    """Replays a minute, in three readings out of four."""

    id = "QT113"
    title = "PCIe replays"
    enter = (Enter(Severity.WARNING, at=RATE, seconds=14.0, of=20.0),)
    clear = Clear(below=1.0, seconds=60.0)

    def look(self, frame: Frame) -> Answer:
        """The worst link."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, lambda gpu: gpu.replays_min)
        if isinstance(found, CannotTell):
            return found
        rate, gpu = found
        return Observed(rate, lambda: _told(gpu, rate), figure=f"{rate:.0f} a minute")


RULE = PcieReplays()


def _told(gpu: GpuView, rate: float) -> Told:
    link = said(gpu.pcie) if isinstance(gpu.pcie, Absent) else gpu.pcie
    source = "growth of the replay counter (field 94); a good link has none, more than 10 a minute mean a bad one"
    lines = (
        Evidence(f"PCIe packets of GPU {gpu.index} sent again", rate, "a minute", RATE, source),
        Evidence("its link", link, ""),
    )
    return Told(
        f"PCIE LINK IS BAD: GPU {gpu.index} repeats {rate:.0f} packets a minute ({link}) — check seat and riser",
        lines,
        reason=REASON if rate > 0 else "",
    )
