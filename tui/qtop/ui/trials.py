"""Test prompts as the screen knows them: the one under way, and those of this session that ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.summary import Summary, summarise_all
from qtop.probe.timing import ProbeResult
from qtop.ui.cells import fit
from qtop.ui.panels.histogram import GapCounts
from qtop.units import number
from qtop.watch import ServerWindow

KEEP_TEXT = 8000
"""Characters of an answer kept for the screen."""
NAMED_BY = 80
"""Characters at the beginning of a text of the user's that it may be called by."""
KEEP_GAPS = 512
"""Gaps kept for the line of those that came last."""


@dataclass(frozen=True)
class Asked:
    """What a test asks for."""

    prompt: str
    max_tokens: int
    requests: int
    streams: int
    rate: float
    exact: bool

    @classmethod
    def of(cls, request: ProbeRequest) -> Asked:
        """The same of a request."""
        name = request.prompt_name or f"“{fit(' '.join(request.prompt[:NAMED_BY].split()), NAMED_BY // 2)}”"
        streams, rate, exact = request.concurrency, request.rate, request.ignore_eos
        return cls(name, request.max_tokens, request.requests, streams, rate, exact)

    @property
    def load(self) -> str:
        """The arrival in few cells: "4 ×", "2.5/s"."""
        return f"{self.rate:g}/s" if self.rate else f"{self.streams} ×"

    def __str__(self) -> str:
        arrival = f"{self.rate:g} requests/s" if self.rate else _many(self.streams, "stream")
        tokens = f"{'exactly' if self.exact else 'up to'} {_many(self.max_tokens, 'token')}"
        return f"{self.prompt} · {tokens} · {arrival} · {_many(self.requests, 'request')}"


def _many(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


@dataclass
class ProbeState:
    """What is known of the test prompt on screen. Changed on the UI thread only."""

    plan: str = ""
    warning: str = ""
    asked: Asked | None = None
    text: str = ""
    """Of the stream that is followed."""
    running: bool = False
    error: str = ""
    result: ProbeResult | None = None
    """The latest."""
    ttft_ms: float | None = None
    """Of the stream that is followed, or of the latest to begin."""
    gaps_ms: list[float] = field(default_factory=list)
    """The latest of the stream that is followed."""
    note: str = ""
    """What is going on beside streaming: a warm-up, a measurement of a change."""
    tokens: int = 0
    """Events of the stream that is followed."""
    counts: GapCounts = field(default_factory=GapCounts)
    """Of the gaps of all streams."""
    sent: int = 0
    failed: int = 0
    ttfts_ms: list[float] = field(default_factory=list)
    results: list[ProbeResult] = field(default_factory=list)
    check: SelfCheck | None = None
    ended_early: str = ""
    """Why the test as a whole came to its end before its last request, or ""."""
    summary: str = ""
    """The figures of several requests, once all have ended."""
    _followed: int | None = None
    _begun: float | None = None
    _sent: float = 0.0
    _last: float = 0.0
    _ended: float | None = None

    @property
    def done(self) -> int:
        """Requests that ended, well or not."""
        return len(self.results)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self.sent - self.done if self.running else 0

    @property
    def several(self) -> bool:
        """Whether there is more than one request in it."""
        return self.asked is not None and self.asked.requests > 1

    def elapsed(self, now: float) -> float:
        """Seconds since the first request was sent, until the last one ended."""
        if self._begun is None:
            return 0.0
        return max(0.0, (self._ended if self._ended is not None else now) - self._begun)

    def take(self, event: ProbeEvent) -> None:
        """Fold in one event of the prober."""
        if event.kind == "started":
            self._start(event)
        elif event.kind == "first":
            self._first(event)
        elif event.kind == "delta":
            self._delta(event)
        elif event.kind == "gaps":
            for gap in event.gaps:
                self.counts.add(gap)
        elif event.kind == "done" and event.result is not None:
            self.result = event.result
            self.results.append(event.result)
            self.failed += not event.result.ok
            self.error = event.result.error or self.error
            if event.i == self._followed:
                self._followed = None
                self.gaps_ms = list(event.result.gaps_ms)[-KEEP_GAPS:]
        elif event.kind == "report":
            self.check = event.check
        elif event.kind == "error":
            self.error = event.error
        elif event.kind == "end":
            self.running = False
            self.note = ""
            self.ended_early = event.error
            self._ended = event.t

    def _start(self, event: ProbeEvent) -> None:
        if not self.in_flight or event.warmup:
            self.text, self.result, self.ttft_ms, self.gaps_ms, self.tokens = "", None, None, [], 0
            self.error = self.error if self.several else ""
        self._ended = None
        self.note = "warm-up" if event.warmup else ""
        self.running = True
        if not event.warmup:
            self.sent += 1
            self._sent = event.t
            self._begun = event.t if self._begun is None else self._begun

    def _first(self, event: ProbeEvent) -> None:
        ms = event.ms or (event.t - self._sent) * 1000.0
        self.ttfts_ms.append(ms)
        if self._followed is None or self._followed == event.i:
            self.ttft_ms, self._last = ms, event.t

    def _delta(self, event: ProbeEvent) -> None:
        if self._followed != event.i:
            self._followed = event.i
            self.text, self.gaps_ms, self.tokens = "", [], 0
        elif event.t > self._last:
            self.gaps_ms = [*self.gaps_ms, (event.t - self._last) * 1000.0][-KEEP_GAPS:]
        self._last = event.t
        self.tokens += 1
        self.text += event.text
        if len(self.text) > KEEP_TEXT:  # cut rarely: where the beginning moves, every line breaks elsewhere
            self.text = self.text[-KEEP_TEXT // 2 :]


@dataclass(frozen=True)
class Trial:
    """A test that ended."""

    number: int
    """Counted from 1, in the session."""
    asked: Asked
    at: float
    """Unix time of its first request."""
    results: tuple[ProbeResult, ...]
    """Without their gaps once those have been counted: a long test has hundreds of thousands."""
    check: SelfCheck | None = None
    error: str = ""
    """Why it ended early, or ""."""
    text: str = ""
    """The answer that was followed last."""
    summary: Summary | None = None
    counts: GapCounts | None = None
    window: ServerWindow | None = None
    reading: bool = True
    """The server has not been read after the test yet."""

    @classmethod
    def of(cls, number: int, state: ProbeState) -> Trial:
        """What a test has come to."""
        assert state.asked is not None
        results = tuple(sorted(state.results, key=lambda result: result.i))
        at = min((result.started for result in results), default=time.time())
        return cls(number, state.asked, at, results, state.check, state.ended_early, state.text)

    def summed_up(self) -> Trial:
        """With its figures. A long test takes a moment: not on the screen's thread."""
        counts = GapCounts()
        for result in self.results:
            for gap in result.gaps_ms if result.ok else ():
                counts.add(gap)
        bare = tuple(msgspec.structs.replace(result, gaps_ms=()) for result in self.results)
        return replace(self, summary=summarise_all(self.results), counts=counts, results=bare)

    def seen(self, window: ServerWindow | None) -> Trial:
        """With what the server did meanwhile."""
        return replace(self, window=window, reading=False)


def differing(one: Asked, other: Asked) -> list[str]:
    """In what two tests differ, in words."""
    pairs: Sequence[tuple[str, object, object]] = (
        ("prompt", one.prompt, other.prompt),
        ("output length", (one.max_tokens, one.exact), (other.max_tokens, other.exact)),
        ("arrival", one.load, other.load),
    )
    return [what for what, here, there in pairs if here != there]
