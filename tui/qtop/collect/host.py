"""The host: CPU times, pressure, memory, load (source: /proc/stat, /proc/pressure/*, /proc/meminfo, /proc/loadavg,
/proc/vmstat) and, now and then, its topology."""

from __future__ import annotations

import os
from pathlib import Path

from qtop.clock import mono
from qtop.collect.kept import KeptFiles
from qtop.collect.stat import PAGE
from qtop.collect.topology import TopologyReader
from qtop.sample import NOT_YET, Absent, CpuTimes, HostSample, Pressure, Reading, TaskSample, VmStat, Why


def parse_cpus(stat: bytes) -> dict[str, CpuTimes]:
    """The cpu lines of /proc/stat by CPU number as text, the sum under "all"; missing columns of old kernels are 0."""
    cpus: dict[str, CpuTimes] = {}
    for line in stat.split(b"\n"):
        if not line.startswith(b"cpu"):
            break
        name, *ticks = line.split(None, 9)
        try:
            numbers = list(map(int, ticks[:8]))
        except ValueError:
            continue
        numbers += [0] * (8 - len(numbers))
        cpus[name[3:].decode() or "all"] = CpuTimes(*numbers)
    return cpus


def parse_pressure(text: bytes | Absent) -> Reading[Pressure]:
    """Totals of a PSI file; "full" is 0 where the kernel has no such line (CPU before 5.13)."""
    if isinstance(text, Absent):
        if text.why is Why.UNSUPPORTED:
            return Absent(Why.UNSUPPORTED, "pressure stall information is off (boot with psi=1)")
        return text
    totals: dict[str, int] = {}
    for line in text.decode("ascii", "replace").splitlines():
        kind, _, rest = line.partition(" ")
        _, _, total = rest.rpartition("total=")
        if total.isdecimal():
            totals[kind] = int(total)
    if "some" not in totals:
        return Absent(Why.FAILED, "a pressure file that cannot be read as one")
    return Pressure(totals["some"], totals.get("full", 0))


def _loadavg(text: bytes | Absent) -> tuple[Reading[float], Reading[int]]:
    """Load over a minute, and tasks runnable now."""
    if isinstance(text, Absent):
        return text, text
    fields = text.split()
    try:
        return float(fields[0]), int(fields[3].split(b"/")[0])
    except (IndexError, ValueError):
        unread = Absent(Why.FAILED, "a loadavg that cannot be read as one")
        return unread, unread


def _meminfo(text: bytes | Absent, key: bytes) -> Reading[int]:
    if isinstance(text, Absent):
        return text
    start = text.find(key)
    if start < 0:
        return Absent(Why.UNSUPPORTED, f"no {key.decode()} in meminfo")
    amount = text[start + len(key) :].split(None, 1)[:1]
    if not amount or not amount[0].isdigit():
        return Absent(Why.FAILED, f"{key.decode()} in meminfo is no number")
    return int(amount[0]) * 1024


_VMSTAT = ("numa_pages_migrated", "numa_hint_faults", "pswpin", "pswpout", "pgmajfault")


def parse_vmstat(at: float, text: bytes | Absent) -> VmStat | Absent:
    """The counters of /proc/vmstat that qtop uses; those of NUMA are not there on a kernel built without it."""
    if isinstance(text, Absent):
        return text
    lines = b"\n" + text
    counts = {name: _vmstat(lines, name) for name in _VMSTAT}
    return VmStat(at=at, page_bytes=PAGE, **counts)


def _vmstat(text: bytes, name: str) -> Reading[int]:
    key = b"\n" + name.encode() + b" "
    start = text.find(key)
    value = text[start + len(key) : text.find(b"\n", start + 1)] if start >= 0 else b""
    return int(value) if value.isdigit() else Absent(Why.UNSUPPORTED, f"no {name} in vmstat")


class HostCollector:
    """Reads the host once a call; ``root`` is /proc, or a stand-in for it that comes with its own ``topology`` or
    none."""

    def __init__(self, root: Path = Path("/proc"), topology: TopologyReader | None = None) -> None:
        self._root = str(root)
        self._topology = topology or (TopologyReader() if root == Path("/proc") else None)
        self._files = KeptFiles()
        self._hz = os.sysconf("SC_CLK_TCK")

    def read(self, tasks: tuple[TaskSample, ...] | Absent) -> HostSample | Absent:
        """One sample; ``tasks`` is what the task scan brought, or why there was none."""
        root, files = self._root, self._files
        stat = files.read(f"{root}/stat")
        if isinstance(stat, Absent):
            return stat
        at = mono()
        memory = files.read(f"{root}/meminfo")
        load1, runnable = _loadavg(files.read(f"{root}/loadavg"))
        cpus = parse_cpus(stat)
        if "all" not in cpus:
            return Absent(Why.FAILED, f"{root}/stat holds no CPU times")
        vm = parse_vmstat(mono(), files.read(f"{root}/vmstat", records=True))
        topology, clocks = self._topology.read() if self._topology is not None else (NOT_YET, NOT_YET)
        return HostSample(
            at=at,
            cpus=cpus,
            hz=self._hz,
            psi_cpu=parse_pressure(files.read(f"{root}/pressure/cpu")),
            psi_memory=parse_pressure(files.read(f"{root}/pressure/memory")),
            psi_io=parse_pressure(files.read(f"{root}/pressure/io")),
            mem_total=_meminfo(memory, b"MemTotal:"),
            mem_available=_meminfo(memory, b"MemAvailable:"),
            load1=load1,
            runnable=runnable,
            tasks=tasks,
            swap_total=_meminfo(memory, b"SwapTotal:"),
            swap_free=_meminfo(memory, b"SwapFree:"),
            vm=vm,
            topology=topology,
            clocks=clocks,
        )

    def close(self) -> None:
        """Close the kept files."""
        self._files.close()
