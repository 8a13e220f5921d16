"""QT115: the GPU's memory has errors: uncorrected ones, or corrected ones at a rate."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import gpus_of, known, said
from qtop.diagnose.rules.gpus import stalled
from qtop.diagnose.rules.requests import WRONG
from qtop.model.frame import Frame, GpuView
from qtop.sample import NOT_RECORDED, Absent, Why

RATE = 60.0
"""Corrected errors a minute from which they are more than chance (proposed; the driver's own word for it is Xid 92)."""

REASON = "nvidia-smi -q -d ECC,ROW_REMAPPER shows where, and what is marked for replacement"


class EccErrors(Rule):
    """2 while uncorrected errors grow; corrected ones count up to 1.9, 1 being ``RATE`` a minute."""

    id = "QT115"
    title = "ECC errors"
    enter = (
        Enter(Severity.WARNING, at=1.0, seconds=14.0, of=20.0),
        Enter(Severity.CRITICAL, at=2.0, seconds=1.0, of=1.0),
    )
    clear = Clear(below=0.5, seconds=120.0)

    def look(self, frame: Frame) -> Answer:
        """The worst GPU."""
        gpus = gpus_of(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        worst: tuple[float, GpuView] | None = None
        why: Absent = NOT_RECORDED
        for gpu in gpus:
            corrected, uncorrected = gpu.ecc_corrected_min, gpu.ecc_uncorrected_min
            if isinstance(corrected, Absent) and isinstance(uncorrected, Absent):
                why = uncorrected
                continue
            value = 2.0 if (known(uncorrected) or 0.0) > 0 else min(1.9, (known(corrected) or 0.0) / RATE)
            if worst is None or value > worst[0]:
                worst = value, gpu
        if worst is None:
            if why.why is Why.UNSUPPORTED:
                return NotApplicable("the GPU has no ECC, or it is off")
            return CannotTell(said(why))
        value, gpu = worst
        impact = (1.0 if stalled(frame) else WRONG) if value >= 2.0 else 0.0
        figure = "uncorrected" if value >= 2.0 else f"{known(gpu.ecc_corrected_min) or 0.0:.0f} a minute"
        return Observed(value, lambda: _told(gpu, value), impact=impact, figure=figure)


RULE = EccErrors()


def _told(gpu: GpuView, value: float) -> Told:
    lines = []
    for name, rate, whole, at in (
        ("uncorrected", gpu.ecc_uncorrected_min, gpu.ecc_uncorrected, 0.0),
        ("corrected", gpu.ecc_corrected_min, gpu.ecc_corrected, RATE),
    ):
        since = said(whole) if isinstance(whole, Absent) else f"{whole} since the driver was loaded"
        lines.append(Evidence(f"{name} memory errors of GPU {gpu.index}", known(rate), "a minute", at, since))
    if value >= 2.0:
        text = (
            f"GPU {gpu.index} MEMORY FAILS: uncorrected ECC errors ({known(gpu.ecc_uncorrected) or 0:.0f} in all) — "
            "answers may be wrong; reset it, have it checked"
        )
    else:
        rate = known(gpu.ecc_corrected_min) or 0.0
        text = (
            f"GPU {gpu.index} MEMORY HAS ERRORS: {rate:.0f} corrected a minute — nothing is lost yet; have it checked"
        )
    return Told(text, tuple(lines), reason=REASON if value > 0 else "")
