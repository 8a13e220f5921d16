"""Cgroups on v1, v2 and hybrid trees, inside and outside containers: the CPU side (``cgroup_memory`` has the other).

Sources: cgroups(7), kernel documentation of cgroup-v2 (cpu.max, cpu.stat, cpuset.cpus.effective) and of CFS bandwidth
control for v1 (cpu.cfs_quota_us, cpu.cfs_period_us, cpu.stat with throttled_time in ns).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from qtop.clock import mono
from qtop.collect.cgroup_memory import MemoryReader
from qtop.collect.cgroup_tree import CgroupTree, Place, parse_membership
from qtop.collect.host import parse_pressure
from qtop.collect.kept import KeptFiles, read_once
from qtop.sample import Absent, CgroupSample, Pressure, QuotaLevel, Reading, Why

DEFAULT_PERIOD_US = 100_000
"""The kernel's own period, where it cannot be read."""
MOST_KEYS = 256
"""Cgroups remembered; a server is in one or a few."""


@lru_cache(maxsize=MOST_KEYS)
def _key_in(text: bytes) -> str:
    """Of a process's membership the lines that matter here."""
    wanted = {"", "cpu", "cpuacct", "cpuset", "memory"}
    fields = ((line, line.split(":", 2)) for line in text.decode("utf-8", "replace").splitlines())
    return "\n".join(line for line, parts in fields if len(parts) == 3 and wanted & set(parts[1].split(",")))


class CgroupReader:
    """Finds and reads the cgroups of processes; keeps the files that it reads every second."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files = KeptFiles()
        self._tree = CgroupTree(proc)
        self._memory = MemoryReader(self._files)
        self._members: dict[str, int] = {}
        """By key: a process in it."""
        self._places: dict[tuple[str, str], Place | None] = {}
        """By key and controller: names in a key do not change, so where they lead does not either."""

    def key_of(self, pid: int) -> str:
        """The lines of /proc/PID/cgroup that matter (v2, cpu, cpuacct, cpuset, memory), "" where it cannot be read."""
        text = read_once(f"{self._proc}/{pid}/cgroup")
        if isinstance(text, Absent):
            return ""
        key = _key_in(text)
        if self._members.get(key) != pid:
            if key not in self._members:
                self._trim()
            self._members[key] = pid
        return key

    def _trim(self) -> None:
        """A server that starts its processes in ever new cgroups must not fill the memory."""
        if len(self._members) >= MOST_KEYS:
            self._members.clear()
            self._places.clear()
            self._files.close()

    def _place(self, key: str, controller: str) -> Place | None:
        at = (key, controller)
        if at not in self._places:
            self._places[at] = self._tree.place(parse_membership(key), controller, self._members.get(key, 0))
        return self._places[at]

    def read(self, key: str) -> CgroupSample | Absent:
        """One sample of the cgroups named by ``key``."""
        cpu = self._place(key, "cpu")
        if cpu is None:
            return Absent(Why.NOT_HERE, "its cgroup is not mounted where qtop runs")
        paths = parse_membership(key)
        at = mono()
        return CgroupSample(
            at=at,
            version=cpu.version,
            path=paths.get("cpu", paths.get("", "")),
            usage_us=self._usage(key, cpu),
            quotas=self._quotas(cpu),
            cpuset=self._cpuset(key),
            pressure=self._pressure(key),
            above=cpu.above,
            memory=self._memory.read(self._place(key, "memory"), self._place(key, "")),
        )

    def _usage(self, key: str, cpu: Place) -> Reading[int]:
        if cpu.version == 2:
            return _counter(self._files.read(f"{cpu.folders[0]}/cpu.stat"), b"usage_usec")
        found = self._place(key, "cpuacct")
        if found is None:
            return Absent(Why.UNSUPPORTED, "no cpuacct controller")
        nanoseconds = self._files.read(f"{found.folders[0]}/cpuacct.usage")
        if isinstance(nanoseconds, Absent):
            return nanoseconds
        used = _integer(nanoseconds)
        return Absent(Why.FAILED, "cpuacct.usage holds no number") if used is None else used // 1000

    def _quotas(self, cpu: Place) -> tuple[QuotaLevel, ...] | Absent:
        """Every level that has a quota; Absent where one may not be read: "no quota" would be a guess."""
        quotas: list[QuotaLevel] = []
        for folder in cpu.folders:
            level = self._quota_v1(folder) if cpu.version == 1 else self._quota_v2(folder)
            if isinstance(level, Absent):
                return level
            if level is not None:
                quotas.append(level)
        return tuple(quotas)

    def _quota_v2(self, folder: str) -> QuotaLevel | Absent | None:
        limit = self._files.read(f"{folder}/cpu.max")
        if isinstance(limit, Absent):
            return _unless_missing(limit)
        quota, period = (*map(_integer, limit.split()), None, None)[:2]
        if quota is None or not period:  # "max" is no quota
            return None
        stat = self._files.read(f"{folder}/cpu.stat")
        if isinstance(stat, Absent):
            return stat
        counts = [_counter(stat, name) for name in (b"nr_periods", b"nr_throttled", b"throttled_usec")]
        return QuotaLevel(folder, quota, period, *(0 if isinstance(count, Absent) else count for count in counts))

    def _quota_v1(self, folder: str) -> QuotaLevel | Absent | None:
        limit = self._files.read(f"{folder}/cpu.cfs_quota_us")
        if isinstance(limit, Absent):
            return _unless_missing(limit)
        quota = _integer(limit)
        if quota is None:  # -1 is no quota
            return None
        period = self._files.read(f"{folder}/cpu.cfs_period_us")
        stat = self._files.read(f"{folder}/cpu.stat")
        if isinstance(stat, Absent):
            return stat
        counts = [_counter(stat, name) for name in (b"nr_periods", b"nr_throttled", b"throttled_time")]
        periods, throttled, nanoseconds = (0 if isinstance(count, Absent) else count for count in counts)
        return QuotaLevel(
            folder,
            quota,
            (None if isinstance(period, Absent) else _integer(period)) or DEFAULT_PERIOD_US,
            periods,
            throttled,
            nanoseconds // 1000,
        )

    def _cpuset(self, key: str) -> Reading[str]:
        found = self._place(key, "cpuset")
        if found is None:
            return Absent(Why.UNSUPPORTED, "no cpuset controller")
        # The v2 file exists only where the controller is enabled: the nearest ancestor that has it speaks for the rest.
        names = ("cpuset.cpus.effective",) if found.version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
        for folder in found.folders:
            for name in names:
                text = self._files.read(f"{folder}/{name}")
                if not isinstance(text, Absent) and text.strip():
                    return text.decode("ascii", "replace").strip()
        return Absent(Why.UNSUPPORTED, "no effective cpuset on its path")

    def _pressure(self, key: str) -> Reading[Pressure]:
        found = self._place(key, "")
        if found is None:
            return Absent(Why.UNSUPPORTED, "no v2 tree")
        return parse_pressure(self._files.read(f"{found.folders[0]}/cpu.pressure"))

    def close(self) -> None:
        """Close the kept files."""
        self._files.close()


def _integer(text: bytes) -> int | None:
    """The number that a file holds; None for anything else, a negative one too."""
    return int(text) if text.strip().isdigit() else None


def _unless_missing(reason: Absent) -> Absent | None:
    """None where the file is not there: no quota (the root cgroup, a kernel without CFS bandwidth); else the reason."""
    return None if reason.why in (Why.UNSUPPORTED, Why.LOST) else reason


def _counter(text: bytes | Absent, name: bytes) -> Reading[int]:
    if isinstance(text, Absent):
        return text
    for line in text.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return Absent(Why.UNSUPPORTED, f"no {name.decode()} in cpu.stat")
