"""QT120: so little memory of the GPU is free that the next allocation may fail, and who holds it."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import MIB, are_servers, known, said
from qtop.diagnose.rules.gpus import process_lines, process_name, watched, worst
from qtop.model.frame import Frame, GpuView, VramSplit
from qtop.sample import Absent, Reading, ServerInfo
from qtop.units import size

CLEAR_MIB, LOW_MIB, CRITICAL_MIB = 600.0, 300.0, 128.0
SOURCE = "proposed; CUDA needs tens to hundreds of MiB for a new kernel, a graph or a communicator"

REASON = "nothing is slower for it yet; the next allocation may fail, and CUDA out of memory ends a server"


def _missing(free_mib: float) -> float:
    """MiB that free memory lacks to 600; -1 with plenty."""
    return max(-1.0, CLEAR_MIB - free_mib)


class VramNearlyFull(Rule):
    """How far free memory has fallen below 600 MiB, MiB."""

    id = "QT120"
    title = "VRAM nearly full"
    enter = (
        Enter(Severity.WARNING, at=_missing(LOW_MIB), seconds=9.0, of=10.0),
        Enter(Severity.CRITICAL, at=_missing(CRITICAL_MIB), seconds=3.0, of=3.0),
    )
    clear = Clear(below=0.0, seconds=5.0)

    def look(self, frame: Frame) -> Answer:
        """The fullest of the server's GPUs. Memory in use says nothing: vLLM takes it all at its start, by design."""
        gpus = watched(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        if not are_servers(frame, gpus):
            return CannotTell("which of the GPUs the server uses: the driver does not list its processes here")
        found = worst(gpus, _fullness)
        if isinstance(found, CannotTell):
            return found
        value, gpu = found
        return Observed(value, lambda: _told(frame, gpu), figure=f"{_free(gpu) / MIB:.0f} MiB free")


RULE = VramNearlyFull()


def _free(gpu: GpuView) -> float:
    return float(gpu.vram.free) if isinstance(gpu.vram, VramSplit) else 0.0


def _fullness(gpu: GpuView) -> Reading[float]:
    return gpu.vram if isinstance(gpu.vram, Absent) else _missing(gpu.vram.free / MIB)


def _told(frame: Frame, gpu: GpuView) -> Told:
    vram, others = gpu.vram, () if isinstance(gpu.others, Absent) else gpu.others
    assert isinstance(vram, VramSplit)
    lines = [Evidence(f"free on GPU {gpu.index}", vram.free / MIB, "MiB", LOW_MIB, SOURCE)]
    for name, part in (("the server holds", vram.server), ("others hold", vram.others)):
        text = said(part) if isinstance(part, Absent) else size(part)
        lines.append(Evidence(name, text, "", None, "NVML, by process"))
    server, held = known(vram.server), [one for one in others if not isinstance(one.bytes, Absent) and one.bytes > 0]
    largest = max(held, key=lambda one: known(one.bytes) or 0, default=None)
    if largest is not None and (known(largest.bytes) or 0) >= max(vram.free, 64 * MIB):
        who = f"{process_name(largest)} holds {size(largest.bytes)} too: end it, or give the server less"
    elif server is not None:
        who = f"the server holds {size(server)} itself: {_less(frame)}"
    else:
        who = "who holds it the driver does not say here: see nvidia-smi on the host"
    return Told(
        f"VRAM NEARLY FULL: {vram.free / MIB:.0f} MiB free on GPU {gpu.index} — {who}",
        (*lines, *process_lines(others)),
        reason=REASON if vram.free < CLEAR_MIB * MIB else "",
    )


def _less(frame: Frame) -> str:
    vllm = isinstance(frame.server, ServerInfo) and frame.server.engine == "vllm"
    return "lower --gpu-memory-utilization" if vllm else "give it less"
