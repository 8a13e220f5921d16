"""The knobs ``swappiness`` and ``numa-balancing``: values of the kernel's memory management. Live, root."""

from __future__ import annotations

from pathlib import Path

from qtop.act.change import Plan
from qtop.act.knobs.sysfile import SysfileKnob, number_in, warned
from qtop.errors import Refused
from qtop.model.frame import Frame

LOW = 10
"""What vendors of databases and of inference servers commonly propose; the kernel's default is 60 (vm.rst)."""
NODES = Path("/sys/devices/system/node")


class Swappiness(SysfileKnob):
    """vm.swappiness: how readily the kernel swaps out a process's memory instead of dropping file cache."""

    id = "swappiness"
    title = "vm.swappiness"
    sysctl = "vm.swappiness"
    example = "10"

    def paths(self) -> list[Path]:
        """One."""
        path = Path("/proc/sys/vm/swappiness")
        return [path] if path.exists() else []

    def valid(self, value: str) -> bool:
        """0–200 (source: Documentation/admin-guide/sysctl/vm.rst)."""
        return number_in(value, 0, 200)

    def values(self) -> str:
        """The range."""
        return "a whole number from 0 to 200"

    def proposed(self, frame: Frame) -> str:
        """Low, where there is swap to keep the server out of."""
        if not has_swap():
            raise Refused("this host has no swap: nothing is swapped out, whatever vm.swappiness is")
        now = self.now(self.paths()[0]) if self.paths() else None
        if now is not None and now.isdigit() and int(now) <= LOW:
            raise Refused(f"vm.swappiness is {now} already")
        return str(LOW)

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """What 0 means."""
        if plan.value == "0":
            return warned(plan, ["at 0 the kernel swaps only when it would otherwise kill a process"])
        return plan


class NumaBalancing(SysfileKnob):
    """kernel.numa_balancing: the kernel moves pages towards the threads that use them, and faults them to learn who."""

    id = "numa-balancing"
    title = "kernel.numa_balancing"
    sysctl = "kernel.numa_balancing"
    example = "0"

    def paths(self) -> list[Path]:
        """One, where the kernel was built with it."""
        path = Path("/proc/sys/kernel/numa_balancing")
        return [path] if path.exists() else []

    def valid(self, value: str) -> bool:
        """0 off, 1 on, 2 by memory tier, 3 both (source: Documentation/admin-guide/sysctl/kernel.rst)."""
        return number_in(value, 0, 3)

    def values(self) -> str:
        """The range."""
        return "0 (off), 1 (on), 2 (memory tiers), 3 (both)"

    def proposed(self, frame: Frame) -> str:
        """Off, where there are nodes to balance."""
        if len(list(NODES.glob("node[0-9]*"))) < 2:
            raise Refused("this host has one NUMA node: there is nothing to balance, whatever the setting is")
        return "0"


def has_swap() -> bool:
    """Whether anything can be swapped to; True where that is not told."""
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return True
