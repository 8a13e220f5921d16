"""The GPU panel: how busy, how full, how hot, what holds its clock down."""

from __future__ import annotations

from collections.abc import Mapping

from qtop.model.frame import Frame, GpuView
from qtop.sample import Absent, Gpm, Reading
from qtop.ui.cells import fit
from qtop.ui.look import Line, Look
from qtop.ui.panels import crit_above, packed, pair, side_by_side, title
from qtop.ui.widgets.marks import bar
from qtop.units import NONE, gib, is_number, number, percent

LEAST_DUTY = 0.005
"""Share of time below which a limit is not named."""
QUIET_REASONS = frozenset({"idle", "application clocks", "sync boost", "display clocks"})


def no_gpu_line(look: Look, frame: Frame, width: int) -> Line:
    """One calm line in place of the panel."""
    why = str(frame.gpus) if isinstance(frame.gpus, Absent) else "none"
    return (look.seg("GPU  ", "title"), look.seg(fit(why, width - 5), "label"))


def gpu_lines(look: Look, frame: Frame, width: int, columns: int = 1, further: int = 99) -> list[Line]:
    """The first GPU in full, each further one in short, a line for each lost one; ``columns`` side by side.

    At most ``further`` lines are spent on the further ones; the last of them then says how busy the rest is.
    """
    if isinstance(frame.gpus, Absent) or (not frame.gpus and not frame.gpus_lost):
        return [no_gpu_line(look, frame, width)]
    lines: list[Line] = []
    if frame.gpus:
        head, *rest = _full(look, frame.gpus[0], width, columns)
        lines += [head, *side_by_side(look, rest, width, columns)]
    others = frame.gpus[1:]
    places = columns * further
    shown = others if len(others) <= places else others[: max(0, places - 1)]
    short = [_short(look, gpu, width // columns) for gpu in shown]
    if len(shown) < len(others):
        short.append(_sum(look, others[len(shown) :], width // columns))
    lines += side_by_side(look, short, width, columns)
    lost: dict[str, list[str]] = {}
    for index, why in sorted(frame.gpus_lost.items()):
        lost.setdefault(str(why), []).append(index)
    for text, indexes in lost.items():
        label = f"GPU {','.join(indexes)}".ljust(7) + " "
        lines.append((look.seg(label, "label"), look.seg(fit(text, max(0, width - len(label))), "crit")))
    return lines


def _short(look: Look, gpu: GpuView, width: int) -> Line:
    used = f"  {gib(gpu.mem_used)}/{gib(gpu.mem_total)} GiB"
    head = pair(look, f"GPU {gpu.index}", percent(gpu.util, 5))
    return packed(width - 1, head, (look.seg(used),), (look.seg(f"  {_power(gpu)}"),))


def _sum(look: Look, gpus: tuple[GpuView, ...], width: int) -> Line:
    busy = [gpu.util for gpu in gpus if not isinstance(gpu.util, Absent)]
    span = f"{percent(min(busy))} to {percent(max(busy))} busy" if busy else NONE
    return pair(look, f"{len(gpus)} more", fit(span, width - 9))


def _full(look: Look, gpu: GpuView, width: int, columns: int) -> list[Line]:
    name = gpu.name.removeprefix("NVIDIA ") if isinstance(gpu.name, str) else f"(name {gpu.name})"
    lines = [title(look, f"GPU {gpu.index} {name}", width)]
    room = width // columns
    lines.append(_busy(look, gpu, room))
    lines.append(_memory(look, gpu, room))
    heat = f"{number(gpu.temp_c)} °C"
    lines.append(pair(look, "power", f"{_power(gpu)}   {heat}"))
    top = f"/{number(gpu.sm_max_mhz)}" if is_number(gpu.sm_max_mhz) else ""
    lines.append(pair(look, "clock", f"{number(gpu.sm_mhz)}{top} MHz"))
    lines.append(_pcie(look, gpu, room))
    lines.append(_limits(look, gpu, room))
    return lines


def _busy(look: Look, gpu: GpuView, width: int) -> Line:
    """GPM says how full the GPU is; utilization only that some kernel ran."""
    segments = [*pair(look, "busy", percent(gpu.util, 5))]
    used = 13
    if isinstance(gpu.gpm, Gpm):
        for label, share in (("SM", gpu.gpm.sm_util), ("DRAM", gpu.gpm.dram_util), ("tensor", gpu.gpm.tensor_util)):
            if isinstance(share, Absent):
                continue
            text = f"{share:.0f} %".rjust(5)
            used += len(label) + len(text) + 2
            if used <= width:
                segments += [look.seg(f"  {label}", "label"), look.seg(text)]
    return tuple(segments)


def _memory(look: Look, gpu: GpuView, width: int) -> Line:
    text = f"{gib(gpu.mem_used)}/{gib(gpu.mem_total)} GiB "
    line = pair(look, "VRAM", text)
    if isinstance(gpu.mem_used, Absent) or isinstance(gpu.mem_total, Absent) or not gpu.mem_total:
        return line
    room = min(16, width - 9 - len(text))
    return (*line, look.seg(bar(gpu.mem_used / gpu.mem_total, room, ascii=look.ascii), "accent")) if room > 3 else line


def _power(gpu: GpuView) -> str:
    limit = f"/{gpu.power_limit_w:.0f}" if not isinstance(gpu.power_limit_w, Absent) else ""
    return f"{number(None if isinstance(gpu.power_w, Absent) else round(gpu.power_w))}{limit} W"


def _pcie(look: Look, gpu: GpuView, width: int) -> Line:
    link = pair(look, "PCIe", gpu.pcie if isinstance(gpu.pcie, str) else NONE)
    if isinstance(gpu.gpm, Gpm):
        received, sent = gpu.gpm.pcie_rx, gpu.gpm.pcie_tx
        if not isinstance(received, Absent) and not isinstance(sent, Absent):
            return packed(width, link, (look.seg(f"  ↓{received * 1.048576:.0f} ↑{sent * 1.048576:.0f} MB/s"),))
    return link


def duty_words(duty: Mapping[str, Reading[float]]) -> tuple[list[str], str]:
    """The limits that held the clock down, the worst first, as "power cap 54 %"; and the pen for the worst that is not
    the power cap, which is no fault."""
    known = [(name, share) for name, share in duty.items() if not isinstance(share, Absent) and share >= LEAST_DUTY]
    known.sort(key=lambda one: -one[1])
    heat = max((share for name, share in known if name != "power_cap"), default=0.0)
    return [f"{name.replace('_', ' ')} {percent(share)}" for name, share in known], crit_above(heat, 0.01, 0.05)


def _limits(look: Look, gpu: GpuView, width: int) -> Line:
    """What held the clock down in the last tick: exact duty where the driver counts it, else the bits that stand."""
    words, pen = duty_words(gpu.duty)
    if words:
        return pair(look, "held by", fit(", ".join(words), width - 8), pen)
    if isinstance(gpu.reasons, Absent):
        return pair(look, "held by", NONE)
    bits = [reason for reason in gpu.reasons if reason not in QUIET_REASONS]
    return pair(look, "held by", fit(", ".join(bits), width - 8) if bits else "nothing", "warn" if bits else "label")
