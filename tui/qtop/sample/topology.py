"""What the host's CPUs and memory are, and their slow counters, as sysfs and /proc show them."""

from __future__ import annotations

import msgspec

from qtop.sample.absent import NOT_RECORDED, Absent, Reading


class NumaNode(msgspec.Struct, frozen=True, array_like=True):
    """One NUMA node with its CPUs as a kernel list ("" for a node of memory only)."""

    id: int
    cpus: str
    mem_total: Reading[int] = NOT_RECORDED
    """Bytes."""


class CpuGroup(msgspec.Struct, frozen=True, array_like=True):
    """CPUs that share a setting."""

    setting: str
    cpus: str


class Dimm(msgspec.Struct, frozen=True, array_like=True):
    """One populated memory slot, as the firmware describes it; no serial and no part number."""

    locator: str
    """The slot, as the board calls it ("DIMM_A1")."""
    bank: str
    """The bank or channel, as the board calls it ("P0 CHANNEL A")."""
    bytes: int
    kind: str = ""
    """"DDR5"."""
    rated_mts: Reading[int] = NOT_RECORDED
    """MT/s the module is made for."""
    configured_mts: Reading[int] = NOT_RECORDED
    """MT/s it runs at."""
    width_bits: Reading[int] = NOT_RECORDED
    """Data bits, without those for error correction."""


class Topology(msgspec.Struct, frozen=True, omit_defaults=True, tag="topology"):
    """The host's CPUs, caches, memory and the kernel settings that bear on them; read every 10 s."""

    at: float
    online: Reading[str] = NOT_RECORDED
    """Online CPUs, as a kernel list; all others here are such lists too."""
    nodes: tuple[NumaNode, ...] | Absent = NOT_RECORDED
    packages: Reading[int] = NOT_RECORDED
    """Sockets with an online CPU."""
    cores: tuple[str, ...] | Absent = NOT_RECORDED
    """The CPUs of each physical core, one list a core."""
    smt_active: Reading[bool] = NOT_RECORDED
    smt_control: Reading[str] = NOT_RECORDED
    """"on", "off", "forceoff", "notsupported", "notimplemented" (source: kernel ABI, smt/control)."""
    driver: Reading[str] = NOT_RECORDED
    """What scales the clocks ("intel_pstate", "amd-pstate-epp", "acpi-cpufreq")."""
    governors: tuple[CpuGroup, ...] | Absent = NOT_RECORDED
    """By cpufreq governor."""
    preferences: tuple[CpuGroup, ...] | Absent = NOT_RECORDED
    """By energy performance preference."""
    boost: Reading[bool] = NOT_RECORDED
    """Clocks above the base frequency are allowed."""
    max_mhz: Reading[float] = NOT_RECORDED
    """The highest cpuinfo_max_freq."""
    llc_bytes: Reading[int] = NOT_RECORDED
    """Last-level caches, summed over the host."""
    numa_balancing: Reading[int] = NOT_RECORDED
    """kernel.numa_balancing: a bit mask, 1 balancing, 2 memory tiering."""
    huge_pages: Reading[str] = NOT_RECORDED
    """Transparent huge pages: "always", "madvise" or "never"."""
    dimms: tuple[Dimm, ...] | Absent = NOT_RECORDED
    slots: Reading[int] = NOT_RECORDED
    """Memory slots, populated or not."""


class Clocks(msgspec.Struct, frozen=True, omit_defaults=True, tag="clocks"):
    """How fast the CPUs ran when they were looked at."""

    at: float
    cpus: str
    """Those that told, as a kernel list."""
    mhz: tuple[int, ...]
    """In the order of ``cpus``."""


class VmStat(msgspec.Struct, frozen=True, omit_defaults=True, tag="vmstat"):
    """Counters of /proc/vmstat since boot."""

    at: float
    numa_pages_migrated: Reading[int] = NOT_RECORDED
    numa_hint_faults: Reading[int] = NOT_RECORDED
    pswpin: Reading[int] = NOT_RECORDED
    """Pages swapped in."""
    pswpout: Reading[int] = NOT_RECORDED
    pgmajfault: Reading[int] = NOT_RECORDED
    """Faults that had to wait for a disk."""
    page_bytes: int = 4096
