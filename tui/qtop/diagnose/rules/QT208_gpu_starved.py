"""QT208: requests run, and yet the GPU has gaps, because the host does not feed it in time."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, known, said, stage_share
from qtop.diagnose.rules.frontend import frontend_gap
from qtop.model.frame import Frame, UtilView
from qtop.model.several import cap_of
from qtop.sample import Absent
from qtop.units import percent

BUSY = 0.90
SWINGS = 0.08
DELAY = 0.05
FEW = 4.0
"""With fewer requests than this and none waiting, gaps between them may be the clients' own."""
SOURCE = "facts of vLLM and NVML: a decode step keeps utilization at 99 % with one request on an H100; 90 % is proposed"


class GpuStarved(Rule):
    """The idle share of the busiest GPU of the server while requests ran throughout and the host is seen to be late."""

    id = "QT208"
    title = "GPU starved by the host"
    enter = (Enter(Severity.WARNING, at=1.0 - BUSY, seconds=3.0, of=3.0),)
    clear = Clear(below=0.07, seconds=5.0)  # of a window of ten: fifteen seconds after the last of it

    def look(self, frame: Frame) -> Answer:
        """0 unless all of it holds over the window: gaps, swings, requests throughout, a host that is late."""
        gpus = gpus_of(frame)
        if not isinstance(gpus, tuple):
            return gpus
        util = frame.util
        if isinstance(util, Absent):
            return CannotTell(said(util))
        if isinstance(util.running, Absent):
            return CannotTell(f"whether requests run: {said(util.running)}")
        gaps = util.mean < BUSY and util.deviation >= SWINGS and util.running >= 1 and not _clients_pace(frame, util)
        gap = frontend_gap(frame)
        late = (not isinstance(util.wait, Absent) and util.wait >= DELAY) or bool(gap)
        if gaps and not late and isinstance(util.wait, Absent):
            return CannotTell(f"whether the engine waits for a CPU: {said(util.wait)}")
        idle = 1.0 - util.mean if gaps and late else 0.0
        figure = f"GPU {util.mean:.0%} busy"
        return Observed(idle, lambda: _told(frame, util, gap, gaps, late), impact=idle, figure=figure)


RULE = GpuStarved()


def _clients_pace(frame: Frame, util: UtilView) -> bool:
    """Few requests and none waiting: the clients may leave the gaps."""
    waiting, running, cap = known(util.waiting) or 0.0, known(util.running) or 0.0, known(cap_of(frame))
    few = FEW if cap is None else min(FEW, cap / 4.0)
    return waiting <= 0 and running < few


def _told(frame: Frame, util: UtilView, gap: float | None, gaps: bool, late: bool) -> Told:
    who = ""
    if not isinstance(util.wait, Absent) and util.wait >= DELAY:
        who = f"the engine waits for a CPU {percent(util.wait)} of the time"
    elif gap:
        who = f"requests spend {percent(gap)} of their time before the engine"
    running = known(util.running) or 0.0
    lines = [
        Evidence(f"GPU {util.gpu} has a kernel running", util.mean, "of the time", BUSY, SOURCE),
        Evidence("it swings by (standard deviation)", util.deviation, "of the time", SWINGS, "proposed"),
        Evidence(f"requests running, the least in {util.seconds:.0f} s", running, "requests", 1.0),
        Evidence("the critical thread waits for a CPU", known(util.wait), "of wall time", DELAY, "healthy ≤ 0.01"),
    ]
    share = stage_share(frame, "frontend")
    if share is not None:
        lines.append(Evidence("before the engine (TTFT − queue − prefill)", share, "of a request"))
    reason = ""
    if gaps and not late:
        reason = (
            "it has gaps, but the host is not seen to be late: enforce-eager, short kernels or its clients make them"
        )
    return Told(
        f"GPU STARVED BY THE HOST: {percent(util.mean)} busy (±{util.deviation * 100:.0f}) with {running:.0f} requests"
        + (f" — {who}" if who else ""),
        tuple(lines),
        reason=reason,
    )
