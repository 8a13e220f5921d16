"""QT111: the GPU's PCIe link is narrower or slower, under load, than GPU and slot allow."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, known, said
from qtop.diagnose.rules.gpus import worst
from qtop.model.frame import Frame, GpuView
from qtop.model.gpu_link import Link
from qtop.sample import Absent, Reading

BAD = {Link.NARROW: 2.0, Link.SLOW: 2.0, Link.SLOT: 1.0, Link.FULL: 0.0}
SOURCE = "GPU and slot together, by NVML; judged under load only, since an idle link slows down by design"
BUSY = 0.5
"""Use of the link from which its missing speed is taken to cost requests time."""


class PcieLink(Rule):
    """2 for a link below what GPU and slot allow, 1 where the slot allows less than the GPU."""

    id = "QT111"
    title = "PCIe link below what slot or device can"
    enter = (
        Enter(Severity.INFO, at=1.0, seconds=3.0, of=3.0),
        Enter(Severity.WARNING, at=2.0, seconds=2.0, of=2.0),
    )
    clear = Clear(below=1.0, seconds=5.0)
    explains = ("QT112",)

    def look(self, frame: Frame) -> Answer:
        """The worst link among those that are under load."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, _bad)
        if isinstance(found, CannotTell):
            return found
        value, gpu = found
        use = known(gpu.pcie_share) or 0.0
        return Observed(value, lambda: _told(gpu), impact=use if value >= 2.0 and use >= BUSY else 0.0, figure="")


RULE = PcieLink()


def _bad(gpu: GpuView) -> Reading[float]:
    judged = gpu.pcie_judged
    return judged if isinstance(judged, Absent) else BAD.get(Link(judged), 0.0)


def _text(reading: Reading[str]) -> str:
    return said(reading) if isinstance(reading, Absent) else reading


def _told(gpu: GpuView) -> Told:
    now, most, device = _text(gpu.pcie), _text(gpu.pcie_max), _text(gpu.pcie_device)
    judged = "" if isinstance(gpu.pcie_judged, Absent) else Link(gpu.pcie_judged)
    text = {
        Link.NARROW: f"PCIE LINK TOO NARROW: GPU {gpu.index} has {now} of {most} — reseat it, check riser, BIOS",
        Link.SLOW: f"PCIE LINK TOO SLOW: GPU {gpu.index} has {now} of {most} under load — check seat, riser, BIOS",
        Link.SLOT: f"PCIE SLOT IS SLOWER THAN THE GPU: {most}, GPU {gpu.index} could do {device}",
    }.get(Link(judged) if judged else Link.FULL, "")
    reason = ""
    if judged in (Link.NARROW, Link.SLOW):
        reason = (
            "decoding hardly uses the link: it slows down loading, offloading and several GPUs without NVLink "
            "(lspci -vv shows LnkSta and LnkCap)"
        )
    lines = [
        Evidence(f"link of GPU {gpu.index}", now, "", None, "NVML, now"),
        Evidence("GPU and slot allow", most, "", None, SOURCE),
        Evidence("the GPU alone would allow", device, ""),
    ]
    if not isinstance(gpu.pcie_share, Absent):
        lines.append(Evidence("the link is used", gpu.pcie_share, "of what it can carry"))
    return Told(text, tuple(lines), reason=reason)
