"""The server's threads, the longest-waiting first, and what the host gives them."""

from __future__ import annotations

from qtop.model.cpu import ClockView, HostView, SchedView, ThreadView
from qtop.model.frame import Frame, WakeupView
from qtop.sample import Absent, Reading
from qtop.ui.cells import fit, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels import crit_above, packed, pair, title
from qtop.ui.panels.table import Cell, Column, heading, row
from qtop.ui.widgets.marks import spark
from qtop.units import NONE, number, percent, rate_bytes, size

ROLES = {"api": "API server", "engine": "EngineCore"}
"""Roles by the field's names; the others are called what they are."""
COLUMNS = (
    Column("role", 16, right=False),
    Column("thread", 16, right=False, least=76),
    Column("pid", 8, least=132),
    Column("tid", 8),
    Column("runs", 6),
    Column("waits", 6),
    Column("quota", 6, least=100),
    Column("slices/s", 8, least=106),
    Column("a wait", 9, least=90),
    Column("CPU", 4),
    Column("may use", 0, right=False),
)
LABEL = 10


def host_lines(look: Look, frame: Frame, width: int, sort: str) -> list[Line]:
    """What the host is and does, what the server may use, and the heading of the table."""
    lines = [title(look, "CPUs", width)]
    host = frame.host
    if isinstance(host, HostView):
        lines += [_machine(look, host, width), _load(look, host, width), _per_cpu(look, host, width)]
        lines += _memory(look, host, width)
    else:
        lines.append(pair(look, "host", fit(str(host), width - LABEL), "label", LABEL))
    sched = frame.sched
    lines.append(_wakeup(look, frame, width))
    if not isinstance(sched, SchedView):
        text = fit(f"cannot tell: {sched}", width - LABEL)
        return [*lines, (), title(look, "Threads", width), pair(look, "server", text, "label", LABEL)]
    lines += [_may_use(look, frame, sched, width), _beside(look, sched, width)]
    processes = "1 process" if sched.processes == 1 else f"{sched.processes} processes"
    note = f"{number(len(sched.threads))} in {processes}, sorted by {sort}"
    lines += [(), title(look, "Threads of the server", width, note)]
    lines.append(heading(look, COLUMNS, width))
    return lines


def thread_lines(look: Look, sched: SchedView | Absent, width: int, sort: str) -> list[Line]:
    """One row a thread. Shares are of wall time; "quota" is the part of the waiting that the cgroup's quota explains.

    The order is by what is shown, not by what is behind the point: rows that say the same stay where they are.
    """
    if isinstance(sched, Absent):
        return []

    def order(thread: ThreadView) -> tuple[float, float, int, int]:
        first, second = (thread.run, thread.wait) if sort == "running" else (thread.wait, thread.run)
        return -round(first, 2), -round(second, 2), thread.pid, thread.tid

    return [row(look, _cells(thread), COLUMNS, width) for thread in sorted(sched.threads, key=order)]


def _cells(thread: ThreadView) -> list[Cell]:
    idle = thread.run + thread.wait < 0.0005
    pen = "label" if idle else "text"
    role = ROLES.get(thread.process_role, thread.process_role or "–")
    wait = thread.wait_ms
    return [
        Cell(f"{role} {thread.rank}".rstrip(), "accent" if thread.role else pen),
        Cell(thread.comm, pen),
        Cell(str(thread.pid), "label"),
        Cell(str(thread.tid), "label"),
        Cell(_share(thread.run), pen),
        Cell(_share(thread.wait), crit_above(thread.contended, 0.10, 0.20) if not idle else pen),
        Cell(percent(thread.throttled) if thread.throttled else "", "warn"),
        Cell(number(round(thread.slices)), pen),
        Cell("" if isinstance(wait, Absent) or idle else f"{wait:.2f} ms", pen),
        Cell(str(thread.processor) if thread.processor >= 0 else NONE, pen),
        Cell(thread.allowed or NONE, "label"),
    ]


def _share(value: float) -> str:
    return f"{value * 100:.1f} %" if 0.0005 <= value < 0.0995 else percent(value)


def _machine(look: Look, host: HostView, width: int) -> Line:
    groups: list[Line] = [pair(look, "host", f"{host.cpus} CPUs", label_width=LABEL)]
    for text in (
        _known(host.cores, "{} cores"),
        "" if isinstance(host.smt, Absent) else f"SMT {'on' if host.smt else 'off'}",
        _known(host.packages, "{} socket(s)"),
        _known(host.nodes, "{} NUMA node(s)"),
        _clock(host.mhz),
        _known(host.governor, "governor {}"),
    ):
        if text:
            groups.append((look.seg(f"   {text}"),))
    return packed(width, *groups)


def _known(value: Reading[object], shape: str) -> str:
    if isinstance(value, Absent):
        return ""
    text = shape.format(value)
    return text.replace("(s)", "" if value == 1 else "s")


def _clock(mhz: ClockView | Absent) -> str:
    if isinstance(mhz, Absent):
        return ""
    return f"{mhz.mean:.0f} MHz" if mhz.max - mhz.min < 100 else f"{mhz.min:.0f}–{mhz.max:.0f} MHz"


def _load(look: Look, host: HostView, width: int) -> Line:
    worst = ""
    if not isinstance(host.softirq_worst, Absent) and host.softirq_worst[1] >= 0.01:
        worst = f" (CPU {host.softirq_worst[0]}: {percent(host.softirq_worst[1])})"
    groups: list[Line] = [
        (look.seg("busy".ljust(LABEL), "label"), look.seg(percent(host.busy, 5))),
        (look.seg("   steal", "label"), look.seg(percent(host.steal, 6), crit_above(host.steal, 0.03, 0.10))),
        (look.seg("   softirq", "label"), look.seg(percent(host.softirq, 6)), look.seg(worst, "label")),
    ]
    for name, share in (("CPU", host.psi_cpu), ("memory", host.psi_memory), ("IO", host.psi_io)):
        pen = crit_above(share, 0.5, 0.9) if name == "CPU" else crit_above(share, 0.1, 0.4)
        groups.append((look.seg(f"   PSI {name}", "label"), look.seg(percent(share, 6), pen)))
    return packed(width, *groups)


def _per_cpu(look: Look, host: HostView, width: int) -> Line:
    """A mark a CPU: how busy each is. Beyond the width the rest is left to the mean."""
    cpus = sorted(host.per_cpu)
    shown = cpus[: width - LABEL - 6]
    marks = spark([host.per_cpu[cpu] for cpu in shown], len(shown), 1.0, ascii=look.ascii)
    rest = f" +{len(cpus) - len(shown)}" if len(cpus) > len(shown) else ""
    return (look.seg("each".ljust(LABEL), "label"), look.seg(marks, "chart"), look.seg(rest, "label"))


def _memory(look: Look, host: HostView, width: int) -> list[Line]:
    if isinstance(host.mem_available, Absent):
        return [pair(look, "memory", fit(str(host.mem_available), width - LABEL), "label", LABEL)]
    groups: list[Line] = [
        pair(look, "memory", f"{size(host.mem_available)} of {size(host.mem_total)} available", label_width=LABEL)
    ]
    swapping = [value for value in (host.swap_in_s, host.swap_out_s) if not isinstance(value, Absent)]
    if any(swapping):
        text = f"   swapping ↓{rate_bytes(host.swap_in_s)} ↑{rate_bytes(host.swap_out_s)}"
        groups.append((look.seg(text, "warn"),))
    if not isinstance(host.nodes, Absent) and host.nodes > 1 and not isinstance(host.numa_balancing, Absent):
        moved = f", {number(host.migrations_s)} pages/s moved" if not isinstance(host.migrations_s, Absent) else ""
        groups.append((look.seg(f"   NUMA balancing {'on' if host.numa_balancing else 'off'}{moved}"),))
    if not isinstance(host.memory, Absent):
        known = (
            host.memory.kind,
            _known(host.memory.configured_mts, "{} MT/s"),
            _known(host.memory.channels, "{} channel(s)"),
        )
        groups.append((look.seg(f"   {' '.join(text for text in known if text)}"),))
    return [packed(width, *groups)]


def _wakeup(look: Look, frame: Frame, width: int) -> Line:
    wakeup = frame.wakeup
    if not isinstance(wakeup, WakeupView):
        return pair(look, "wake-up", fit(str(wakeup), width - LABEL), "label", LABEL)
    p50, p95, most = (
        f"{value:.2f} ms" if isinstance(value, float) else NONE
        for value in (wakeup.p50_ms, wakeup.p95_ms, wakeup.max_ms)
    )
    return packed(
        width,
        (look.seg("wake-up".ljust(LABEL), "label"), look.seg("p50 ", "label"), look.seg(p50)),
        (look.seg("   p95 ", "label"), look.seg(p95)),
        (look.seg("   most ", "label"), look.seg(most)),
        (look.seg("   of a sleeper of qtop's own, last 10 s", "label"),),
    )


def _cpus(frame: Frame) -> int:
    return frame.host.cpus if isinstance(frame.host, HostView) else 0


def _may_use(look: Look, frame: Frame, sched: SchedView, width: int) -> Line:
    cpu = f"{sched.cpu:.2f}" if isinstance(sched.cpu, float) else NONE
    groups: list[Line] = [pair(look, "server", f"uses {cpu} CPUs", label_width=LABEL)]
    usable = sched.usable
    if not isinstance(usable, Absent):
        of = f" of {sched_cpus}" if (sched_cpus := _cpus(frame)) else ""
        cores = f" on {number(usable.cores)} cores" if not isinstance(usable.cores, Absent) else ""
        cores = cores.removesuffix("s") if usable.cores == 1 else cores
        limit = "" if usable.limit == "host" else f" (limit: {usable.limit})"
        groups.append((look.seg(f"   may use {number(usable.logical)}{of}{cores}{limit}"),))
    if not isinstance(sched.nodes, Absent) and sched.nodes:
        groups.append((look.seg(f"   on NUMA node {', '.join(map(str, sched.nodes))}"),))
    if sched.quota is not None and not isinstance(sched.quota, Absent):
        throttled = sched.quota.periods_throttled
        pen = crit_above(throttled, 0.05, 0.25)
        groups.append(
            (look.seg(f"   quota {sched.quota.cores:g} CPUs, throttled in {percent(throttled)} of periods", pen),)
        )
    if not isinstance(sched.psi_some, Absent):
        groups.append((look.seg("   its PSI ", "label"), look.seg(percent(sched.psi_some))))
    if not isinstance(sched.involuntary, Absent):
        groups.append((look.seg(f"   preempted {number(round(sched.involuntary))}/s", "label"),))
    return packed(width, *groups)


def _beside(look: Look, sched: SchedView, width: int) -> Line:
    others = sched.competitors
    if isinstance(others, Absent):
        return pair(look, "beside", fit(str(others), width - LABEL), "label", LABEL)
    if not others:
        return pair(look, "beside", "nobody on the CPUs of the thread that waits", "label", LABEL)
    groups: list[Line] = [(look.seg("beside".ljust(LABEL), "label"),)]
    for one in others:
        text = f"{one.comm} ({one.pid}) {percent(one.share)} on {one.cpus}   "
        groups.append((look.seg(text, "warn" if one.share >= 0.1 else "text"),))
    line = packed(width, *groups)
    return line if width_of("".join(segment.text for segment in line)) <= width else line[:1]
