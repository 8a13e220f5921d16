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
from qtop.diagnose.rules.remedies import NO_BALANCING
from qtop.model.frame import Frame, HostView
from qtop.sample import Absent

PAGES_S = 500.0
SOURCE = "measured: 1 100 to 2 200 where a server of 60 MB wanders, 240 where it moved once"


class NumaBalancing(Rule):
    """Pages a second that NUMA balancing moved, over twenty seconds: it moves them in bursts, a scan at a time."""

    id = "QT604"
    title = "NUMA balancing migrates pages"
    enter = (Enter(Severity.WARNING, at=PAGES_S, seconds=45.0, of=60.0),)
    clear = Clear(below=PAGES_S / 2, seconds=20.0)

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
        if isinstance(host.migrations_mean_s, Absent):
            return CannotTell(f"how many pages are moved: {said(host.migrations_mean_s)}")
        pages = host.migrations_mean_s if host.numa_balancing else 0.0
        return Observed(pages, lambda: _told(host, pages), figure=f"{pages:.0f} pages/s")


RULE = NumaBalancing()


def _told(host: HostView, pages: float) -> Told:
    setting = host.numa_balancing if isinstance(host.numa_balancing, int) else None
    nodes = host.nodes if isinstance(host.nodes, int) else None
    lines = [
        Evidence("pages moved between nodes, over twenty seconds", pages, "a second", PAGES_S, SOURCE),
        Evidence("kernel.numa_balancing", setting, "", None, "a bit mask: 1 balancing, 2 memory tiering"),
        Evidence("NUMA nodes", nodes, ""),
    ]
    if not isinstance(host.hint_faults_s, Absent):
        lines.append(Evidence("faults provoked to see who uses a page", host.hint_faults_s, "a second"))
    return Told(
        f"NUMA BALANCING MOVES {pages:.0f} pages a second — bind the server to its GPU's node, or switch it off",
        tuple(lines),
        (NO_BALANCING,),
        reason=""
        if pages < PAGES_S
        else (
            "sysctl kernel.numa_balancing=0 (root, until the next boot; for good a file in /etc/sysctl.d), or bind "
            "CPUs and memory to one node (numactl --cpunodebind --preferred; vLLM from 0.20 on: --numa-bind)"
        ),
    )
