"""GPUs by name: what CUDA sees of their memory, how fast they read it, how fast they multiply.

Sources. Bandwidth, rates (dense, fp32 accumulation) and PCIe: NVIDIA's data sheets and architecture papers.
Memory: a little less than nvidia-smi shows; it is what CUDA itself says in its out-of-memory messages ("GPU 0 has a
total capacity of 23.64 GiB"), which hosts with other drivers vary by 0.1 GiB. The name tells nothing for certain
(there are 4090 D with 48 GB): where a card is here its memory is read.
"""

from __future__ import annotations

import re

import msgspec

from qtop.units import GIB


class GpuSpec(msgspec.Struct, frozen=True):
    """One card."""

    name: str
    pattern: str
    """A regular expression that NVML's name for it, or a person's, holds; the first that matches counts."""
    memory_gib: float
    """GiB that CUDA sees."""
    bandwidth: float
    """Bytes a second, peak."""
    bf16: float
    """Dense bf16 operations a second, accumulated in fp32."""
    fp8: float | None
    """The same in fp8; None: its tensor cores have none, fp8 weights are widened as they are read."""
    pcie: str
    memory_source: str
    """Where that message was seen."""

    @property
    def memory(self) -> float:
        """Bytes that CUDA sees."""
        return self.memory_gib * GIB


_OOM = "out-of-memory message of CUDA"
# fmt: off
GPUS = (
    GpuSpec("RTX 3090", r"3090(?! ?ti)", 23.69, 936e9, 71e12, None, "gen4 x16", _OOM),
    GpuSpec("RTX 4090 D", r"4090 ?d", 23.64, 1.008e12, 147e12, 294e12, "gen4 x16", f"{_OOM} on a 4090"),
    GpuSpec("RTX 4090", r"4090", 23.64, 1.008e12, 165e12, 330e12, "gen4 x16", f"{_OOM}, ali-vilab/VGen#104"),
    GpuSpec("RTX 5090", r"5090(?! ?d)", 31.36, 1.792e12, 209.5e12, 419e12, "gen5 x16",
            f"{_OOM}, TrajectoryCrafter#20"),
    GpuSpec("L4", r"\bl4\b", 22.03, 300e9, 121e12, 242e12, "gen4 x16", _OOM),
    GpuSpec("L40S", r"\bl40s\b", 44.39, 864e9, 362e12, 733e12, "gen4 x16", _OOM),
    GpuSpec("A10", r"\ba10\b", 22.06, 600e9, 125e12, None, "gen4 x16", _OOM),
    GpuSpec("A100 40GB", r"\ba100(?!\d).*40 ?gb", 39.49, 1.555e12, 312e12, None, "gen4 x16", _OOM),
    GpuSpec("A100 80GB PCIe", r"\ba100(?!\d)(?=.*pcie)", 79.15, 1.935e12, 312e12, None, "gen4 x16",
            f"{_OOM} on the SXM one"),
    GpuSpec("A100 80GB", r"\ba100(?!\d)", 79.15, 2.039e12, 312e12, None, "gen4 x16", f"{_OOM}, vllm#4408"),
    GpuSpec("H100 PCIe", r"\bh100(?!\d)(?=.*pcie)", 79.11, 2.0e12, 756e12, 1513e12, "gen5 x16", f"{_OOM}, vllm#27508"),
    GpuSpec("H100 NVL", r"\bh100(?!\d)(?=.*nvl)", 93.0, 3.938e12, 835e12, 1671e12, "gen5 x16", f"{_OOM}, VACE#56"),
    GpuSpec("H100", r"\bh100(?!\d)", 79.1787, 3.35e12, 989e12, 1979e12, "gen5 x16", "torch, on the H100 measured"),
    GpuSpec("H200", r"\bh200(?!\d)", 139.80, 4.8e12, 989e12, 1979e12, "gen5 x16", _OOM),
    GpuSpec("B200", r"\bb200(?!\d)", 178.35, 7.7e12, 2250e12, 4500e12, "gen5 x16", _OOM),
    GpuSpec("RTX 6000 Ada", r"6000 ada", 47.40, 960e9, 364e12, 728e12, "gen4 x16", _OOM),
    GpuSpec("RTX PRO 6000", r"pro 6000.*blackwell|rtx pro 6000", 94.97, 1.792e12, 504e12, 1007e12, "gen5 x16", _OOM),
)
# fmt: on
"""The more special before the more general."""


def named(name: str) -> GpuSpec | None:
    """The card that a name means ("NVIDIA H100 80GB HBM3", "4090d"); None for one that is not known."""
    lowered = re.sub(r"[-_ ]+", " ", name.lower()).strip()
    return next((one for one in GPUS if re.search(one.pattern, lowered)), None)


def exactly(name: str) -> GpuSpec:
    """The card of the table with this name. Errors: KeyError."""
    return _BY_NAME[name]


_BY_NAME = {one.name: one for one in GPUS}
