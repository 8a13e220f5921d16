"""Where a request's time goes: window means of the stages, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from qtop.model.engines import TABLES, llamacpp, triton
from qtop.model.engines.scrapes import Scrapes, Told
from qtop.model.engines.table import Stages, gain
from qtop.model.frame import Stage, Waterfall
from qtop.model.quantiles import WINDOW_S
from qtop.model.series import Growth, Layout, Totals, growing, totals_of
from qtop.sample import Absent, ClientSample, EngineSample, Reading, Why

FEWEST = 5
"""Finished requests below which a mean says little."""
MISMATCH = 0.2
"""Share by which the requests that began to answer may differ in number from those that finished: TTFT is counted at
the first token, the other times at the end of a request."""
_UNSEEN = Absent(Why.NOT_HERE, "the server cannot see it: the test prompt tells")


CLIENT = Stage("client", _UNSEEN)


def client_stage(old: ClientSample | Absent, new: ClientSample | Absent) -> Stage:
    """How long qtop's test prompts of the window waited to be sent, and for their connection: the mean, ms."""
    if isinstance(old, Absent) or isinstance(new, Absent):
        return Stage("client", _UNSEEN)
    sent = new.requests - old.requests
    if sent <= 0:
        return Stage("client", _UNSEEN)
    return Stage("client", max(0.0, new.queue_ms - old.queue_ms) / sent, f"{sent} test prompts of the window")


def waterfall(engine: str, old: EngineSample, new: EngineSample) -> Waterfall | Absent:
    """Window means between two scrapes. Frontend = TTFT − queue − prefill: tokenising, IPC, event-loop lag. What
    happens before the server is not in a scrape: ``client_stage`` has it."""
    if engine == "llamacpp":
        return _llamacpp(old, new)
    if engine == "triton":
        return _triton(old, new)
    table = TABLES.get(engine)
    if table is None or table.stages is None:
        return Absent(Why.UNSUPPORTED, "this server does not say where its time goes")
    return _by_table(table.stages, table.title, old, new)


class _Plan(msgspec.Struct, frozen=True):
    """How to read the stages from scrapes of one layout."""

    parts: tuple[tuple[str, Callable[[Totals, Totals], Told]], ...]
    tokens: Callable[[Totals, Totals], Told] | None
    finished: Growth
    first_tokens: Growth

    @classmethod
    def of(cls, spec: Stages, layout: Layout) -> _Plan:
        """For this layout."""
        return cls(
            parts=tuple((name, one.between(layout)) for name, one in spec.parts.items()),
            tokens=None if spec.tokens is None else spec.tokens.between(layout),
            finished=growing(layout, spec.finished),
            first_tokens=growing(layout, spec.first_tokens),
        )


def _by_table(spec: Stages, title: str, old: EngineSample, new: EngineSample) -> Waterfall:
    before, now = totals_of(old.series), totals_of(new.series)
    plan = now.layout.once(spec, lambda layout: _Plan.of(spec, layout))
    means = {name: mean(before, now) for name, mean in plan.parts}
    for name, (whole, *less) in spec.differences.items():
        means[name] = _less(means, whole, tuple(less))
    for name, parts in spec.sums.items():
        means[name] = _sum(means, parts)
    stages = tuple(
        Stage(name, *means[name])
        if name in means
        else Stage(name, Absent(Why.UNSUPPORTED, spec.missing.get(name, f"{title} does not tell")))
        for name in spec.order
    )
    seconds = new.at - old.at
    finished, begun = plan.finished(before, now), plan.first_tokens(before, now)
    why = _doubt(seconds, finished, begun)
    absent = Absent(Why.UNSUPPORTED, f"{title} does not tell")
    return Waterfall(
        seconds=seconds,
        finished=finished,
        stages=(CLIENT, *stages),
        ttft_ms=means["ttft"][0] if "ttft" in means else absent,
        itl_ms=means["itl"][0] if "itl" in means else absent,
        tokens=absent if plan.tokens is None else plan.tokens(before, now)[0],
        first_tokens=begun,
        trusted=not why,
        why=why,
    )


def _less(
    means: dict[str, tuple[Reading[float], str]], whole: str, less: tuple[str, ...]
) -> tuple[Reading[float], str]:
    left = means[whole][0]
    for name in less:
        part = means[name][0]
        if isinstance(left, Absent):
            return left, ""
        if isinstance(part, Absent):
            return part, ""
        left -= part
    return left if isinstance(left, Absent) else max(0.0, left), f"computed: {' − '.join((whole, *less))}"


def _sum(means: dict[str, tuple[Reading[float], str]], parts: tuple[str, ...]) -> tuple[Reading[float], str]:
    total = 0.0
    for name in parts:
        part = means[name][0]
        if isinstance(part, Absent):
            return part, ""
        total += part
    return total, f"computed: {' + '.join(parts)}"


def _doubt(seconds: float, finished: Reading[float], begun: Reading[float]) -> str:
    """Why the stages should not be compared; "" where they may be."""
    if seconds < WINDOW_S:
        return f"a window of {seconds:.0f} s is short: the means need {WINDOW_S:.0f} s"
    if isinstance(finished, Absent):
        return str(finished)
    if isinstance(begun, Absent):
        return str(begun)
    if finished < FEWEST:
        return f"only {finished:.0f} requests finished"
    if abs(begun - finished) > MISMATCH * finished:
        return f"{begun:.0f} begun, {finished:.0f} finished: means of different requests"
    return ""


def _triton(old: EngineSample, new: EngineSample) -> Waterfall:
    scrapes = Scrapes.of(old, new)
    absent = Absent(Why.UNSUPPORTED, "Triton counts requests, not tokens")
    model = triton.busiest(scrapes)
    finished: Reading[float] = Absent(Why.NOT_YET, "nothing finished in the window")
    if model is not None:
        finished = gain(scrapes.begin, scrapes.now, ("nv_inference_request_success",), (("model", model),))
    seconds = new.at - old.at
    why = _doubt(seconds, finished, finished)
    return Waterfall(seconds, finished, (CLIENT, *triton.stages(scrapes)), absent, absent, absent, absent, not why, why)


def _llamacpp(old: EngineSample, new: EngineSample) -> Waterfall:
    """llama.cpp counts prompt and generation seconds, not requests: what it says is time a token."""
    scrapes = Scrapes.of(old, new)
    unsupported = Absent(Why.UNSUPPORTED, "llama.cpp does not tell")

    def spent(name: str) -> Reading[float]:
        seconds = gain(scrapes.before, scrapes.now, (f"llamacpp:{name}",))
        return seconds if isinstance(seconds, Absent) else seconds * 1000.0

    return Waterfall(
        seconds=new.at - old.at,
        finished=unsupported,
        stages=(
            CLIENT,
            Stage("frontend", unsupported),
            Stage("queue", unsupported),
            Stage("prefill", spent("prompt_seconds_total"), "llamacpp:prompt_seconds_total, of all requests"),
            Stage("decode", spent("tokens_predicted_seconds_total"), "llamacpp:tokens_predicted_seconds_total, of all"),
        ),
        ttft_ms=unsupported,
        itl_ms=llamacpp.itl_ms(scrapes),
        tokens=gain(scrapes.before, scrapes.now, ("llamacpp:tokens_predicted_total",)),
        first_tokens=unsupported,
        why="sums of all requests: llama.cpp counts no single ones",
    )
