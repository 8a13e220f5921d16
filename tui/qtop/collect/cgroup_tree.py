"""Where the cgroup of a process is mounted: v1, v2 and hybrid trees, inside and outside containers.

Sources: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5). Paths in /proc/PID/cgroup and the root of a cgroup
mount are both shown from the root of the *reader's* cgroup namespace: "/.." is its parent, whose name cannot be seen.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from qtop.collect.kept import read_once, read_text
from qtop.sample import Absent

MOST_FOLDERS = 512
"""Looked at where a cgroup's name is out of sight and only its members can tell it."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mounted cgroup hierarchy: ``root`` is the cgroup that stands at ``point``."""

    root: str
    point: str
    controllers: frozenset[str]
    """Empty for the v2 tree."""


@dataclass(frozen=True)
class Place:
    """The folders of one controller for one cgroup."""

    version: int
    folders: tuple[str, ...]
    """Its own first, then its ancestors up to the mount's root."""
    above: bool
    """There are ancestors above those."""


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


class CgroupTree:
    """The cgroup mounts that this process sees; ``proc`` is /proc, or a stand-in for it."""

    def __init__(self, proc: Path) -> None:
        mountinfo = read_text(proc / "self/mountinfo")
        self._mounts = parse_mounts(mountinfo) if isinstance(mountinfo, str) else ()

    def place(self, paths: dict[str, str], controller: str, pid: int) -> Place | None:
        """Where ``controller`` ("" for the v2 tree) has the cgroup with these paths, of which ``pid`` is a member."""
        version, path = (1, paths[controller]) if controller and controller in paths else (2, paths.get(""))
        if path is None:
            return None
        for mount in self._mounts:
            if (controller in mount.controllers) if version == 1 else not mount.controllers:
                inner = _below(path, mount, pid)
                if inner is not None and _is_folder("/".join((mount.point, *inner))):
                    folders = tuple("/".join((mount.point, *inner[:depth])) for depth in range(len(inner), -1, -1))
                    return Place(version, folders, _has_parent(mount.point, version))
        return None


def _below(path: str, mount: Mount, pid: int) -> tuple[str, ...] | None:
    """The names from a mount's root down to the cgroup; None if it lies elsewhere or cannot be told."""
    up, names = _split(path)
    root_up, root_names = _split(mount.root)
    if up == root_up and names[: len(root_names)] == root_names:
        return names[len(root_names) :]
    if up < root_up and not root_names:
        # The mount begins above the root of our namespace; the names between are not shown, but members are.
        return _search(mount.point, root_up - up, names, pid)
    # A sandbox that makes up its own /proc may show "/" for the cgroup that is mounted.
    return () if up == 0 and not names and _holds(mount.point, pid) is not False else None


def _split(path: str) -> tuple[int, tuple[str, ...]]:
    """How often a path goes up, and the names after that."""
    parts = [part for part in path.split("/") if part]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return up, tuple(parts[up:])


def _search(point: str, depth: int, names: tuple[str, ...], pid: int) -> tuple[str, ...] | None:
    """The cgroup ``depth`` levels below ``point``, and ``names`` below that, which has ``pid`` as a member."""
    level: list[tuple[str, ...]] = [()]
    seen = 0
    for _ in range(depth):
        below: list[tuple[str, ...]] = []
        for parts in level:
            try:
                with os.scandir("/".join((point, *parts))) as entries:
                    below += [(*parts, entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            seen += 1
            if seen + len(below) > MOST_FOLDERS:
                return None
        level = below
    for parts in level:
        found = (*parts, *names)
        if _holds("/".join((point, *found)), pid):
            return found
    return None


def _holds(folder: str, pid: int) -> bool | None:
    """Whether a process is a member of a cgroup; None if that cannot be read."""
    members = read_once(f"{folder}/cgroup.procs", records=True)
    return None if isinstance(members, Absent) else str(pid).encode() in members.split()


def _has_parent(point: str, version: int) -> bool:
    """False for the true root of a hierarchy, known by a file that only it lacks (v2) or has (v1)."""
    if version == 2:
        return os.path.exists(f"{point}/cgroup.type")  # noqa: PTH110 - paths are text here
    return not os.path.exists(f"{point}/release_agent")  # noqa: PTH110


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - paths are text here
