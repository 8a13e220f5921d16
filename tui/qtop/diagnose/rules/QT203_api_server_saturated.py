"""QT203: the API server's one event loop has no time left, and everything that goes through it waits."""

from __future__ import annotations

import math

from qtop.diagnose.rule import (
    Answer,
    CannotTell,
    Clear,
    Enter,
    Evidence,
    NotApplicable,
    Observed,
    Rule,
    Severity,
    Told,
)
from qtop.diagnose.rules.common import said, stage_share
from qtop.diagnose.rules.cpu_wait import sched_of
from qtop.diagnose.rules.frontend import LARGE, SOURCE, frontend_gap, whole_ms
from qtop.diagnose.rules.remedies import API_SERVERS
from qtop.model.frame import EngineView, Frame, SchedView, ThreadView
from qtop.sample import Absent, ServerInfo, Why, unanswered
from qtop.units import percent

FULL = 0.90
SLOW_MS = 50.0
SCRAPE = "measured: /metrics takes 7–17 ms on a healthy H100, 40–130 ms where its API server waits; 50 is proposed"


class ApiServerSaturated(Rule):
    """CPU time of the API server's main thread, where its answers come late."""

    id = "QT203"
    title = "API server saturated"
    enter = (Enter(Severity.WARNING, at=FULL, seconds=8.0, of=10.0),)
    clear = Clear(below=0.75, seconds=10.0)
    explains = ("QT208", "QT310")

    def look(self, frame: Frame) -> Answer:
        """The busiest API server; 0 while its answers come in time, however busy it is."""
        if isinstance(frame.server, ServerInfo) and frame.server.engine not in ("vllm", "sglang"):
            return NotApplicable("only vLLM and SGLang have API servers apart from their engine")
        sched = sched_of(frame)
        if not isinstance(sched, SchedView):
            return sched
        api = [thread for thread in sched.critical if thread.role == "api"]
        if not api:
            return CannotTell("none of its processes is known as its API server")
        worst = max(api, key=lambda thread: thread.run)
        # Not one that refuses connections: it may be starting, or ending.
        silent = isinstance(frame.engine, Absent) and unanswered(frame.engine) and frame.engine.why is Why.FAILED
        if isinstance(frame.engine, Absent) and worst.run >= FULL and not silent:
            return CannotTell(f"whether its answers come late: {said(frame.engine)}")
        # A loop that is full for good does not get to a scrape in time at all.
        scrape = frame.engine.scrape_ms if isinstance(frame.engine, EngineView) else math.inf if silent else 0.0
        gap = frontend_gap(frame)
        late = scrape >= SLOW_MS or bool(gap)
        value, impact = (worst.run, _cost(frame, scrape)) if late else (0.0, 0.0)
        return Observed(value, lambda: _told(frame, api, worst, scrape, gap), impact=impact)


RULE = ApiServerSaturated()


def _cost(frame: Frame, scrape: float) -> float:
    """Share of a request's time: its frontend stage, and at least one turn of the loop, as a scrape shows: what that
    waits for, a first token does too."""
    if math.isinf(scrape):
        return 1.0
    whole = whole_ms(frame)
    return max(stage_share(frame, "frontend") or 0.0, scrape / whole if whole > 0 else 0.0)


def _told(frame: Frame, api: list[ThreadView], worst: ThreadView, scrape: float, gap: float | None) -> Told:
    which = f" {worst.rank}" if worst.rank and len(api) > 1 else ""
    silent = math.isinf(scrape)
    late = "/metrics is not answered in time" if silent else f"/metrics takes {scrape:.0f} ms"
    if gap:
        late = f"requests lose {percent(gap)} before the engine"
    lines = [
        Evidence(
            f"the API server's main thread{f' ({one.rank})' if one.rank else ''} runs",
            one.run,
            "of a core",
            FULL,
            f"/proc/{one.pid}/task/{one.tid}/schedstat; one event loop cannot use more than one core",
        )
        for one in sorted(api, key=lambda thread: -thread.run)[:8]
    ]
    answer = said(frame.engine) if isinstance(frame.engine, Absent) else scrape
    lines.append(Evidence("an answer of /metrics", answer, "" if silent else "ms", SLOW_MS, SCRAPE))
    if gap is not None:
        share = stage_share(frame, "frontend") or 0.0
        lines.append(Evidence("before the engine (TTFT − queue − prefill)", share, "of a request", LARGE, SOURCE))
    is_vllm = isinstance(frame.server, ServerInfo) and frame.server.engine == "vllm"
    cure = "add some (--api-server-count)" if is_vllm else "spread its clients over more servers"
    reason = ""
    if worst.run >= FULL and scrape < SLOW_MS and not gap:
        reason = f"it runs {percent(worst.run)} of the time, but its answers come in time"
    elif worst.run >= FULL and is_vllm:
        reason = (
            "--api-server-count N adds event loops (not with runtime LoRA), --renderer-num-workers N takes "
            "tokenising off this one, --stream-interval 4 sends fewer chunks; `vllm serve --help=all` tells which "
            "your version has"
        )
    head = f"API SERVER SATURATED{which} {percent(worst.run)} of one core — {late}; {cure}"
    return Told(head, tuple(lines), (API_SERVERS,) if is_vllm else (), reason)
