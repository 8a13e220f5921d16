"""QT104: a GPU that was there does not answer any more."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import known, said
from qtop.diagnose.rules.gpus import stalled
from qtop.model.frame import EngineView, Frame
from qtop.model.roofline import gpus_of_server
from qtop.sample import Absent, Why


class GpuLost(Rule):
    """How many GPUs of this host are lost."""

    id = "QT104"
    title = "GPU lost"
    enter = (Enter(Severity.CRITICAL, at=1.0, seconds=1.0, of=1.0),)
    clear = Clear(below=1.0, seconds=3.0)
    explains = ("QT114", "QT115", "QT305", "QT310")

    def look(self, frame: Frame) -> Answer:
        """Those that were there and are gone; not those that this user may not open."""
        lost = frame.gpus_lost
        gone = [index for index, why in lost.items() if why.why is Why.LOST] if lost else []
        if gone:
            # A server that brings tokens, or has memory on the GPUs that are left, does not use the lost one.
            left = not isinstance(frame.gpus, Absent) and bool(gpus_of_server(frame.gpus))
            moves = isinstance(frame.engine, EngineView) and (known(frame.engine.gen_tok_s) or 0.0) > 0
            hit = stalled(frame) or not (left or moves)
            return Observed(float(len(gone)), lambda: _told(frame, gone), impact=1.0 if hit else 0.0, figure="lost")
        gpus = frame.gpus
        if isinstance(gpus, Absent):
            return NotApplicable(said(gpus)) if gpus.why is Why.UNSUPPORTED else CannotTell(said(gpus))
        if not gpus:
            return CannotTell(said(next(iter(lost.values())))) if lost else NotApplicable("no GPU")
        return Observed(0.0, lambda: Told("", (Evidence("GPUs that answer", float(len(gpus)), ""),)), figure="")


RULE = GpuLost()


def _told(frame: Frame, gone: list[str]) -> Told:
    lines = [Evidence(f"GPU {index}", said(frame.gpus_lost[index]), "", None, "NVML") for index in gone]
    if not isinstance(frame.gpus, Absent):
        lines.append(Evidence("GPUs that answer", float(len(frame.gpus)), ""))
    what = said(frame.gpus_lost[gone[0]])
    reset = "reset it (nvidia-smi --gpu-reset), then restart the server" if "reset" in what else ""
    names = f"GPU {gone[0]}" if len(gone) == 1 else f"GPUs {', '.join(gone)}"
    headline = f"{names} LOST: {_short(what)} — {reset or 'reboot; if it comes back, check its seat, power and heat'}"
    return Told(headline, tuple(lines), reason="dmesg | grep -i xid says what the driver saw")


def _short(what: str) -> str:
    """The driver's word without where to look further, but with the Xid."""
    head, _, rest = what.partition(";")
    xid = rest.rpartition("(Xid ")[2] if "(Xid " in rest else ""
    code = xid.rstrip(")")
    return f"{head} (Xid {code})" if code.isdigit() else head
