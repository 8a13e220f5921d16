"""Every GPU in full: what it does, what holds it back, what lies in its memory, how it is linked, who is on it."""

from __future__ import annotations

from qtop.model.frame import EngineView, Frame, GpuView, SchedView
from qtop.model.gpu_link import IDLE, SOON, Link
from qtop.model.roofline import gpus_of_server, kv_pool_bytes
from qtop.sample import Absent, Reading
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import crit_above, packed, pair, title
from qtop.ui.panels.gpu import QUIET_REASONS, duty_words, no_gpu_line
from qtop.ui.panels.table import GAP, Cell, Column, heading, row
from qtop.units import NONE, gib, number, percent, rate_bytes, size

LABEL = 10
OWNER = 32
"""Columns of a process and its number."""
WIDE = 140
"""Columns from which the table names more than one thing that holds a GPU."""
COLUMNS = (
    Column("GPU", 4, right=False),
    Column("name", 20, right=False, least=110),
    Column("kernel", 6),
    Column("SM", 5, least=66),
    Column("DRAM", 5, least=74),
    Column("VRAM GiB", 11),
    Column("power W", 8),
    Column("°C", 4),
    Column("MHz", 6, least=90),
    Column("PCIe", 9, right=False, least=100),
    Column("node", 4, least=120),
    Column("held by", 0, right=False),
)


def gpu_table(look: Look, frame: Frame, width: int) -> list[Line]:
    """A row a GPU, where there are several."""
    if isinstance(frame.gpus, Absent) or len(frame.gpus) + len(frame.gpus_lost) < 2:
        return []
    lines = [title(look, "GPUs", width), heading(look, COLUMNS, width)]
    rows: dict[int, Line] = {}
    for gpu in frame.gpus:
        link_pen = "warn" if gpu.pcie_judged in (Link.NARROW, Link.SLOW) else "text"
        cells = [
            Cell(str(gpu.index), "title"),
            Cell(_name(gpu)),
            Cell(percent(gpu.util)),
            Cell(percent(gpu.sm)),
            Cell(percent(gpu.dram)),
            Cell(f"{gib(gpu.mem_used)}/{gib(gpu.mem_total)}"),
            Cell(_over(gpu.power_w, gpu.power_limit_w)),
            Cell(number(gpu.temp_c), crit_above(_negative(gpu.margin_c), -5, 0)),
            Cell(number(gpu.sm_mhz)),
            Cell(gpu.pcie if isinstance(gpu.pcie, str) else NONE, link_pen),
            Cell(number(gpu.numa_node)),
            Cell(*_held(gpu, 1 if width < WIDE else 3)),
        ]
        rows[gpu.index] = row(look, cells, COLUMNS, width)
    for index, why in frame.gpus_lost.items():
        label = look.seg(f"{index}".ljust(COLUMNS[0].width + GAP), "title")
        rows[int(index)] = (label, look.seg(fit(str(why), width - COLUMNS[0].width - GAP), "crit"))
    return [*lines, *(rows[index] for index in sorted(rows)), ()]


def gpu_blocks(look: Look, frame: Frame, width: int) -> list[Line]:
    """Each GPU in full, one under the other, and what is known of lost ones."""
    if isinstance(frame.gpus, Absent) or (not frame.gpus and not frame.gpus_lost):
        return [no_gpu_line(look, frame, width)]
    lines: list[Line] = []
    for gpu in frame.gpus:
        lines += [*_block(look, frame, gpu, width), ()]
    for index, why in sorted(frame.gpus_lost.items(), key=lambda one: int(one[0])):
        lines.append(pair(look, f"GPU {index}", fit(str(why), width - LABEL), "crit", LABEL))
    return lines


def _block(look: Look, frame: Frame, gpu: GpuView, width: int) -> list[Line]:
    about = [
        text for text in (_text(gpu.arch), f"compute {gpu.compute}" if isinstance(gpu.compute, str) else "") if text
    ]
    lines = [title(look, f"GPU {gpu.index} {_name(gpu)}", width, ", ".join(about))]
    lines += [
        _busy(look, gpu, width),
        _memory_bandwidth(look, frame, gpu, width),
        *_vram(look, frame, gpu, width),
        _power(look, gpu, width),
        _heat(look, gpu, width),
        _clocks(look, gpu, width),
        _limits(look, gpu, width),
        _link(look, gpu, width),
        _errors(look, gpu, width),
        _place(look, frame, gpu, width),
    ]
    return lines + _processes(look, frame, gpu, width)


def _name(gpu: GpuView) -> str:
    return gpu.name.removeprefix("NVIDIA ") if isinstance(gpu.name, str) else f"(name {gpu.name})"


def _text(value: Reading[str]) -> str:
    return value if isinstance(value, str) else ""


def _negative(value: Reading[int]) -> Reading[float]:
    return value if isinstance(value, Absent) else float(-value)


def _over(value: Reading[float], limit: Reading[float]) -> str:
    top = f"/{limit:.0f}" if not isinstance(limit, Absent) else ""
    return f"{value:.0f}{top}" if not isinstance(value, Absent) else NONE


def _busy(look: Look, gpu: GpuView, width: int) -> Line:
    groups: list[Line] = [
        (look.seg("busy".ljust(LABEL), "label"), look.seg("any kernel ", "label"), look.seg(percent(gpu.util, 5)))
    ]
    if not isinstance(gpu.util_min, Absent) and not isinstance(gpu.util_max, Absent) and gpu.util_min < gpu.util_max:
        groups.append((look.seg(f" ({percent(gpu.util_min)} to {percent(gpu.util_max)} in the last second)", "label"),))
    if isinstance(gpu.sm, Absent):
        why = str(gpu.gpm) if isinstance(gpu.gpm, Absent) else str(gpu.sm)
        groups.append((look.seg(f"   how full it is: cannot tell, {why}", "label"),))
        return packed(width, *groups)
    for name, share in (("SM", gpu.sm), ("tensor", gpu.tensor), ("occupancy", gpu.occupancy)):
        groups.append((look.seg(f"   {name} ", "label"), look.seg(percent(share, 5))))
    return packed(width, *groups)


def _memory_bandwidth(look: Look, frame: Frame, gpu: GpuView, width: int) -> Line:
    """Measured by GPM; else inferred from the steps taken, and called so."""
    peak = f" of {gpu.bandwidth / 1e12:.2f} TB/s" if not isinstance(gpu.bandwidth, Absent) else ""
    head = look.seg("DRAM".ljust(LABEL), "label")
    if not isinstance(gpu.dram, Absent):
        return packed(width, (head, look.seg(f"{percent(gpu.dram, 5)}{peak}")))
    if not isinstance(frame.dram_inferred, Absent) and _is_servers(frame, gpu):
        inferred = look.seg("   inferred from steps, weights and KV cache, not measured", "label")
        return packed(width, (head, look.seg(f"≥ {percent(frame.dram_inferred)}{peak}")), (inferred,))
    timed = f"   memory busy {percent(gpu.mem_util)} of the time" if not isinstance(gpu.mem_util, Absent) else ""
    return packed(width, (head, look.seg(f"cannot tell{peak}", "label")), (look.seg(timed, "label"),))


def _is_servers(frame: Frame, gpu: GpuView) -> bool:
    """Whether the driver counts memory of the server here; where it does so on no GPU, whether it may be."""
    if isinstance(gpu.vram, Absent) or isinstance(gpu.vram.server, Absent):
        return not any(_holds(other) for other in frame.gpus) if not isinstance(frame.gpus, Absent) else True
    return gpu.vram.server > 0


def _holds(gpu: GpuView) -> bool:
    return not isinstance(gpu.vram, Absent) and not isinstance(gpu.vram.server, Absent) and gpu.vram.server > 0


def _vram(look: Look, frame: Frame, gpu: GpuView, width: int) -> list[Line]:
    head = look.seg("VRAM".ljust(LABEL), "label")
    text = f"{gib(gpu.mem_used)} of {gib(gpu.mem_total)} GiB"
    split = gpu.vram
    if isinstance(split, Absent) or isinstance(gpu.mem_total, Absent) or not gpu.mem_total:
        return [(head, look.seg(text))]
    parts = [
        ("server", split.server, "█", "stage_frontend"),
        ("others", split.others, "▓", "warn"),
        ("driver", split.reserved, "▒", "label"),
        ("free", split.free, "·", "rule"),
    ]
    room = max(10, min(64, width - LABEL))
    bar = []
    left = room
    for name, part, mark, pen in parts:
        amount = 0 if isinstance(part, Absent) else part
        cells = left if name == "free" else min(left, round(room * amount / gpu.mem_total))
        left -= cells
        bar.append(look.seg(mark * cells, pen))
    legend: list[Line] = [(look.seg(" " * LABEL), look.seg(text))]
    for name, part, mark, pen in parts:
        if isinstance(part, Absent) or part > 0:
            legend.append((look.seg(f"   {mark} ", pen), look.seg(f"{name} ", "label"), look.seg(f"{gib(part)}")))
    engine = frame.engine
    if _is_servers(frame, gpu) and isinstance(engine, EngineView) and not isinstance(engine.kv_use, Absent):
        legend.append((look.seg("   KV cache ", "label"), look.seg(f"{_pool(frame)}{percent(engine.kv_use)} used")))
    return [(head, *bar), packed(width, *legend)]


def _pool(frame: Frame) -> str:
    """One GPU's part of the KV pools, where the tokens they hold and the model's shape are known."""
    held = kv_pool_bytes(frame)
    if isinstance(held, Absent) or isinstance(frame.gpus, Absent):
        return ""
    return f"{gib(held / max(1, len(gpus_of_server(frame.gpus))))} GiB, "


def _power(look: Look, gpu: GpuView, width: int) -> Line:
    groups: list[Line] = [pair(look, "power", f"{_over(gpu.power_w, gpu.power_limit_w)} W", label_width=LABEL)]
    low, high = gpu.power_min_w, gpu.power_max_w
    if not isinstance(low, Absent) and not isinstance(high, Absent) and round(low) < round(high):
        groups.append((look.seg(f"   {low:.0f} to {high:.0f} W in the last second", "label"),))
    if not isinstance(gpu.power_default_w, Absent):
        groups.append((look.seg(f"   default {gpu.power_default_w:.0f} W", "label"),))
    if not isinstance(gpu.power_lowest_w, Absent) and not isinstance(gpu.power_highest_w, Absent):
        groups.append((look.seg(f"   may be set {gpu.power_lowest_w:.0f} to {gpu.power_highest_w:.0f} W", "label"),))
    return packed(width, *groups)


def _heat(look: Look, gpu: GpuView, width: int) -> Line:
    groups: list[Line] = [pair(look, "heat", f"{number(gpu.temp_c)} °C", label_width=LABEL)]
    if not isinstance(gpu.margin_c, Absent):
        pen = crit_above(-gpu.margin_c, -5, 0)
        groups.append((look.seg(f"   {gpu.margin_c} °C below slowdown", pen if pen != "text" else "label"),))
    if not isinstance(gpu.mem_temp_c, Absent):
        groups.append((look.seg(f"   memory {gpu.mem_temp_c} °C", "label"),))
    return packed(width, *groups)


def _clocks(look: Look, gpu: GpuView, width: int) -> Line:
    sm = f"SM {number(gpu.sm_mhz)}/{number(gpu.sm_max_mhz)} MHz"
    memory = f"   memory {number(gpu.mem_mhz)}/{number(gpu.mem_max_mhz)} MHz"
    state = f"   P{gpu.pstate}" if not isinstance(gpu.pstate, Absent) else ""
    return packed(width, pair(look, "clocks", sm, label_width=LABEL), (look.seg(memory),), (look.seg(state, "label"),))


def _held(gpu: GpuView, most: int = 4) -> tuple[str, str]:
    """What held the clock down in the last tick, as exact duty where the driver counts it, and its pen; the ``most``
    of them, how many more, and whether the GPU is split."""
    mig = "MIG, " if gpu.mig is True else ""
    named, pen = duty_words(gpu.duty)
    if named:
        return mig + ", ".join(named[:most]) + (f" +{len(named) - most}" if len(named) > most else ""), pen
    if isinstance(gpu.reasons, Absent):
        return mig + NONE, "label"
    bits = [reason for reason in gpu.reasons if reason not in QUIET_REASONS]
    return (mig + ", ".join(bits), "warn") if bits else (mig + "nothing", "label")


def _limits(look: Look, gpu: GpuView, width: int) -> Line:
    """The last tick, and beside it the last half minute."""
    line = pair(look, "held by", *_held(gpu), LABEL)
    if gpu.duty_window_s < 5.0 or not gpu.duty_window:
        return line
    words = ", ".join(duty_words(gpu.duty_window)[0]) or "nothing"
    return packed(width, line, (look.seg(f"   last {gpu.duty_window_s:.0f} s: {words}", "label"),))


def _link(look: Look, gpu: GpuView, width: int) -> Line:
    now = gpu.pcie if isinstance(gpu.pcie, str) else NONE
    judged = gpu.pcie_judged
    groups: list[Line] = [pair(look, "PCIe", now, "warn" if judged in (Link.NARROW, Link.SLOW) else "text", LABEL)]
    if isinstance(gpu.pcie_max, str):
        groups.append((look.seg(f"   slot {gpu.pcie_max}", "label"),))
    if isinstance(gpu.pcie_device, str):
        groups.append((look.seg(f"   GPU {gpu.pcie_device}", "label"),))
    if isinstance(judged, str):
        if judged != Link.FULL:
            groups.append((look.seg(f"   {judged}", "warn" if judged in (Link.NARROW, Link.SLOW) else "label"),))
    elif judged in (IDLE, SOON) and now != gpu.pcie_max:
        told = "slow while idle, by design" if judged == IDLE else str(judged)
        groups.append((look.seg(f"   ({told})", "label"),))
    if not isinstance(gpu.pcie_rx_s, Absent) and not isinstance(gpu.pcie_tx_s, Absent):
        groups.append((look.seg(f"   ↓{rate_bytes(gpu.pcie_rx_s)} ↑{rate_bytes(gpu.pcie_tx_s)}"),))
        if not isinstance(gpu.pcie_share, Absent):
            groups.append((look.seg(f"  {percent(gpu.pcie_share)} of the link", crit_above(gpu.pcie_share, 0.6, 0.8)),))
    else:
        why = gpu.pcie_rx_s if isinstance(gpu.pcie_rx_s, Absent) else gpu.pcie_tx_s
        groups.append((look.seg(f"   rates: {why}", "label"),))
    return packed(width, *groups)


def _errors(look: Look, gpu: GpuView, width: int) -> Line:
    groups: list[Line] = [(look.seg("errors".ljust(LABEL), "label"),)]
    replays = gpu.replays_min
    if all(isinstance(one, Absent) for one in (replays, gpu.ecc_corrected, gpu.ecc_uncorrected, gpu.xids)):
        return pair(look, "errors", fit(f"cannot tell: {gpu.xids}", width - LABEL), "label", LABEL)
    pen = crit_above(replays, 10, 60)
    groups.append((look.seg("PCIe replays ", "label"), look.seg(f"{number(replays)}/min", pen)))
    corrected, uncorrected = gpu.ecc_corrected, gpu.ecc_uncorrected
    if isinstance(corrected, Absent) and isinstance(uncorrected, Absent):
        groups.append((look.seg("   ECC ", "label"), look.seg(NONE)))
    else:
        bad = "crit" if not isinstance(uncorrected, Absent) and uncorrected > 0 else "text"
        groups.append((look.seg("   ECC corrected ", "label"), look.seg(number(corrected))))
        groups.append((look.seg("  uncorrected ", "label"), look.seg(number(uncorrected), bad)))
    if isinstance(gpu.xids, Absent):
        groups.append((look.seg("   Xid ", "label"), look.seg(NONE)))
    elif gpu.xids:
        groups.append((look.seg(f"   Xid {', '.join(str(one.code) for one in gpu.xids[-4:])}", "crit"),))
    else:
        groups.append((look.seg("   Xid ", "label"), look.seg("none")))
    return packed(width, *groups)


def _place(look: Look, frame: Frame, gpu: GpuView, width: int) -> Line:
    """GPU ↔ NUMA node ↔ CPUs ↔ where the server's threads are."""
    if isinstance(gpu.numa_node, Absent) and isinstance(gpu.local_cpus, Absent) and gpu.mig is not True:
        return pair(look, "place", fit(f"cannot tell: {gpu.numa_node}", width - LABEL), "label", LABEL)
    node = f"NUMA node {gpu.numa_node}" if not isinstance(gpu.numa_node, Absent) else "NUMA node –"
    groups: list[Line] = [pair(look, "place", node, label_width=LABEL)]
    near = gpu.local_cpus if isinstance(gpu.local_cpus, str) else NONE
    groups.append((look.seg("   near CPUs ", "label"), look.seg(near)))
    sched = frame.sched
    if isinstance(sched, SchedView) and not isinstance(sched.nodes, Absent) and sched.nodes and _is_servers(frame, gpu):
        away = not isinstance(gpu.numa_node, Absent) and gpu.numa_node not in sched.nodes
        text = f"   server's threads on node {', '.join(map(str, sched.nodes))}"
        groups.append((look.seg(text, "warn" if away else "label"),))
    if gpu.mig is True:
        groups.append((look.seg("   split into MIG instances: most figures of the whole are absent", "label"),))
    return packed(width, *groups)


def _processes(look: Look, frame: Frame, gpu: GpuView, width: int) -> list[Line]:
    if isinstance(gpu.processes, Absent):
        return [pair(look, "processes", fit(str(gpu.processes), width - LABEL), "label", LABEL)]
    own: dict[int, str] = {}
    if isinstance(frame.sched, SchedView):
        own = {thread.pid: thread.process for thread in frame.sched.threads}
    lines: list[Line] = []
    for one in sorted(gpu.processes, key=lambda x: -(x.bytes if isinstance(x.bytes, int) else 0)):
        label = "processes" if not lines else ""
        mine = one.pid in own
        used = size(one.bytes) if not isinstance(one.bytes, Absent) else NONE
        pid = f" ({one.pid})"
        name = fit(one.comm or own.get(one.pid) or "?", OWNER - len(pid)) + pid
        lines.append(
            packed(
                width,
                pair(look, label, name + " " * (OWNER - width_of(name)), label_width=LABEL),
                (look.seg(f"  {used.rjust(10)}"),),
                (look.seg(f"  {one.kind}", "label"),),
                (look.seg("  the server" if mine else "", "accent"),),
            )
        )
    return lines or [pair(look, "processes", "none", "label", LABEL)]
