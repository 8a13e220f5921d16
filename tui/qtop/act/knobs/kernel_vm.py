"""The knobs ``swappiness``, ``numa-balancing`` and ``transparent-hugepages``: the kernel's memory management. Live,
root."""

from __future__ import annotations

import re
from pathlib import Path

from qtop.act.change import Plan
from qtop.act.knobs.files import number_in, warned
from qtop.act.knobs.sysfile import SysfileKnob
from qtop.act.knobs.tuned import Profile
from qtop.errors import Refused
from qtop.model.frame import Frame, HostView
from qtop.sample import Absent

LOW = 10
"""What vendors of databases and of inference servers commonly propose; the kernel's default is 60 (vm.rst)."""
NODES = Path("/sys/devices/system/node")
MIGRATES_S = 100.0
"""Pages a second from which moving them is worth a word (rule QT604 has the same)."""
SWAPPINESS = Path("/proc/sys/vm/swappiness")
NUMA_BALANCING = Path("/proc/sys/kernel/numa_balancing")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class Swappiness(SysfileKnob):
    """vm.swappiness: how readily the kernel swaps out a process's memory instead of dropping file cache."""

    id = "swappiness"
    title = "vm.swappiness"
    sysctl = "vm.swappiness"
    example = "10"

    def paths(self, frame: Frame) -> list[Path]:
        """One."""
        return [SWAPPINESS] if SWAPPINESS.exists() else []

    def known(self, path: Path) -> bool:
        """That one."""
        return path == SWAPPINESS

    def valid(self, value: str, path: Path) -> bool:
        """0–200 (source: Documentation/admin-guide/sysctl/vm.rst)."""
        return number_in(value, 0, 200)

    def values(self, path: Path) -> str:
        """The range."""
        return "a whole number from 0 to 200"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """Low, where there is swap to keep the server out of."""
        if not has_swap():
            raise Refused("this host has no swap: nothing is swapped out, whatever vm.swappiness is")
        now = self.now(paths[0])
        if now is not None and now.isdigit() and int(now) <= LOW:
            raise Refused(f"vm.swappiness is {now} already")
        return str(LOW)

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """What 0 means, and where nothing is swapped."""
        said = ["at 0 the kernel swaps only when it would otherwise kill a process"] if plan.value == "0" else []
        if not has_swap():
            said.append("this host has no swap: it has no effect until there is some")
        return warned(plan, said)


class NumaBalancing(SysfileKnob):
    """kernel.numa_balancing: the kernel moves pages towards the threads that use them, and faults them to learn who."""

    id = "numa-balancing"
    title = "kernel.numa_balancing"
    sysctl = "kernel.numa_balancing"
    example = "0"

    def paths(self, frame: Frame) -> list[Path]:
        """One, where the kernel was built with it."""
        return [NUMA_BALANCING] if NUMA_BALANCING.exists() else []

    def known(self, path: Path) -> bool:
        """That one."""
        return path == NUMA_BALANCING

    def valid(self, value: str, path: Path) -> bool:
        """0 off, 1 on, 2 by memory tier, 3 both (source: Documentation/admin-guide/sysctl/kernel.rst)."""
        return number_in(value, 0, 3)

    def values(self, path: Path) -> str:
        """The range."""
        return "0 (off), 1 (on), 2 (memory tiers), 3 (both)"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """Off, where there are nodes to balance and pages are moved between them all the time."""
        if nodes(frame) < 2:
            raise Refused("this host has one NUMA node: there is nothing to balance, whatever the setting is")
        if self.now(paths[0]) == "0":
            raise Refused("kernel.numa_balancing is 0 already")
        moved = frame.host.migrations_s if isinstance(frame.host, HostView) else None
        if moved is None or isinstance(moved, Absent):
            raise Refused("how many pages NUMA balancing moves is not known", f"To try it all the same: {self.id}=0.")
        if moved < MIGRATES_S:
            raise Refused(
                f"NUMA balancing moves {moved:.0f} pages a second here: nothing to gain",
                f"To try it all the same: {self.id}=0.",
            )
        return "0"

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """What it does not do, and what one of its values is for."""
        said = []
        if nodes(frame) < 2:
            said.append("this host has one NUMA node: it has no effect here")
        now = plan.record["files"][0]["old"]
        if now.isdigit() and int(now) & 2 and plan.value.isdigit() and not int(plan.value) & 2:
            said.append("pages are no longer moved between fast and slow memory either (memory tiering)")
        if plan.value == "0" and nodes(frame) > 1:
            said.append("pages stay where they are: better still is the server bound to its GPU's node")
        return warned(plan, said)


class TransparentHugePages(SysfileKnob):
    """Huge pages without being asked for: fewer TLB misses, against stalls while the kernel gathers 2 MiB in one
    piece."""

    id = "transparent-hugepages"
    title = "transparent huge pages"
    example = "madvise"

    def paths(self, frame: Frame) -> list[Path]:
        """One, where the kernel was built with them."""
        return [HUGE_PAGES] if HUGE_PAGES.exists() else []

    def known(self, path: Path) -> bool:
        """That one."""
        return path == HUGE_PAGES

    def told(self, text: str) -> str:
        """The bracketed word of "always [madvise] never"; ValueError where there is none."""
        found = re.search(r"\[(\w+)\]", text)
        if found is None:
            raise ValueError(text)
        return found[1]

    def valid(self, value: str, path: Path) -> bool:
        """One of three (source: Documentation/admin-guide/mm/transhuge.rst)."""
        return value in ("always", "madvise", "never")

    def values(self, path: Path) -> str:
        """The three."""
        return "always, madvise (those who ask for them) or never"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """The middle way: who asks for huge pages gets them, and nobody else waits for them."""
        if self.now(paths[0]) == "madvise":
            raise Refused(
                "transparent huge pages are for those who ask (madvise): the kernel's and most vendors' advice",
                f"To measure the others: {self.id}=always or {self.id}=never.",
            )
        return "madvise"

    def tuned(self, profile: Profile, path: Path) -> str | None:
        """The vm plugin's, else the sysfs plugin's."""
        return (
            profile.option("vm", "transparent_hugepages")
            or profile.option("vm", "transparent_hugepage")
            or profile.sysfs(path)
        )

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """What it does not reach."""
        said = ["memory that is in use keeps its pages: the whole effect shows after a restart of the server"]
        if plan.value == "always":
            said.append("every program on this host gets them: more memory in use, and stalls while it is compacted")
        return warned(plan, said)

    def file(self, plan: Plan) -> tuple[str, str]:
        """A line for tmpfiles.d(5)."""
        return self.at_boot(plan)


def nodes(frame: Frame) -> int:
    """NUMA nodes of this host."""
    if isinstance(frame.host, HostView) and isinstance(frame.host.nodes, int):
        return frame.host.nodes
    return len(list(NODES.glob("node[0-9]*")))


def has_swap() -> bool:
    """Whether anything can be swapped to; True where that is not told."""
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return True
