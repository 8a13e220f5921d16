"""The CPU panel: do the threads that matter run, or wait; who else wants their CPUs."""

from __future__ import annotations

from qtop.model.frame import Frame, HostView, QuotaView, SchedView, ThreadView, WakeupView
from qtop.sample import Absent
from qtop.ui.cells import fit
from qtop.ui.look import Line, Look
from qtop.ui.panels import crit_above, packed, pair, title
from qtop.units import NONE, number, percent, size

NAMES = {"engine": "engine", "scheduler": "sched", "api": "api"}


def sched_lines(look: Look, frame: Frame, width: int, rows: int = 99) -> list[Line]:
    """Critical threads first; then what explains their waiting; at most ``rows`` lines, the telling ones first."""
    lines = [title(look, "CPU & scheduling", width)]
    sched = frame.sched
    if isinstance(sched, SchedView):
        lines += [_thread(look, thread, width) for thread in sched.critical[:3]]
        lines.append(_place(look, sched, frame, width))
        lines.append(_quota(look, sched, width))
    else:
        lines.append(pair(look, "server", fit(f"cannot tell: {sched}", width - 8), "label"))
    lines.append(_host(look, frame, width))
    if isinstance(sched, SchedView):
        lines.append(_beside(look, sched, width))
    lines.append(_wakeup(look, frame, width))
    if isinstance(sched, SchedView):
        lines.append(_tree(look, sched, width))
    return lines[:rows]


def _thread(look: Look, thread: ThreadView, width: int) -> Line:
    name = look.seg(_name(thread).ljust(8), "label")
    run = (look.seg("run ", "label"), look.seg(percent(thread.run, 5)))
    wait = (
        look.seg("wait ", "label"),
        look.seg(percent(thread.wait, 5), crit_above(thread.contended, 0.10, 0.20)),
    )
    if width < 28:  # of the two, waiting is what matters
        return (name, *wait)
    gap = look.seg("  " if width > 28 else " ")
    cpus = (look.seg(f"  CPU {thread.allowed}", "label"),) if thread.allowed else ()
    return packed(width, (name, *run, gap, *wait), cpus)


def _name(thread: ThreadView) -> str:
    """The role, with the rank where there are several: "api 1", "eng DP0"."""
    name = NAMES.get(thread.role) or "thread"
    if not thread.rank:
        return name
    return next(
        (text for text in (f"{name} {thread.rank}", f"{name[:3]} {thread.rank}") if len(text) < 8), thread.rank[:7]
    )


def _place(look: Look, sched: SchedView, frame: Frame, width: int) -> Line:
    cpus = frame.host.cpus if isinstance(frame.host, HostView) else 0
    allowed = sched.allowed if isinstance(sched.allowed, str) else NONE
    group = f" of {sched.cpuset}" if isinstance(sched.cpuset, str) else ""
    return pair(look, "may use", fit(f"CPU {allowed}{group}" + (f" ({cpus} on host)" if cpus else ""), width - 8))


def _quota(look: Look, sched: SchedView, width: int) -> Line:
    if isinstance(sched.quota, Absent):
        return pair(look, "quota", fit(str(sched.quota), width - 8), "label")
    if sched.quota is None:
        return pair(look, "quota", "none in sight" if sched.quota_above else "none", "label")
    worst = max((thread.throttled for thread in sched.critical), default=0.0)
    return _quota_line(look, sched.quota, worst, width)


def _quota_line(look: Look, quota: QuotaView, throttled: float, width: int) -> Line:
    share = look.seg(percent(throttled), crit_above(throttled, 0.10, 0.20))
    text = f"{quota.cores:g} CPUs   throttled "
    if 8 + len(text) + 5 > width:
        return (*pair(look, "quota", ""), share, look.seg(" throttled", "label"))
    return (*pair(look, "quota", text), share)


def _host(look: Look, frame: Frame, width: int) -> Line:
    host = frame.host
    if isinstance(host, Absent):
        return pair(look, "host", fit(str(host), width - 8), "label")
    return packed(
        width,
        (look.seg("host".ljust(8), "label"), look.seg(percent(host.busy, 5)), look.seg(" busy", "label")),
        (look.seg(f" {percent(host.psi_cpu, 4)}", crit_above(host.psi_cpu, 0.5, 0.9)), look.seg(" PSI", "label")),
        (look.seg(f" {percent(host.steal, 4)}", crit_above(host.steal, 0.03, 0.10)), look.seg(" steal", "label")),
    )


def _wakeup(look: Look, frame: Frame, width: int) -> Line:
    wakeup = frame.wakeup
    if not isinstance(wakeup, WakeupView):
        return pair(look, "wake-up", fit(str(wakeup), width - 8), "label")
    p50, p95 = (f"{value:.2f}" if isinstance(value, float) else NONE for value in (wakeup.p50_ms, wakeup.p95_ms))
    high = (look.seg("p95 ", "label"), look.seg(f"{p95} ms"))
    if 8 + len(f"p50 {p50}  p95 {p95} ms") > width:
        return (look.seg("wake-up".ljust(8), "label"), *high)
    return (
        look.seg("wake-up".ljust(8), "label"),
        look.seg("p50 ", "label"),
        look.seg(f"{p50}  "),
        *high,
    )


def _beside(look: Look, sched: SchedView, width: int) -> Line:
    others = sched.competitors
    if isinstance(others, Absent) or not others:
        return pair(look, "beside", "nobody" if not isinstance(others, Absent) else NONE, "label")
    shares: dict[tuple[str, str], list[float]] = {}
    for one in others:
        shares.setdefault((one.comm, one.cpus), []).append(one.share)
    text = ", ".join(
        f"{comm}{f' ×{len(each)}' if len(each) > 1 else ''} {percent(sum(each))} on {cpus}"
        for (comm, cpus), each in shares.items()
    )
    return pair(look, "beside", fit(text, width - 8))


def _tree(look: Look, sched: SchedView, width: int) -> Line:
    cpu = f"{sched.cpu:.2f}" if isinstance(sched.cpu, float) else NONE
    threads = len(sched.threads)
    return packed(
        width,
        pair(look, "server", f"{cpu} CPUs"),
        (look.seg(f"  {size(sched.rss_bytes)}"),),
        (look.seg(f"  {number(threads)} {'thread' if threads == 1 else 'threads'}"),),
        (look.seg(f", {sched.processes} {'process' if sched.processes == 1 else 'processes'}"),),
    )
