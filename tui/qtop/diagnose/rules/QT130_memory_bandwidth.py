"""QT130: decoding reads the GPU's memory about as fast as it can be read: the good limit."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import known, said
from qtop.diagnose.rules.gpus import is_idle, less_to_read, watched, worst
from qtop.model.frame import Frame, GpuView
from qtop.model.roofline import bandwidth_of
from qtop.sample import Absent
from qtop.units import percent

AT = 0.70
INFERRED = "inferred: steps a second × (weights + KV cache held) ÷ peak bandwidth; at least so much"
HOW = "needs a GPU with GPM (Hopper or newer), or a model whose size qtop knows"

REASON = (
    "each step reads all weights and the KV cache of every running request: more requests in a batch share the "
    "weights, speculative decoding makes more of each step"
)


class MemoryBandwidth(Rule):
    """Share of the peak memory bandwidth in use, by GPM, else by the roofline."""

    id = "QT130"
    title = "memory-bandwidth bound"
    enter = (Enter(Severity.INFO, at=AT, seconds=9.0, of=10.0),)
    clear = Clear(below=0.55, seconds=20.0)
    limit = True

    def look(self, frame: Frame) -> Answer:
        """The busiest memory of the server's GPUs."""
        gpus = watched(frame)
        if isinstance(gpus, (CannotTell, NotApplicable)):
            return gpus
        measured = worst(gpus, lambda gpu: gpu.dram)
        if not isinstance(measured, CannotTell):
            use, gpu = measured
        elif any(gpu.mig is True for gpu in gpus):
            return CannotTell("the GPU is split (MIG): neither measured nor inferred for a part of it")
        elif not isinstance(frame.dram_inferred, Absent):
            use, gpu = frame.dram_inferred, gpus[0]
        elif is_idle(frame):
            use, gpu = 0.0, gpus[0]
        else:
            return CannotTell(f"{measured.reason}; {HOW}")
        if is_idle(frame):
            use = 0.0
        inferred = isinstance(measured, CannotTell)
        return Observed(use, lambda: _told(frame, gpu, use, inferred), impact=use if use >= AT else 0.0)


RULE = MemoryBandwidth()


def _told(frame: Frame, gpu: GpuView, use: float, inferred: bool) -> Told:
    lines = []
    if inferred:
        lines.append(Evidence("memory bandwidth used", known(frame.dram_inferred), "of the peak", AT, INFERRED))
    else:
        lines.append(Evidence(f"memory bandwidth of GPU {gpu.index}", use, "of the peak", AT, "measured by GPM"))
        if not isinstance(frame.dram_inferred, Absent):
            lines.append(Evidence("its steps must have used", frame.dram_inferred, "of the peak", None, INFERRED))
    peak = bandwidth_of(gpu)
    if peak is not None:
        lines.append(Evidence("peak", peak / 1e9, "GB/s", None, "memory clock × bus width, else the data sheet"))
    if not isinstance(frame.roofline_tok_s, Absent):
        lines.append(Evidence("the most that this allows the batch", frame.roofline_tok_s, "tok/s"))
    if isinstance(gpu.others, Absent):
        lines.append(Evidence("other processes on the GPU", said(gpu.others), ""))
    how = " (inferred)" if inferred else ""
    return Told(
        f"MEMORY BANDWIDTH IS THE LIMIT: {percent(use)} of the peak{how} — {less_to_read(frame)} raise it",
        tuple(lines),
        reason=REASON if use >= AT else "",
    )
