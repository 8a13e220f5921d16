"""QT114: the driver has reported a critical error (Xid) of the server's GPU."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, said
from qtop.diagnose.rules.gpus import stalled
from qtop.diagnose.rules.requests import WRONG
from qtop.diagnose.rules.xid import meaning
from qtop.model.frame import Frame, GpuView
from qtop.sample import NOT_RECORDED, Absent, Xid
from qtop.units import duration

FRESH_S = 300.0
"""An error speaks for the present for so long."""
VALUES = {Severity.INFO: 1.0, Severity.WARNING: 2.0, Severity.CRITICAL: 3.0}


class XidError(Rule):
    """The worst Xid of the last five minutes: 3 for one after which the GPU cannot be trusted, 2 for one that ended an
    application, 1 for a mere trace."""

    id = "QT114"
    title = "Xid error"
    enter = (
        Enter(Severity.INFO, at=1.0, seconds=1.0, of=1.0),
        Enter(Severity.WARNING, at=2.0, seconds=1.0, of=1.0),
        Enter(Severity.CRITICAL, at=3.0, seconds=1.0, of=1.0),
    )
    clear = Clear(below=1.0, seconds=5.0)
    explains = ("QT305", "QT310")

    def look(self, frame: Frame) -> Answer:
        """Those that were heard while qtop looks; earlier ones are in the kernel log."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        worst: tuple[float, Xid] | None = None
        why: Absent | None = NOT_RECORDED
        for gpu in gpus:
            if isinstance(gpu.xids, Absent):
                why = gpu.xids if why is not None else None
                continue
            why = None
            for xid in gpu.xids:
                if 0.0 <= frame.t - xid.t + 1.0 <= FRESH_S + 1.0:
                    value = VALUES[meaning(xid.code).severity]
                    if worst is None or value >= worst[0]:
                        worst = value, xid
        if worst is None:
            if why is not None:
                return CannotTell(f"{said(why)}: dmesg | grep Xid shows them")
            return Observed(0.0, lambda: _none(gpus), figure="")
        value, xid = worst
        impact = (1.0 if stalled(frame) else WRONG) if value >= VALUES[Severity.CRITICAL] else 0.0
        return Observed(value, lambda: _told(frame, gpus, xid), impact=impact, figure=f"Xid {xid.code}")


RULE = XidError()


def _none(gpus: tuple[GpuView, ...]) -> Told:
    return Told(
        "", tuple(Evidence(f"GPU {gpu.index}, since qtop looks", "no critical error heard", "") for gpu in gpus)
    )


def _told(frame: Frame, gpus: tuple[GpuView, ...], xid: Xid) -> Told:
    what = meaning(xid.code)
    ago = duration(max(0.0, frame.t - xid.t))
    lines = [
        Evidence(
            f"Xid {one.code} of GPU {gpu.index}, {duration(max(0.0, frame.t - one.t))} ago", meaning(one.code).words, ""
        )
        for gpu in gpus
        if not isinstance(gpu.xids, Absent)
        for one in gpu.xids[-4:]
    ]
    return Told(
        f"GPU {xid.index} ERROR, Xid {xid.code} {ago} ago: {what.words} — {what.action}",
        tuple(lines),
        reason="dmesg | grep Xid names the process; nvidia-smi --gpu-reset -i N resets a GPU that nothing uses",
    )
