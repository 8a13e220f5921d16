"""The host's CPUs and memory (sources: kernel documentation of /sys/devices/system/{cpu,node}, of cpufreq in sysfs, of
/sys/kernel/mm/transparent_hugepage and of kernel.numa_balancing). Read every ten seconds: none of it moves faster."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from qtop.clock import mono
from qtop.collect.dimms import parse_dimms
from qtop.collect.kept import read_once
from qtop.sample import Absent, Clocks, CpuGroup, NumaNode, Reading, Topology, Why, cpulist

PERIOD_S = 10.0
MOST_CLOCKS = 512
"""CPUs whose clock is asked for; each costs a system call or three."""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NO_CPUFREQ = "no cpufreq: the firmware or the hypervisor sets the clocks"


class TopologyReader:
    """Reads the topology; ``proc``, ``sys`` and ``run`` are those folders, or stand-ins for them."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys"), run: Path = Path("/run")) -> None:
        self._proc, self._run = str(proc), str(run)
        self._cpu = f"{sys}/devices/system/cpu"
        self._node = f"{sys}/devices/system/node"
        self._huge = f"{sys}/kernel/mm/transparent_hugepage/enabled"
        self._fixed: tuple[str, Topology] | None = None
        """What only hot-plugging CPUs changes, and the CPUs online when it was read."""
        self._next = 0.0
        self._topology: Topology | Absent = Absent(Why.NOT_YET)
        self._clocks: Clocks | Absent = Absent(Why.NOT_YET)

    def read(self) -> tuple[Topology | Absent, Clocks | Absent]:
        """The latest reading, made anew when it is ``PERIOD_S`` old; the very first call reads nothing, because
        somebody waits for a screen."""
        now = mono()
        if self._next == 0.0:
            self._next = now
        elif now >= self._next:
            self._next = now + PERIOD_S
            self._topology, self._clocks = self.look()
        return self._topology, self._clocks

    def look(self) -> tuple[Topology | Absent, Clocks | Absent]:
        """A reading now."""
        online = self._text(f"{self._cpu}/online")
        if isinstance(online, Absent):
            none = Absent(online.why, "no CPUs in sysfs")
            return none, none
        cpus = sorted(cpulist.parse_or_empty(online))
        if self._fixed is None or self._fixed[0] != online:
            self._fixed = (online, self._look_once(online, cpus))
        fixed = self._fixed[1]
        policies = self._policies()
        active = self._text(f"{self._cpu}/smt/active")
        topology = Topology(
            at=mono(),
            online=online,
            nodes=fixed.nodes,
            packages=fixed.packages,
            cores=fixed.cores,
            smt_active=active if isinstance(active, Absent) else active == "1",
            smt_control=self._text(f"{self._cpu}/smt/control"),
            driver=fixed.driver,
            governors=self._grouped(policies, "scaling_governor"),
            preferences=self._grouped(policies, "energy_performance_preference"),
            boost=self._boost(),
            max_mhz=fixed.max_mhz,
            llc_bytes=fixed.llc_bytes,
            numa_balancing=self._number(f"{self._proc}/sys/kernel/numa_balancing"),
            huge_pages=self._chosen(self._huge),
            dimms=fixed.dimms,
            slots=fixed.slots,
        )
        return topology, self._read_clocks(cpus)

    def _look_once(self, online: str, cpus: list[int]) -> Topology:
        cores, packages = self._cores(cpus)
        database = read_once(f"{self._run}/udev/data/+dmi:id", records=True)
        dimms, slots = parse_dimms(database if isinstance(database, Absent) else database.decode("utf-8", "replace"))
        policies = self._policies()
        limits = [self._number(f"{folder}/cpuinfo_max_freq") for folder, _ in policies]
        known = [limit for limit in limits if not isinstance(limit, Absent)]
        return Topology(
            at=0.0,
            online=online,
            nodes=self._nodes(),
            packages=packages,
            cores=cores,
            driver=self._text(f"{policies[0][0]}/scaling_driver") if policies else Absent(Why.UNSUPPORTED, _NO_CPUFREQ),
            max_mhz=max(known) / 1000.0 if known else Absent(Why.UNSUPPORTED, _NO_CPUFREQ),
            llc_bytes=self._llc(cpus),
            dimms=dimms,
            slots=slots,
        )

    def _nodes(self) -> tuple[NumaNode, ...] | Absent:
        online = self._text(f"{self._node}/online")
        if isinstance(online, Absent):
            return Absent(online.why, "the kernel knows no NUMA nodes")
        found = []
        for number in sorted(cpulist.parse_or_empty(online)):
            cpus = self._text(f"{self._node}/node{number}/cpulist")
            memory = re.search(r"MemTotal:\s*(\d+) kB", str(self._text(f"{self._node}/node{number}/meminfo")))
            total: Reading[int] = int(memory[1]) * 1024 if memory else Absent(Why.UNSUPPORTED, "no MemTotal")
            found.append(NumaNode(number, cpus if isinstance(cpus, str) else "", total))
        return tuple(found)

    def _cores(self, cpus: Iterable[int]) -> tuple[tuple[str, ...] | Absent, Reading[int]]:
        cores: dict[str, None] = {}
        packages: set[str] = set()
        for cpu in cpus:
            folder = f"{self._cpu}/cpu{cpu}/topology"
            # The first name is the newer one (kernel 5.3 and later).
            siblings = self._text(f"{folder}/core_cpus_list")
            if isinstance(siblings, Absent):
                siblings = self._text(f"{folder}/thread_siblings_list")
            if isinstance(siblings, Absent):
                none = Absent(siblings.why, "the kernel does not tell which CPUs share a core")
                return none, none
            cores[siblings] = None
            packages.add(str(self._text(f"{folder}/physical_package_id")))
        return tuple(cores), len(packages)

    def _llc(self, cpus: Iterable[int]) -> Reading[int]:
        """Bytes of the caches of the highest level, each counted once."""
        caches: dict[tuple[int, str], int] = {}
        seen: set[int] = set()
        for cpu in cpus:
            if cpu in seen:  # it shares the last-level cache of one before
                continue
            last: tuple[int, str, int] | None = None
            for index in range(8):
                folder = f"{self._cpu}/cpu{cpu}/cache/index{index}"
                level, size = self._number(f"{folder}/level"), self._text(f"{folder}/size")
                if isinstance(level, Absent) or isinstance(size, Absent):
                    break
                if last is None or level > last[0]:
                    last = (level, str(self._text(f"{folder}/shared_cpu_list")), _bytes(size))
            if last is not None:
                caches[last[:2]] = last[2]
                seen |= cpulist.parse_or_empty(last[1])
        highest = max((level for level, _ in caches), default=0)
        total = sum(size for (level, _), size in caches.items() if level == highest)
        return total or Absent(Why.UNSUPPORTED, "the kernel tells no cache sizes")

    def _policies(self) -> list[tuple[str, str]]:
        """The folder of each cpufreq policy, and its CPUs."""
        folder = f"{self._cpu}/cpufreq"
        try:
            names = [name for name in os.listdir(folder) if name.startswith("policy")]
        except OSError:
            return []
        found = [(f"{folder}/{name}", self._text(f"{folder}/{name}/affected_cpus")) for name in names]
        return [(path, ",".join(cpus.split())) for path, cpus in found if isinstance(cpus, str) and cpus]

    def _grouped(self, policies: list[tuple[str, str]], name: str) -> tuple[CpuGroup, ...] | Absent:
        if not policies:
            return Absent(Why.UNSUPPORTED, _NO_CPUFREQ)
        groups: dict[str, set[int]] = {}
        for folder, cpus in policies:
            setting = self._text(f"{folder}/{name}")
            if isinstance(setting, Absent):
                return Absent(setting.why, f"no {name.replace('_', ' ')}")
            groups.setdefault(setting, set()).update(cpulist.parse_or_empty(cpus))
        return tuple(CpuGroup(setting, cpulist.show(cpus)) for setting, cpus in sorted(groups.items()))

    def _boost(self) -> Reading[bool]:
        off = self._number(f"{self._cpu}/intel_pstate/no_turbo")
        if not isinstance(off, Absent):
            return off == 0
        on = self._number(f"{self._cpu}/cpufreq/boost")
        return on != 0 if not isinstance(on, Absent) else Absent(Why.UNSUPPORTED, "no boost setting")

    def _read_clocks(self, cpus: list[int]) -> Clocks | Absent:
        """By cpufreq, else by /proc/cpuinfo; a virtual machine shows there what its hypervisor made up once."""
        at, found = mono(), {}
        for cpu in cpus[:MOST_CLOCKS]:
            khz = self._number(f"{self._cpu}/cpu{cpu}/cpufreq/scaling_cur_freq")
            if isinstance(khz, Absent):
                break
            found[cpu] = khz // 1000
        if not found:
            text = read_once(f"{self._proc}/cpuinfo", records=True)
            if isinstance(text, Absent):
                return text
            if b" hypervisor" in text:
                return Absent(Why.UNSUPPORTED, "a virtual machine: it does not learn how fast its CPUs run")
            found = parse_cpuinfo(text)
        if not found:
            return Absent(Why.UNSUPPORTED, "the kernel does not tell how fast the CPUs run")
        return Clocks(at=at, cpus=cpulist.show(found), mhz=tuple(found[cpu] for cpu in sorted(found)))

    def _chosen(self, path: str) -> Reading[str]:
        """The bracketed word of "always [madvise] never"."""
        text = self._text(path)
        if isinstance(text, Absent):
            return text
        found = re.search(r"\[(\w+)\]", text)
        return found[1] if found else Absent(Why.FAILED, f"no setting in {path}")

    def _number(self, path: str) -> Reading[int]:
        text = self._text(path)
        if isinstance(text, Absent):
            return text
        return int(text) if text.isdecimal() else Absent(Why.FAILED, f"{path} holds no number")

    def _text(self, path: str) -> Reading[str]:
        data = read_once(path)
        return data if isinstance(data, Absent) else data.decode("ascii", "replace").strip()


def _bytes(text: str) -> int:
    """ "32768K" in bytes, 0 for what is no size."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdecimal():
        return int(number) * _UNITS[unit]
    return int(text) if text.isdecimal() else 0


def parse_cpuinfo(text: bytes) -> dict[int, int]:
    """MHz by CPU, from /proc/cpuinfo of an x86 kernel; none on others."""
    found: dict[int, int] = {}
    cpu = -1
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        if name.startswith(b"processor") and value.strip().isdigit():
            cpu = int(value)
        elif name.startswith(b"cpu MHz"):
            try:
                found[cpu] = int(float(value))
            except ValueError:
                continue
    return found
