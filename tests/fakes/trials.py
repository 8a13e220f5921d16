"""Tests of the probe screen that ended, made up."""

from __future__ import annotations

from qtop.model.frame import Stage, Waterfall
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.timing import ProbeResult, Stamps, Usage, measure
from qtop.sample import Absent, Why
from qtop.ui.trials import Asked, Trial
from qtop.watch import Fired, ServerWindow

AT = 1_790_000_000.0


def result(i: int, ttft: float = 100.0, error: str = "", tokens: int = 32, gap_kind: str = "itl") -> ProbeResult:
    """A request that came ``ttft`` ms after it was sent, a token each 24 ms or so, and a stall of 88 ms."""
    first = (ttft + i % 5) / 1000
    gaps = [0.024 + 0.0005 * ((i + number) % 5) for number in range(tokens - 1)]
    gaps[-1] = 0.088 if i == 0 else gaps[-1]
    events = [first]
    for gap in gaps:
        events.append(events[-1] + gap)
    return measure(
        Stamps(t_due=0.0, t_send=0.0005, t_end=events[-1], events=() if error else tuple(events)),
        usage=Usage(19, tokens * (2 if gap_kind == "icl" else 1)),
        error=error,
        finish_reason="length",
        started=AT + i,
        i=i,
    )


def trial(
    number: int,
    n: int = 8,
    failed: int = 0,
    error: str = "it broke",
    rate: float = 0.0,
    ttft: float = 100.0,
    prompt: str = "en",
    gap_kind: str = "itl",
    check: SelfCheck | None = None,
) -> Trial:
    """A test of so many requests, the last ``failed`` of which failed, with its figures added up."""
    results = tuple(result(i, ttft, error if i >= n - failed else "", gap_kind=gap_kind) for i in range(n))
    check = check or SelfCheck(
        stamps="kernel", seconds=12.0, cpu_share=0.03, wait_share=0.01, send_lag_p50_ms=0.12, loop_lag_p50_ms=0.09
    )
    asked = Asked(prompt, 32, n, 0 if rate else 4, rate, True)
    return Trial(number, asked, AT, results, check, text="an answer, 量子纠缠 " * 20).summed_up()


def window(others: float = 0.0, fired: bool = False, absent: bool = False, why: str = "") -> ServerWindow:
    """What a vLLM did meanwhile; ``why``: the means are not to be trusted."""
    times = {"client": 0.5, "network": 2.0, "frontend": 5.0, "queue": 12.0, "prefill": 80.0, "decode": 760.0}
    stages = tuple(Stage(name, ms) for name, ms in times.items())
    fall: Waterfall | Absent = Waterfall(12.0, 20.0 + others, stages, 97.0, 24.6, 32.0, trusted=not why, why=why)
    if absent:
        fall = Absent(Why.NOT_YET, "the server was not read before and after the test")
    rules = (Fired("QT201", "the engine waits for a CPU", 0.82),) if fired else ()
    return ServerWindow(12.0, fall, {"decode": 0.4}, rules, 4000.0, others)
