"""CPUs as a user writes them, and as a process's cgroup allows them."""

from __future__ import annotations

import re

from qtop.collect.cgroup import CgroupReader
from qtop.errors import QtopError
from qtop.sample import Absent, cpulist

CPU_LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)
"""What a user may write; longer numbers are no CPUs, and a range of them would not fit in memory."""


def cpus_asked(text: str, like: str) -> frozenset[int]:
    """The CPUs that a user wrote; QtopError, with what it should look ``like``, where they are none."""
    asked = cpulist.parse_or_empty(text) if CPU_LIST.fullmatch(text) else frozenset[int]()
    if not asked:
        raise QtopError(f"not a list of CPUs: {text!r}", f"Write it like {like}.")
    return asked


def cpuset_of(cgroups: CgroupReader, pid: int) -> frozenset[int] | None:
    """The CPUs that the cgroup of a process allows; None where that cannot be read."""
    sample = cgroups.read(cgroups.key_of(pid))
    if isinstance(sample, Absent) or isinstance(sample.cpuset, Absent):
        return None
    return cpulist.parse(sample.cpuset)
