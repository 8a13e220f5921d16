"""Knobs that are values of the server's cgroup, or of one beside it: where they lie and whose they are.

A record: as of all files, with the inode of the cgroup's folder ("id"): a unit or container that was started anew has a
new one under the same name, and nothing of qtop's in it. "mounts" is the mount namespace, in which the paths hold.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qtop.act.change import Reading, Record
from qtop.act.knobs.files import FilesKnob, refuse_read_only
from qtop.clock import boot_id
from qtop.collect.cgroup_tree import CgroupTree, Place, parse_membership, parse_mounts
from qtop.collect.discover import procfs
from qtop.errors import Refused

PROC = Path("/proc")
MOST_COUNTED = 2000
"""Folders below a cgroup that are looked into to count who is in it."""
_ENGINES = (
    (re.compile(r"/docker[-/]([0-9a-f]{12})[0-9a-f]{52}(?:\.scope)?(?:/|$)"), "Docker container", "docker"),
    (re.compile(r"/libpod-([0-9a-f]{12})[0-9a-f]{52}(?:\.scope)?(?:/|$)"), "Podman container", "podman"),
)
_POD = re.compile(r"/kubepods|/cri-containerd-|/crio-")
_UNIT = re.compile(r"/([^/]+\.(?:service|scope|slice))$")


@dataclass(frozen=True)
class Owner:
    """Who set a cgroup up."""

    name: str
    """ "the unit vllm.service"."""
    keep: str = ""
    """A command that makes the owner set the new value itself, "" where there is none."""


class CgroupKnob(FilesKnob):
    """A file of cgroups. Subclasses say which, by the version of the tree."""

    controller: ClassVar[str]
    names: ClassVar[dict[int, str]]

    def known(self, path: Path) -> bool:
        """This file of a cgroup below the root of a mounted tree that has it."""
        if str(path) != os.path.normpath(path):
            return False
        try:
            mounts = parse_mounts((PROC / "self/mountinfo").read_text(errors="replace"))
        except OSError:
            return False
        for mount in mounts:
            version = 1 if mount.controllers else 2
            ours = version == 2 or self.controller in mount.controllers
            if ours and path.name == self.names[version] and str(path.parent).startswith(f"{mount.point}/"):
                return True
        return False

    def held(self, record: Record, one: dict[str, Any]) -> str | None:
        """None too where the cgroup is another one under the same name."""
        path = Path(one["path"])
        if record["boot"] != boot_id() or inode(path.parent) != one["id"]:
            return None
        return self.now(path)

    def read(self, record: Record) -> Reading:
        """What each file holds; from another mount namespace what is not seen may well be there."""
        reading = super().read(record)
        if reading.gone and record["boot"] == boot_id() and record["mounts"] != mount_namespace():
            reading.elsewhere = "the change was made where other cgroups are mounted: they cannot be seen from here"
        return reading

    def record(self, new: str, changes: dict[Path, tuple[str, str]]) -> Record:
        """The record of these files with old and new values."""
        files = [
            {"path": str(path), "old": old, "new": value, "id": inode(path.parent)}
            for path, (old, value) in changes.items()
        ]
        return {"boot": boot_id(), "mounts": mount_namespace(), "new": new, "files": files}


def place_of(pid: int, controller: str) -> Place | None:
    """Where a controller has the cgroup of a process; None where that cannot be seen."""
    try:
        text = (PROC / str(pid) / "cgroup").read_text(errors="replace")
    except OSError:
        return None
    return CgroupTree(PROC).place(parse_membership(text), controller, pid)


def present(knob: CgroupKnob, path: Path) -> str:
    """The value of a file that a plan is about; Refused where it cannot be read or ever be written."""
    refuse_read_only(path)
    value = knob.now(path)
    if value is None:
        raise Refused(f"{path} cannot be read")
    return value


def owner_of(folder: str, option: str, unit: str) -> Owner:
    """Who set it up, with what keeps a value there: ``option`` for docker and podman, ``unit`` for systemd."""
    for pattern, kind, command in _ENGINES:
        if found := pattern.search(folder):
            return Owner(f"the {kind} {found[1]}", f"{command} update {option} {found[1]}")
    if _POD.search(folder):
        return Owner("a Kubernetes pod", "")
    if found := _UNIT.search(folder):
        return Owner(f"the unit {found[1]}", f"systemctl set-property {found[1]} {unit}")
    return Owner(f"the cgroup {folder}")


def members(folder: str) -> set[int]:
    """The processes in a cgroup and below it, as far as they can be seen."""
    found: set[int] = set()
    for seen, (where, _, files) in enumerate(os.walk(folder)):
        if seen >= MOST_COUNTED:
            break
        if "cgroup.procs" in files:
            try:
                found |= {int(word) for word in Path(where, "cgroup.procs").read_text().split()}
            except (OSError, ValueError):
                continue
    return found


def inode(folder: Path) -> int:
    """The kernel's number of this very cgroup; 0 where there is none."""
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def mount_namespace() -> str:
    """Where the paths hold, or "" where it cannot be read."""
    return procfs.link(f"{PROC}/self/ns/mnt")
