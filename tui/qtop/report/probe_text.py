"""Results of test prompts as plain text, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence

from qtop.probe.messages import ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.summary import Stat, Summary
from qtop.sample import Absent
from qtop.units import NONE, milliseconds, number, percent
from qtop.watch import ServerWindow

HEAD = f"{'ms':<12}{'mean':>9}  {'median (95 %)':<24}{'p90':>9}{'p95':>9}{'p99':>9}{'max':>9}"


def summary_lines(request: ProbeRequest, summary: Summary, check: SelfCheck | None) -> list[str]:
    """The test in a line, a table of its figures, throughput, and how far the prober was in the way."""
    how = f"{number(request.rate)} a second" if request.rate else _streams(request.concurrency)
    if request.rate and request.concurrency:
        how += f", at most {request.concurrency} at a time"
    lines = [
        f"{_count(summary.requests, 'request')}, {summary.ok} ok, {how}, {_limit(request)}, {summary.seconds:.1f} s"
    ]
    lines += [f"  {times} × {error}" for error, times in summary.errors.items()]
    named = (
        ("TTFT", summary.ttft_ms),
        ("TTFT from due", summary.ttft_due_ms if request.rate else None),
        ("TTFO", summary.ttfo_ms if _differ(summary.ttfo_ms, summary.ttft_ms) else None),
        (summary.gap_kind.upper(), summary.itl_ms),
        ("TPOT", summary.tpot_ms),
        ("E2E", summary.e2e_ms),
        ("client queue", summary.client_queue_ms if request.rate else None),
    )
    rows = [_row(name, stat) for name, stat in named if stat is not None]
    if rows:
        lines += ["", HEAD, *rows, ""]
        lines.append(_throughput(summary))
    if summary.server is not None:
        told = {
            "queue": summary.server.queue_ms,
            "prefill": summary.server.prefill_ms,
            "decode": summary.server.decode_ms,
        }
        words = "  ".join(f"{name} {milliseconds(value)}" for name, value in told.items() if value is not None)
        lines.append(f"the server's word on these requests (means): {words}")
    if check is not None:
        lines.append(f"self-check: {', '.join(check_parts(check))}")
        lines += [f"  doubt: {mark}" for mark in check.marks]
    return lines


def window_lines(window: ServerWindow | None) -> list[str]:
    """What the server did meanwhile."""
    if window is None:
        return []
    fall = window.waterfall
    if isinstance(fall, Absent):
        return [f"the server's side: {fall}"]
    stages = [f"{one.name} {milliseconds(one.ms)}" for one in fall.stages if not isinstance(one.ms, Absent)]
    lines = [f"a request's mean time: {'  '.join(stages)}"] if stages else []
    if not stages:
        lines.append(f"the server's side: {fall.why or 'it does not tell where its time goes'}")
    elif fall.why:
        lines.append(f"  doubt: {fall.why}")
    waits = max(window.cpu_wait.values(), default=0.0)
    if waits >= 0.01:
        lines.append(f"  its threads waited for a CPU {percent(waits)} of that time")
    lines += [f"  {one.rule} fired ({percent(one.share)} of the time): {one.headline}" for one in window.fired]
    return lines


def _streams(streams: int) -> str:
    return "one at a time" if streams == 1 else f"{streams} at a time"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _differ(one: Stat | None, other: Stat | None) -> bool:
    return one is not None and other is not None and (one.n, one.p50) != (other.n, other.p50)


def _limit(request: ProbeRequest) -> str:
    return f"up to {request.asked_tokens} tokens each" if request.asked_tokens else "no limit of tokens"


def _row(name: str, stat: Stat) -> str:
    median = _ms(stat.p50)
    if stat.p50_low is not None and stat.p50_high is not None:
        median += f" ({_ms(stat.p50_low)}–{_ms(stat.p50_high)})"
    tail = "".join(f"{_ms(value):>9}" for value in (stat.p90, stat.p95, stat.p99, stat.max))
    return f"{name:<12} {_ms(stat.mean):>8}  {median:<24}{tail}"


def _ms(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _throughput(summary: Summary) -> str:
    parts = []
    if summary.stall_ms is not None:
        parts.append(f"largest gap {milliseconds(summary.stall_ms)}")
    if summary.output_tok_s is not None:
        parts.append(f"output {number(summary.output_tok_s)} tok/s")
    if summary.requests_s is not None:
        parts.append(f"{summary.requests_s:.3g} requests/s")
    if summary.goodput_s is not None:
        parts.append(f"goodput {summary.goodput_s:.3g} requests/s ({summary.good} of {summary.requests})")
    return "   ".join(parts)


def check_parts(check: SelfCheck) -> list[str]:
    """The prober's own part, a few words each, what matters most first: who stamped, and where gaps are missing."""
    stamps = {"kernel": "stamped by the kernel", "user": "stamped by qtop", "mixed": "stamped by kernel and qtop"}
    parts = [stamps[check.stamps]]
    if check.merged:
        parts.append(f"{number(check.merged)} gaps not seen")
    parts.append(f"prober {percent(check.cpu_share)} of a CPU")
    if check.wait_share is not None:
        parts.append(f"waited for one {percent(check.wait_share)}")
    if check.send_lag_p50_ms is not None:
        parts.append(f"sent {check.send_lag_p50_ms:.2f} ms late")
    if check.loop_lag_p50_ms is not None:
        parts.append(f"loop lag {check.loop_lag_p50_ms:.2f} ms")
    if check.read_lag_max_ms is not None:
        parts.append(f"read {check.read_lag_max_ms:.1f} ms late at most")
    return parts


def progress_text(
    done: int, failed: int, running: int, requests: int, ttfts: Sequence[float], gap: float | None
) -> str:
    """One line while a test runs."""
    parts = [f"{done} of {requests} done", f"{running} running"]
    if failed:
        parts.append(f"{failed} failed")
    if ttfts:
        parts.append(f"TTFT {milliseconds(sorted(ttfts)[len(ttfts) // 2])}")
    if gap is not None:
        parts.append(f"gap {milliseconds(gap)}")
    return "  ".join(parts)
