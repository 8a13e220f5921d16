"""A GPU as it was read, as the card of a plan. Pure."""

from __future__ import annotations

from qtop.model.frame import GpuView
from qtop.model.gpus import named
from qtop.model.roofline import bandwidth_of
from qtop.plan.serving import Card
from qtop.sample import Absent


def card_here(view: GpuView, serves: bool) -> Card | Absent:
    """The card of a GPU, its bandwidth 0 where it is not known; Absent where its memory is. ``serves``: memory whose
    holder is not told is the server's that the plan would take the place of."""
    if isinstance(view.mem_total, Absent):
        return view.mem_total
    # On an H100 total less reserved is exactly what CUDA sees: 85 520 809 984 − 503 316 480 = 85 017 493 504 bytes.
    split = view.vram
    reserved = 0 if isinstance(split, Absent) else split.reserved
    others = 0.0
    if not isinstance(split, Absent):
        if not isinstance(split.others, Absent):
            others = float(split.others)
        elif not serves:
            others = float(view.mem_total - reserved - split.free)
    name = view.name if isinstance(view.name, str) else "this GPU"
    known = named(name)
    how = "NVML: memory less what the driver reserves"
    how += "; bandwidth by clock and bus" if not isinstance(view.bandwidth, Absent) else "; bandwidth by its name"
    return Card(
        name=name,
        total=float(view.mem_total - reserved),
        bandwidth=bandwidth_of(view) or 0.0,
        bf16=known.bf16 if known is not None else None,
        fp8=known.fp8 if known is not None else None,
        pcie=view.pcie_max if isinstance(view.pcie_max, str) else "",
        source=how,
        others=others,
        numa_node=None if isinstance(view.numa_node, Absent) else view.numa_node,
        local_cpus=view.local_cpus if isinstance(view.local_cpus, str) else "",
    )
