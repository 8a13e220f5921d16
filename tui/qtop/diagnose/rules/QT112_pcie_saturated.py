"""QT112: the PCIe link of the GPU carries all it can, and who does that."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, known, said
from qtop.diagnose.rules.gpus import is_idle, process_lines, process_name, worst
from qtop.model.frame import Frame, GpuView
from qtop.sample import Absent
from qtop.units import percent

FULL, FREE = 0.80, 0.60
SOURCE = "85 % of the link's rate is left for data (PCI-SIG rates; measured 53 GB/s on gen5 x16)"


class PcieSaturated(Rule):
    """The busier direction over what the link can carry."""

    id = "QT112"
    title = "PCIe saturated"
    enter = (Enter(Severity.WARNING, at=FULL, seconds=5.0, of=6.0),)
    clear = Clear(below=FREE, seconds=10.0)

    def look(self, frame: Frame) -> Answer:
        """The busiest link."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        found = worst(gpus, lambda gpu: gpu.pcie_share)
        if isinstance(found, CannotTell):
            return found
        use, gpu = found
        # Only what the server's own steps move over the link is shown to cost its requests time.
        alone = not isinstance(gpu.others, Absent) and not gpu.others
        shown = _offloads(frame) or (alone and _own(frame))
        impact = use if use >= FREE and not is_idle(frame) and shown else 0.0
        return Observed(use, lambda: _told(frame, gpu, use), impact=impact, figure=f"{use:.0%} full")


RULE = PcieSaturated()


def _offloads(frame: Frame) -> str:
    """What in the server's configuration keeps weights or KV cache in main memory, in words; "" if nothing does."""
    settings = frame.settings
    if isinstance(settings, Absent):
        return ""
    if (amount := settings.number("cpu_offload_gb")) and amount > 0:
        return f"--cpu-offload-gb {amount:g} reads weights over it at every step"
    if (amount := settings.number("kv_offloading_size")) and amount > 0:
        return f"--kv-offloading-size {amount:g} moves KV cache over it"
    return ""


def _own(frame: Frame) -> str:
    """What in the server's configuration moves data over the link at each step, in words; "" if nothing does."""
    if offloads := _offloads(frame):
        return offloads
    settings = frame.settings
    if isinstance(settings, Absent):
        return ""
    if (ranks := settings.number("tensor_parallel_size")) and ranks > 1:
        return f"--tensor-parallel-size {ranks:g} exchanges over it at every layer, unless there is NVLink"
    return ""


def _told(frame: Frame, gpu: GpuView, use: float) -> Told:
    own = _own(frame)
    others = () if isinstance(gpu.others, Absent) else gpu.others
    if own:
        who = own
    elif others:
        who = f"not by the server's settings; {process_name(others[0])} is on this GPU too"
    else:
        who = "by whom is not known"
    link = "" if isinstance(gpu.pcie, Absent) else f" of {gpu.pcie}"
    lines = [Evidence(f"link of GPU {gpu.index} is used", use, "of what it can carry", FULL, SOURCE)]
    for name, rate in (("to the GPU", gpu.pcie_rx_s), ("from the GPU", gpu.pcie_tx_s)):
        if not isinstance(rate, Absent):
            lines.append(Evidence(name, rate / 1e9, "GB/s", None, "GPM or the driver's byte counters"))
    if not isinstance(gpu.pcie_capacity_s, Absent):
        lines.append(Evidence("it can carry, each way", gpu.pcie_capacity_s / 1e9, "GB/s"))
    if isinstance(gpu.others, Absent):
        lines.append(Evidence("other processes on the GPU", said(gpu.others), ""))
    busiest = max(known(gpu.pcie_rx_s) or 0.0, known(gpu.pcie_tx_s) or 0.0)
    reason = "prompts cannot do this: one of 256K tokens is 1 MB"
    if own:
        reason = "a smaller offload (more of the model or the cache in VRAM), or GPUs joined by NVLink, relieve it"
    return Told(
        f"PCIE SATURATED: {percent(use)}{link} ({busiest / 1e9:.0f} GB/s) — {who}",
        (*lines, *process_lines(others)),
        reason=reason if use >= FREE else "",
    )
