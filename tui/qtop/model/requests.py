"""How requests ended over the last two minutes: qtop's own test prompts, and those of all clients as far as the server
counts them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from qtop.model.series import Totals, totals_of
from qtop.sample import NOT_RECORDED, NOT_YET, Absent, ClientSample, EngineSample, PromptEnds, Reading, Why

WINDOW_S = 120.0
"""Long enough for a person to look up after a test, and for a server of few requests to have some."""
DEFAULT = 16.0
"""Tokens that ``/v1/completions`` makes where a request sets no limit (OpenAI's default; vLLM, SGLang)."""
_ROUTES = ("/v1/completions", "/v1/chat/completions")
_HTTP = "http_requests_total"
_NO_HTTP = Absent(
    Why.UNSUPPORTED, "no http_requests_total: vLLM has it with one API server; older recordings do not hold it"
)
_NO_LIMITS = Absent(Why.UNSUPPORTED, "the server does not tell how long answers were asked to be and became")
_NO_SERVER = Absent(Why.UNSUPPORTED, "the server does not count how its requests ended")


class ServedView(msgspec.Struct, frozen=True):
    """Requests of all clients over the window, from the server's counters; requests."""

    finished: Reading[float]
    """Ended in the engine."""
    cut: Reading[float]
    """Of those, asked for exactly 16 tokens, and ended for their length at exactly 16. Counted a tick at a time, and
    only where it is true of all that ended in the tick: at least so many."""
    answered: Reading[float]
    """Answered by HTTP with success, on the routes that complete prompts."""
    refused: Reading[float]
    """Answered by HTTP with a 4xx there."""
    given_up: Reading[float]
    """Their clients hung up before the end: vLLM answers them with success and never counts them as finished; or the
    engine counted them as aborted. Batches and n > 1 count several times as finished, so it is at least so many."""


class RequestsView(msgspec.Struct, frozen=True):
    """Over the last ``seconds``, at most WINDOW_S."""

    seconds: float
    own: PromptEnds | Absent
    """How qtop's own test prompts ended."""
    ever: bool
    """Whether there was any since qtop's start."""
    served: ServedView


class _Counters(msgspec.Struct, frozen=True):
    """Raw counters of one scrape; None where the server has none."""

    finished: float | None
    length: float
    aborted: float
    asked_sum: float | None
    asked_count: float
    made_sum: float
    answered: float | None
    refused: float

    def growth(self, old: _Counters) -> _Grown | None:
        """What came since; None where a counter fell or appeared: then the server was started anew."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(old), strict=True)
        if any(new is not None and (was is None or new < was) for new, was in pairs):
            return None
        finished = (self.finished or 0.0) - (old.finished or 0.0)
        count = self.asked_count - old.asked_count
        asked = (self.asked_sum or 0.0) - (old.asked_sum or 0.0)
        made = self.made_sum - old.made_sum
        at_16 = 0 < count == finished == self.length - old.length and asked == made == DEFAULT * count
        return _Grown(
            finished,
            count if at_16 else 0.0,
            (self.answered or 0.0) - (old.answered or 0.0),
            self.refused - old.refused,
            self.aborted - old.aborted,
        )


class _Grown(msgspec.Struct, frozen=True):
    finished: float
    cut: float
    answered: float
    refused: float
    aborted: float


class RequestsState(NamedTuple):
    """What a ``Requests`` knows; its fields are those of it."""

    t: float
    begin: float
    own: tuple[tuple[float, PromptEnds], ...]
    last: tuple[float, _Counters] | None
    ticks: tuple[tuple[float, _Grown], ...]
    sums: tuple[float, ...]


class Requests:
    """Feed it the samples in order."""

    def __init__(self) -> None:
        self._t = self._begin = -1.0
        self._clear()

    def _clear(self) -> None:
        self._own: deque[tuple[float, PromptEnds]] = deque()
        self._last: tuple[float, _Counters] | None = None
        self._ticks: deque[tuple[float, _Grown]] = deque()
        self._sums = [0.0] * 5
        """Of the ticks, in the order of ``_count``. Whole numbers: adding and taking away leaves no error."""

    def state(self) -> RequestsState:
        """All that it knows, as something that stays as it is."""
        ticks, own = tuple(self._ticks), tuple(self._own)
        return RequestsState(self._t, self._begin, own, self._last, ticks, tuple(self._sums))

    def resume(self, state: RequestsState) -> None:
        """Know what another one knew."""
        self._t, self._begin, self._last, self._sums = state.t, state.begin, state.last, list(state.sums)
        self._own, self._ticks = deque(state.own), deque(state.ticks)

    def _count(self, tick: _Grown, sign: float) -> None:
        counted = (tick.finished, tick.cut, tick.answered, tick.refused, tick.aborted)
        self._sums = [held + sign * one for held, one in zip(self._sums, counted, strict=True)]

    def push(self, t: float, client: ClientSample | Absent, engine: EngineSample | Absent) -> RequestsView:
        """The view at Unix second ``t``."""
        if t <= self._t or self._begin < 0:
            self._clear()  # a replay went back
            self._begin = t
        self._t = t
        counters = self._take(t, engine)
        ends = client if isinstance(client, Absent) else client.ends
        if not isinstance(ends, Absent):
            self._own.append((t, ends))
            while len(self._own) > 2 and t - self._own[1][0] >= WINDOW_S:
                self._own.popleft()
        own = NOT_RECORDED if isinstance(ends, Absent) else _less(ends, self._own[0][1])
        ever = not isinstance(ends, Absent) and ends.ended > 0
        return RequestsView(min(WINDOW_S, t - self._begin), own, ever, self._served(counters, engine))

    def _take(self, t: float, engine: EngineSample | Absent) -> _Counters | None:
        while self._ticks and t - self._ticks[0][0] >= WINDOW_S:
            self._count(self._ticks.popleft()[1], -1.0)
        if isinstance(engine, Absent):
            return None
        last = self._last
        if last is not None and last[0] == engine.at:
            return last[1]
        counters = _read(totals_of(engine.series))
        if last is not None:
            grown = counters.growth(last[1])
            if grown is None:
                self._ticks.clear()
                self._sums = [0.0] * 5
            elif grown.finished or grown.answered or grown.refused:
                self._ticks.append((t, grown))
                self._count(grown, 1.0)
        self._last = (engine.at, counters)
        return counters

    def _served(self, counters: _Counters | None, engine: EngineSample | Absent) -> ServedView:
        if counters is None:
            why = engine if isinstance(engine, Absent) else NOT_YET
            return ServedView(why, why, why, why, why)
        finished, cut, answered, refused, aborted = self._sums
        http = counters.answered is not None
        return ServedView(
            finished=finished if counters.finished is not None else _NO_SERVER,
            cut=cut if counters.asked_sum is not None else _NO_LIMITS,
            answered=answered if http else _NO_HTTP,
            refused=refused if http else _NO_HTTP,
            given_up=aborted + max(0.0, answered - finished) if http and counters.finished is not None else _NO_HTTP,
        )


def _read(now: Totals) -> _Counters:
    layout, total = now.layout, now.sum
    reasons = layout.groups("vllm:request_success_total", "finished_reason")
    asked = layout.named("vllm:request_params_max_tokens_sum")
    return _Counters(
        finished=total(layout.named("vllm:request_success_total")) if reasons else None,
        length=total(reasons.get("length", ())),
        aborted=total(reasons.get("abort", ())),
        asked_sum=total(asked) if asked else None,
        asked_count=total(layout.named("vllm:request_params_max_tokens_count")),
        made_sum=total(layout.named("vllm:request_generation_tokens_sum")),
        answered=_http(now, "2xx") if layout.named(_HTTP) else None,
        refused=_http(now, "4xx"),
    )


def _http(now: Totals, status: str) -> float:
    """Answers of this class on the routes that complete prompts; a route that nobody asked yet has no series."""
    named = now.layout.named
    return sum(now.sum(named(_HTTP, (("handler", route), ("status", status)))) for route in _ROUTES)


def _less(new: PromptEnds, old: PromptEnds) -> PromptEnds:
    """What came between; a counter that fell began anew."""
    if new == old:
        return _NONE
    pairs = zip(msgspec.structs.astuple(new), msgspec.structs.astuple(old), strict=True)
    grown = [now - was if now >= was else now for now, was in pairs]
    return PromptEnds(*grown)


_NONE = PromptEnds()
