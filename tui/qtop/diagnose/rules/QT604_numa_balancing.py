"""QT604: the kernel moves pages between NUMA nodes all the time."""

from __future__ import annotations

from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Clear,
    Enter,
    Evidence,
    NotApplicable,
    Observed,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import host_of, said
from qtop.model.frame import Frame, HostView
from qtop.sample import Absent

PAGES_S = 100.0
SOURCE = "proposed; kernel.numa_balancing does nothing on one node (mm/mempolicy.c)"


class NumaBalancing(Rule):
    """Pages a second that NUMA balancing moved."""

    id = "QT604"
    title = "NUMA balancing migrates pages"
    enter = (Enter(Severity.WARNING, at=PAGES_S, seconds=24.0, of=30.0),)
    clear = Clear(below=50.0, seconds=30.0)

    def look(self, frame: Frame) -> Answer:
        """0 where it is switched off, whatever else moves pages."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        if isinstance(host.nodes, Absent):
            return CannotTell(f"the host's NUMA nodes: {said(host.nodes)}")
        if host.nodes < 2:
            return NotApplicable("the host has one NUMA node: balancing has no effect there")
        if isinstance(host.numa_balancing, Absent):
            return CannotTell(f"kernel.numa_balancing: {said(host.numa_balancing)}")
        if isinstance(host.migrations_s, Absent):
            return CannotTell(f"how many pages are moved: {said(host.migrations_s)}")
        pages = host.migrations_s if host.numa_balancing else 0.0
        return Observed(pages, lambda: _told(host, pages), figure=f"{pages:.0f} pages/s")


RULE = NumaBalancing()


def _told(host: HostView, pages: float) -> Told:
    setting = host.numa_balancing if isinstance(host.numa_balancing, int) else None
    nodes = host.nodes if isinstance(host.nodes, int) else None
    lines = [
        Evidence("pages moved between nodes", pages, "a second", PAGES_S, SOURCE),
        Evidence("kernel.numa_balancing", setting, "", None, "a bit mask: 1 balancing, 2 memory tiering"),
        Evidence("NUMA nodes", nodes, ""),
    ]
    if not isinstance(host.hint_faults_s, Absent):
        lines.append(Evidence("faults provoked to see who uses a page", host.hint_faults_s, "a second"))
    return Told(
        f"NUMA BALANCING MOVES {pages:.0f} pages a second — bind the server to its GPU's node, or switch it off",
        tuple(lines),
        reason=""
        if pages < PAGES_S
        else (
            "sysctl kernel.numa_balancing=0 (root, until the next boot; for good a file in /etc/sysctl.d), or bind "
            "CPUs and memory to one node (numactl --cpunodebind --preferred; vLLM from 0.20 on: --numa-bind)"
        ),
    )
