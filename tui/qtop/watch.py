"""What the server did while test prompts ran, so that a slow figure comes with its cause.

Scrapes are kept from before the first request to after the end of the last: their differences are of exactly these
requests, and of whatever else the server did then, which is told. What the client saw around them completes the
waterfall.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf

from msgspec.structs import replace

from qtop.diagnose.engine import Finding
from qtop.diagnose.rule import Severity, State
from qtop.model.frame import Frame, Stage, Waterfall
from qtop.model.overlay import Waits
from qtop.model.waterfall import waterfall
from qtop.probe.timing import ProbeResult
from qtop.sample import NOT_YET, Absent, EngineSample, Reading, Sample, ServerInfo, Why

EARLY = 8
"""Scrapes kept before the beginning is known."""
STRANGERS = 0.02
"""Share of other clients' requests in a window from which its means are no longer those of the test."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired while the test ran, as a warning or worse."""

    rule: str
    headline: str
    share: float
    """Of the ticks."""


@dataclass(frozen=True, slots=True)
class ServerWindow:
    """The server in the window of a test."""

    seconds: float
    """Between the two scrapes."""
    waterfall: Waterfall | Absent
    """client (the queue before sending) → network (client TTFT − server TTFT) → the server's stages."""
    cpu_wait: dict[str, float]
    """Share of the window that the thread in charge waited for a CPU, by stage."""
    fired: tuple[Fired, ...]
    roofline_tok_s: Reading[float]
    """Mean of the ticks with requests running."""
    others: Reading[float]
    """Requests of other clients that finished in the window."""


class Watch:
    """Of one test. ``push`` is called on the source's thread; times are monotonic seconds."""

    def __init__(self, engine: EngineSample | Absent = NOT_YET) -> None:
        self._lock = threading.Lock()
        self._fresh = threading.Condition(self._lock)
        self._engine = "unknown"
        # Events come a moment late: which scrape was the last before the beginning shows only then.
        self._early: deque[EngineSample] = deque(() if isinstance(engine, Absent) else (engine,), EARLY)
        self._before: EngineSample | None = None
        self._after: EngineSample | None = None
        self._begin: float | None = None
        self._end: float | None = None
        self._waits = Waits(inf)
        self._cpu_wait: dict[str, float] = {}
        self._ticks = 0
        self._fired: dict[str, list[str]] = {}
        self._rooflines: list[float] = []
        self._broken = ""

    def begin(self, t: float) -> None:
        """The first request that counts was sent."""
        with self._lock:
            if self._begin is None:
                self._begin = t
                self._before = next((one for one in reversed(self._early) if one.at <= t), None)

    def end(self, t: float) -> None:
        """All have ended."""
        with self._lock:
            self._end = t

    def push(self, sample: Sample, frame: Frame, findings: Sequence[Finding]) -> None:
        """A tick."""
        with self._fresh:
            if self._after is not None:
                return
            if isinstance(sample.server, ServerInfo):
                self._engine = sample.server.engine
            engine = sample.engine
            if self._begin is not None and self._end is None:
                self._note(frame, findings)
            if isinstance(engine, Absent):
                self._broken = str(engine)
            elif self._begin is None:
                self._early.append(engine)
            elif engine.at <= self._begin:
                self._before, self._broken = engine, ""
            elif self._end is not None and engine.at - engine.scrape_ms / 1000 >= self._end:
                self._after = engine
                self._fresh.notify_all()

    def _note(self, frame: Frame, findings: Sequence[Finding]) -> None:
        self._ticks += 1
        self._cpu_wait = self._waits.push(frame.t, frame.sched)
        if not isinstance(frame.roofline_tok_s, Absent):
            self._rooflines.append(frame.roofline_tok_s)
        for finding in findings:
            if finding.state is State.FIRING and finding.severity is not Severity.INFO:
                self._fired.setdefault(finding.rule, []).append(finding.headline)

    def wait(self, timeout: float) -> bool:
        """Wait for the first scrape after the end; whether it came."""
        with self._fresh:
            return self._fresh.wait_for(lambda: self._after is not None, timeout)

    def result(self, results: Sequence[ProbeResult]) -> ServerWindow:
        """What was seen, joined to what the client saw."""
        with self._lock:
            before, after = self._before, self._after
            fall: Waterfall | Absent
            if before is None or after is None:
                fall = Absent(Why.NOT_YET, self._broken or "the server was not read before and after the test")
            else:
                fall = waterfall(self._engine, before, after)
            seconds = after.at - before.at if before is not None and after is not None else 0.0
            ticks = max(1, self._ticks)
            fired = tuple(Fired(rule, lines[-1], len(lines) / ticks) for rule, lines in sorted(self._fired.items()))
            roofs = self._rooflines
            roof: Reading[float] = fsum(roofs) / len(roofs) if roofs else Absent(Why.UNSUPPORTED, "no roofline")
            good = [result for result in results if result.ok]
            others = _others(fall, len(results))
            return ServerWindow(seconds, _joined(fall, good, others), dict(self._cpu_wait), fired, roof, others)


def _others(fall: Waterfall | Absent, ours: int) -> Reading[float]:
    if isinstance(fall, Absent):
        return fall
    return fall.finished if isinstance(fall.finished, Absent) else max(0.0, fall.finished - ours)


def _joined(fall: Waterfall | Absent, good: Sequence[ProbeResult], others: Reading[float]) -> Waterfall | Absent:
    """The server's stages behind what the client saw before them; trusted where the window is the test's own."""
    if isinstance(fall, Absent) or not good:
        return fall
    queue = fsum(result.client_queue_ms for result in good) / len(good)
    ttfts = [result.ttft_ms for result in good if result.ttft_ms is not None]
    network: Reading[float] = fall.ttft_ms
    if not isinstance(fall.ttft_ms, Absent) and ttfts:
        network = max(0.0, fsum(ttfts) / len(ttfts) - fall.ttft_ms)
    n = len(good)
    stages_of = fall.stages
    why = ""
    if isinstance(fall.finished, Absent) and fall.why.startswith("sums"):  # llama.cpp: no other number of requests
        stages_of = tuple(
            stage if isinstance(stage.ms, Absent) else Stage(stage.name, stage.ms / n, f"{stage.source} ÷ {n} requests")
            for stage in fall.stages
        )
        why = "the server counts no single requests: other clients' time, if any, is in these means"
    elif isinstance(others, Absent):
        why = fall.why or str(others)
    elif others > STRANGERS * len(good):
        why = f"{others:.0f} requests of other clients are in these means"
    stages = (
        Stage("client", queue, "t_send − t_due of the test"),
        Stage("network", network, "client TTFT − server TTFT"),
        *(stage for stage in stages_of if stage.name != "client"),
    )
    return replace(fall, stages=stages, trusted=not why, why=why)
