"""The CPU side of a cgroup, on v1, v2 and hybrid trees, inside and outside containers.

Sources: cgroups(7), kernel documentation of cgroup-v2 (cpu.max, cpu.stat, cpuset.cpus.effective) and of CFS bandwidth
control for v1 (cpu.cfs_quota_us, cpu.cfs_period_us, cpu.stat with throttled_time in ns).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qtop.clock import mono
from qtop.collect.host import parse_pressure
from qtop.collect.kept import KeptFiles, read_text
from qtop.sample import Absent, CgroupSample, Pressure, QuotaLevel, Reading, Why

DEFAULT_PERIOD_US = 100_000
"""The kernel's own period, where it cannot be read."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mounted cgroup hierarchy: ``root`` is the cgroup that stands at ``point``."""

    root: str
    point: str
    controllers: frozenset[str]
    """Empty for the v2 tree."""


def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """The cgroup mounts of /proc/self/mountinfo, v1 and v2."""
    mounts = []
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not separator or len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
        controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset[str]()
        mounts.append(Mount(root, point, controllers))
    return tuple(mounts)


def parse_membership(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as controller → path; the v2 path is under ""."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


class CgroupReader:
    """Finds and reads the cgroups of processes; keeps the files that it reads every second."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files = KeptFiles()
        mountinfo = read_text(proc / "self/mountinfo")
        self._mounts = parse_mounts(mountinfo) if isinstance(mountinfo, str) else ()

    def key_of(self, pid: int) -> str:
        """The lines of /proc/PID/cgroup that matter here (v2, cpu, cpuacct, cpuset), "" where it cannot be read."""
        text = read_text(self._proc / str(pid) / "cgroup")
        if isinstance(text, Absent):
            return ""
        wanted = {"", "cpu", "cpuacct", "cpuset"}
        fields = ((line, line.split(":", 2)) for line in text.splitlines())
        return "\n".join(line for line, parts in fields if len(parts) == 3 and wanted & set(parts[1].split(",")))

    def _folders(self, paths: dict[str, str], controller: str) -> tuple[int, list[str]] | None:
        """Version and folders of a controller's cgroup from the process's own up to the mount's root."""
        version, path = (1, paths[controller]) if controller in paths else (2, paths.get(""))
        if path is None or "/.." in path:  # outside the root of our cgroup namespace
            return None
        for mount in self._mounts:
            if (controller in mount.controllers) if version == 1 else not mount.controllers:
                inner = _below(path, mount.root)
                if inner is None:
                    continue
                folders = [
                    str(PurePosixPath(mount.point, *inner.parts[:depth])) for depth in range(len(inner.parts), -1, -1)
                ]
                return version, folders
        return None

    def read(self, key: str) -> CgroupSample | Absent:
        """One sample of the cgroups named by ``key``."""
        paths = parse_membership(key)
        found = self._folders(paths, "cpu")
        if found is None:
            return Absent(Why.NOT_HERE, "its cgroup is not mounted where qtop runs")
        version, folders = found
        at = mono()
        return CgroupSample(
            at=at,
            version=version,
            path=paths.get("cpu", paths.get("", "")),
            usage_us=self._usage(paths, version, folders[0]),
            quotas=self._quotas(version, folders),
            cpuset=self._cpuset(paths),
            pressure=self._pressure(paths),
        )

    def _usage(self, paths: dict[str, str], version: int, folder: str) -> Reading[int]:
        if version == 2:
            return _counter(self._files.read(f"{folder}/cpu.stat"), b"usage_usec")
        found = self._folders(paths, "cpuacct")
        if found is None:
            return Absent(Why.UNSUPPORTED, "no cpuacct controller")
        nanoseconds = self._files.read(f"{found[1][0]}/cpuacct.usage")
        if isinstance(nanoseconds, Absent):
            return nanoseconds
        used = _integer(nanoseconds)
        return Absent(Why.FAILED, "cpuacct.usage holds no number") if used is None else used // 1000

    def _quotas(self, version: int, folders: list[str]) -> tuple[QuotaLevel, ...] | Absent:
        """Every level that has a quota; Absent where one may not be read: "no quota" would be a guess."""
        quotas: list[QuotaLevel] = []
        for folder in folders:
            level = self._quota_v1(folder) if version == 1 else self._quota_v2(folder)
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

    def _cpuset(self, paths: dict[str, str]) -> Reading[str]:
        found = self._folders(paths, "cpuset")
        if found is None:
            return Absent(Why.UNSUPPORTED, "no cpuset controller")
        version, folders = found
        # The v2 file exists only where the controller is enabled: the nearest ancestor that has it speaks for the rest.
        names = ("cpuset.cpus.effective",) if version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
        for folder in folders:
            for name in names:
                text = self._files.read(f"{folder}/{name}")
                if not isinstance(text, Absent) and text.strip():
                    return text.decode("ascii", "replace").strip()
        return Absent(Why.UNSUPPORTED, "no effective cpuset on its path")

    def _pressure(self, paths: dict[str, str]) -> Reading[Pressure]:
        found = self._folders({"": paths[""]}, "cpu") if "" in paths else None
        if found is None:
            return Absent(Why.UNSUPPORTED, "no v2 tree")
        return parse_pressure(self._files.read(f"{found[1][0]}/cpu.pressure"))

    def close(self) -> None:
        """Close the kept files."""
        self._files.close()


def _below(path: str, root: str) -> PurePosixPath | None:
    """The part of ``path`` under a mount's root; None if it lies elsewhere."""
    if root == "/":
        return PurePosixPath(path.lstrip("/"))
    if path == root or path.startswith(root + "/"):
        return PurePosixPath(path[len(root) :].lstrip("/"))
    # A cgroup namespace shows "/" for its own root although the mount's root has a longer name outside of it.
    return PurePosixPath() if path == "/" else None


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
