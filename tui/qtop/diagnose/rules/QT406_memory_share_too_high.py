"""QT406: gpu-memory-utilization claims more than what else is on the GPU leaves."""

from __future__ import annotations

import msgspec

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import GIB, MIB, gpus_of
from qtop.diagnose.rules.configured import Subject, cpu_build, held, subject_of
from qtop.diagnose.rules.remedies import LESS_MEMORY
from qtop.model.frame import Frame, GpuView
from qtop.model.settings import SettingsView
from qtop.sample import Absent

TIGHT, ENDED = 1.0, 2.0
LEAST = 300 * MIB
"""Less room than this: the next allocation of either fails (guide: warn below 300 MiB)."""
OTHERS = 256 * MIB
"""Held by others at the least: a desktop takes less."""
SPARE = 0.6 * GIB
LOWEST = 0.2
"""A lower share is no proposal: hardly a model fits it."""
CPU_BUILD = NotApplicable("the CPU build uses no GPU memory")


class _Claim(msgspec.Struct, frozen=True):
    gpu: int
    total: float
    share: float
    others: float
    own: float
    more: float
    """Bytes that it may still take."""
    room: float
    """Bytes left once the server has all that it claims; negative where that is not there."""


class MemoryShareTooHigh(Rule):
    """1: the server may still take memory that others hold; 2: it ended before it answered, and what it claims is not
    there. A server that has all that it claims is not this: what is then left is QT120's."""

    id = "QT406"
    title = "gpu-memory-utilization too high"
    explains = ("QT120",)
    enter = (
        Enter(Severity.WARNING, at=TIGHT, seconds=8.0, of=10.0),
        Enter(Severity.CRITICAL, at=ENDED, seconds=2.0, of=3.0),
    )
    clear = Clear(below=TIGHT / 2, seconds=15.0)

    def look(self, frame: Frame) -> Answer:
        """The GPU with the least room."""
        subject = subject_of(frame)
        if not isinstance(subject, Subject):
            return subject
        if cpu_build(subject.info, subject.settings):
            return CPU_BUILD
        gpus = gpus_of(frame)
        if not isinstance(gpus, tuple):
            return gpus
        view = subject.settings
        if isinstance(view, Absent) or held(view).number("gpu_memory_utilization") is None:
            return CannotTell("gpu_memory_utilization: neither /metrics nor its command line tells")
        if subject.starting and not subject.ended:
            return CannotTell("it takes its memory now")
        share, claims = _claims(subject, view, gpus)
        if not claims:
            return CannotTell("who holds the GPU's memory: the driver does not say")
        if subject.ended:
            claim = max(claims, key=lambda one: one.room)  # any of them may have been meant
            value = ENDED if claim.room < 0 and claim.others >= OTHERS else 0.0
        else:
            claim = min(claims, key=lambda one: one.room)
            value = TIGHT if claim.room < LEAST and claim.others >= OTHERS and claim.more > 0 else 0.0
        return Observed(
            value, lambda: _told(subject, claim, value), impact=1.0 if value >= ENDED else 0.0, figure=f"{share:g}"
        )


RULE = MemoryShareTooHigh()


def fitting(frame: Frame) -> float | None:
    """The share that fits beside what others hold, rounded down to 0.01; None where that cannot be told, or where it is
    too small to serve with."""
    subject, gpus = subject_of(frame), gpus_of(frame)
    if not isinstance(subject, Subject) or not isinstance(gpus, tuple) or isinstance(subject.settings, Absent):
        return None
    claims = _claims(subject, subject.settings, gpus)[1]
    lower = min(map(_lower, claims), default=0.0)
    return lower if lower >= LOWEST else None


def _lower(claim: _Claim) -> float:
    return int(max(0.0, (claim.total - claim.others - SPARE) / claim.total) * 100) / 100


def _claims(subject: Subject, view: SettingsView, gpus: tuple[GpuView, ...]) -> tuple[float, list[_Claim]]:
    """The share in force, and what it claims of each GPU."""
    share = held(view).number("gpu_memory_utilization") or 0.0
    exact = held(view).number("kv_cache_memory_bytes") is not None
    return share, [one for gpu in gpus if (one := _claim(gpu, share, exact, subject.ended)) is not None]


def _claim(gpu: GpuView, share: float, exact: bool, ended: bool) -> _Claim | None:
    split, total = gpu.vram, gpu.mem_total
    if isinstance(split, Absent) or isinstance(total, Absent) or total <= 0:
        return None
    if isinstance(split.others, Absent) or isinstance(split.server, Absent):
        if not ended or isinstance(gpu.mem_used, Absent):
            return None
        others, own = float(gpu.mem_used), 0.0
    else:
        others, own = float(split.others), float(split.server)
    wanted = own if exact and not ended else max(own, total * share)
    return _Claim(gpu.index, float(total), share, others, own, wanted - own, total - split.reserved - others - wanted)


def _told(subject: Subject, claim: _Claim, value: float) -> Told:
    lower = _lower(claim)
    lines = (
        Evidence("gpu_memory_utilization", claim.share, "of the GPU's memory"),
        Evidence("that is", claim.total * claim.share / GIB, "GiB"),
        Evidence(f"others hold on GPU {claim.gpu}", claim.others / GIB, "GiB", None, "NVML"),
        Evidence("the server holds", claim.own / GIB, "GiB", None, "NVML"),
        Evidence("room left", claim.room / MIB, "MiB", LEAST / MIB, "proposal; below it allocations fail"),
    )
    if value < TIGHT:
        return Told("what it may take and what others hold fit the GPU together", lines)
    what = f"MEMORY SHARE TOO HIGH {claim.share:g} × {claim.total / GIB:.1f} GiB"
    beside = f"while others hold {claim.others / GIB:.1f} GiB of GPU {claim.gpu}"
    fate = "; vLLM ended" if subject.ended else ""
    do = f"set --gpu-memory-utilization {lower:.2f} or stop them" if lower >= LOWEST else "stop them"
    remedies = (LESS_MEMORY,) if lower >= LOWEST and not subject.ended else ()
    return Told(f"{what} {beside}{fate}: {do}", lines, remedies)
