"""QT209: fewer CPUs than the server's processes need: one for the API server, one for the engine, one a GPU."""

from __future__ import annotations

from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Clear,
    Enter,
    Evidence,
    Observed,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import gpus_of, gpus_told, said
from qtop.diagnose.rules.cpu_wait import sched_of
from qtop.model.frame import Frame, SchedView, UsableView
from qtop.model.roofline import gpus_of_server
from qtop.sample import Absent
from qtop.units import percent

FEW_LOGICAL, FEW_CORES, WAITS_TOO = 1.0, 2.0, 3.0
"""Values: fewer than 2·(2+N) logical CPUs; fewer than 2+N cores; and the critical threads wait."""
WAIT = 0.05
SOURCE = "vLLM, docs/configuration/optimization.md: at least 2 + N physical cores for N GPUs"


class TooFewCores(Rule):
    """Usable CPUs (masks, cpuset, quota) against vLLM's own rule."""

    id = "QT209"
    title = "too few CPU cores for the GPUs"
    enter = (
        Enter(Severity.INFO, at=FEW_LOGICAL, seconds=5.0, of=5.0),
        Enter(Severity.WARNING, at=WAITS_TOO, seconds=8.0, of=10.0),
    )
    clear = Clear(below=FEW_LOGICAL, seconds=5.0, ease=WAITS_TOO)

    def look(self, frame: Frame) -> Answer:
        """How far it falls short, in steps; what its waiting costs is QT201's to weigh."""
        gpus = gpus_of(frame)
        if not isinstance(gpus, tuple):
            return gpus
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        usable = sched.usable
        if isinstance(usable, Absent):
            return CannotTell(f"the CPUs it may use: {said(usable)}")
        number = len(gpus) if len(gpus) == 1 or gpus_of_server(gpus) else gpus_told(frame)
        if number is None:
            return CannotTell("how many of the GPUs the server uses: the driver does not list its processes here")
        need = 2 + number
        cores = usable.logical if isinstance(usable.cores, Absent) else usable.cores
        wait = max(thread.wait for thread in sched.critical)
        value = 0.0
        if cores < need:
            value = WAITS_TOO if wait >= WAIT else FEW_CORES
        elif usable.logical < 2 * need:
            value = FEW_LOGICAL
        figure = f"{usable.logical:g} of {2 * need} CPUs"
        return Observed(value, lambda: _told(usable, number, cores, wait), figure=figure)


RULE = TooFewCores()


_LIMITS = {
    "quota": "the CPU quota of its cgroup",
    "cpuset": "the cpuset of its cgroup",
    "affinity": "its affinity",
    "host": "the host",
}


def _told(usable: UsableView, number: int, cores: float, wait: float) -> Told:
    need = 2 + number
    few = cores < need
    have = f"{cores:g} of {need} cores" if few else f"{usable.logical:g} of {2 * need} CPUs"
    gpus = "one GPU" if number == 1 else f"{number} GPUs"
    also = f", and its engine waits for one {percent(wait)} of the time" if few and wait >= WAIT else ""
    by = _LIMITS[usable.limit]
    lines = (
        Evidence(
            "physical cores it may use", cores if not isinstance(usable.cores, Absent) else None, "", need, SOURCE
        ),
        Evidence("logical CPUs it may use", usable.logical, "", 2.0 * need, SOURCE),
        Evidence("set by", by, ""),
        Evidence("the critical thread waits for a CPU", wait, "of wall time", WAIT),
    )
    enough = not few and usable.logical >= 2 * need
    reason = "" if wait >= WAIT or enough else "nothing waits for a CPU now: it may be enough for this load"
    return Told(f"TOO FEW CPUs FOR {gpus}: {have} wanted{also}; {by} sets it", lines, reason=reason)
