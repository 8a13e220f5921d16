"""What the kernel says about the GPU's place: the CPUs and the memory near it."""

from __future__ import annotations

from pathlib import Path

from qtop.collect.kept import read_text
from qtop.sample import Absent, Reading, Why
from qtop.sample.cpulist import parse, show

NO_NODE = Absent(Why.UNSUPPORTED, "the kernel does not say which memory is near the GPU")
NO_CPUS = Absent(Why.UNSUPPORTED, "the kernel does not say which CPUs are near the GPU")


def sysfs_bus_id(bus_id: str) -> str:
    """NVML's bus id ("00000000:17:00.0") as sysfs and lspci write it ("0000:17:00.0"); ValueError if it is none."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    if not rest:
        raise ValueError(f"not a PCI bus id: {bus_id!r}")
    return f"{int(domain, 16):04x}:{rest}"


def local_cpus(sysfs: Path, bus_id: Reading[str]) -> Reading[str]:
    """CPUs near the GPU as a kernel list; the kernel gives an empty one where it does not know."""
    text = bus_id if isinstance(bus_id, Absent) else read_text(sysfs / "bus/pci/devices" / bus_id / "local_cpulist")
    return text if isinstance(text, Absent) else show(parse(text)) or NO_CPUS


def numa_node(sysfs: Path, bus_id: Reading[str]) -> Reading[int]:
    """The NUMA node near the GPU; the kernel says -1 where it does not know (one node, or a virtual machine)."""
    text = bus_id if isinstance(bus_id, Absent) else read_text(sysfs / "bus/pci/devices" / bus_id / "numa_node")
    if isinstance(text, Absent):
        return text
    try:
        node = int(text)
    except ValueError:
        return NO_NODE
    return node if node >= 0 else NO_NODE
