"""From stamps to figures: what one streamed answer shows about its server. Pure; all stamps are monotonic seconds.

Definitions. Client queue t_send - t_due. TTFT t_first - t_send, where t_first is the first non-empty content or
reasoning delta. TTFO the same for the first delta that is not reasoning. Gaps: between successive output events; they
are inter-token latencies (ITL) while an event is a token, and inter-chunk (ICL) where ``usage`` counts more tokens than
there were events. TPOT (t_last - t_first) / (n - 1), n from ``usage``. E2E t_end - t_send. ``tokens_per_s`` is
1000 / TPOT: decoding speed, prefill left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

P90_NEEDS = 10
P99_NEEDS = 100
OWN_SHARE = 0.01
"""The probe's own delays are noted from this share of what it measured on."""
SEVERAL = 1.05
"""Tokens an event, on the mean, from which a gap is no longer one token's: below that a few were held back, such as one
whose bytes are half a character."""
MOST_MS = 1e9
"""Of what a server says of its times: eleven days. Beyond it, and below 0, it says nonsense."""
ONE_PIECE_EVENTS, ONE_PIECE_MS = 16, 250.0
"""Fewer events, or sooner, may come together by chance: an API server that waited 0.1 s for a CPU was seen to hand over
24 tokens of a fast model at once."""
BUNCHED_MS = 0.1
"""No server makes tokens this fast one at a time: a shorter gap means that events arrived together."""


class Stamps(msgspec.Struct, frozen=True):
    """When things happened to one request, in monotonic seconds; ``events`` are the deltas that carried text."""

    t_due: float
    t_send: float
    t_end: float
    events: tuple[float, ...] = ()
    silent: tuple[float, ...] = ()
    """Deltas with empty text that open neither nor close the answer: vLLM sends one for a token whose bytes do not make
    up a whole character yet."""
    t_first_output: float | None = None
    """First delta that is not reasoning."""
    merged: tuple[float, ...] = ()
    """Stamps of reads that came late and found several events: true of the last of them, the others' are lost."""

    @property
    def t_first(self) -> float | None:
        """The first non-empty content or reasoning delta."""
        return self.events[0] if self.events else None


class Reading(msgspec.Struct, frozen=True):
    """How the stamps of one request came about."""

    by_kernel: bool
    """Every stamp is the kernel's."""
    lag_s: float
    """The longest between a stamp of the kernel and the read."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the server gave them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ServerTimes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server says of one request, ms (vLLM 0.25 and later with ``--enable-per-request-metrics``: the field
    ``metrics`` of the last chunk). On the engine's clock: from being queued to being scheduled, from there to the first
    token, from that to the last. ``mean_itl_ms`` is the engine's; what the client saw beyond is the way to it."""

    queue_ms: float | None = None
    prefill_ms: float | None = None
    """vLLM calls it time_to_first_token_ms, and counts it from scheduling."""
    decode_ms: float | None = None
    mean_itl_ms: float | None = None
    tokens_per_s: float | None = None

    @classmethod
    def of(cls, metrics: dict[str, Any]) -> ServerTimes | None:
        """From vLLM's names; None where it holds none of them (they are all optional)."""
        names = {
            "queue_ms": "queue_time_ms",
            "prefill_ms": "time_to_first_token_ms",
            "decode_ms": "generation_time_ms",
            "mean_itl_ms": "mean_itl_ms",
            "tokens_per_s": "tokens_per_second",
        }
        found = {ours: _number(metrics.get(theirs)) for ours, theirs in names.items()}
        return cls(**found) if any(value is not None for value in found.values()) else None


class GapSummary(msgspec.Struct, frozen=True):
    """Summary of the gaps of one answer, in ms; p90 from 10 gaps on and p99 from 100, otherwise None."""

    n: int
    mean: float
    p50: float
    p90: float | None
    p99: float | None
    max: float


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One test request. A figure that could not be had is None, and ``notes`` says why under the figure's name."""

    ok: bool
    error: str = ""
    """One short clause, "" where the answer came to its end."""
    started: float
    """Unix time at which it was sent, in seconds."""
    ttft_ms: float | None
    ttfo_ms: float | None
    itl_ms: GapSummary | None
    gaps_ms: tuple[float, ...]
    gap_kind: Literal["itl", "icl"]
    tpot_ms: float | None
    e2e_ms: float | None
    client_queue_ms: float
    """t_send - t_due; includes opening the connection."""
    connect_ms: float | None
    """Opening the connection (name, TCP, TLS); None where none came about."""
    client_wait_ms: float | None
    """How long the probe's own reading thread waited for a CPU between sending and the end."""
    prompt_tokens: int | None
    completion_tokens: int | None
    events: int
    """Deltas that carried text."""
    text_chars: int
    finish_reason: str | None
    tokens_per_s: float | None
    notes: dict[str, str]
    i: int = 0
    """Its place in the schedule."""
    ended: float = 0.0
    """Unix time of its end, in seconds."""
    stamps: Literal["kernel", "user"] = "user"
    """Who stamped what arrived: the kernel on arrival, or qtop after reading it."""
    read_lag_ms: float | None = None
    """The longest that something lay in the kernel before it was read; not in the stamps, where those are the
    kernel's. None where only qtop stamped."""
    ttft_due_ms: float | None = None
    """t_first - t_due: what a user waits who comes at the time due."""
    timed_out: bool = False
    """It was ended because it, or a token of it, took too long."""
    endpoint: str = ""
    """The path that answered."""
    server: ServerTimes | None = None
    merged: int = 0
    """Gaps that are left out because several tokens were read at once, late: their own stamps are lost."""
    too_long: bool = False
    """Refused because the prompt, or it and its answer, are longer than the model takes."""
    unstreamed: bool = False
    """A stream was asked for, and the answer came in one piece: the server does not stream, or a proxy gathers it."""


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile (0 to 1) of ascending values, by linear interpolation at rank (n - 1)·q (Hyndman-Fan type 7)."""
    at = (len(ordered) - 1) * q
    low = math.floor(at)
    high = math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def summarise(gaps_ms: Sequence[float]) -> GapSummary | None:
    """The summary of gaps in ms, or None if there are none."""
    if not gaps_ms:
        return None
    ordered = sorted(gaps_ms)
    n = len(ordered)
    return GapSummary(
        n=n,
        mean=_round(math.fsum(ordered) / n),
        p50=_round(quantile(ordered, 0.5)),
        p90=_round(quantile(ordered, 0.9)) if n >= P90_NEEDS else None,
        p99=_round(quantile(ordered, 0.99)) if n >= P99_NEEDS else None,
        max=_round(ordered[-1]),
    )


def measure(
    stamps: Stamps,
    *,
    usage: Usage | None = None,
    error: str = "",
    finish_reason: str | None = None,
    text_chars: int = 0,
    started: float = 0.0,
    connect_ms: float | None = None,
    client_wait_ms: float | None = None,
    notes: dict[str, str] | None = None,
    reading: Reading | None = None,
    timed_out: bool = False,
    endpoint: str = "",
    server: ServerTimes | None = None,
    i: int = 0,
    scheduled: bool = True,
    too_long: bool = False,
    streaming: bool = True,
    document: bool = False,
) -> ProbeResult:
    """The figures of one request; what the stamps and ``usage`` cannot support is None with its reason in ``notes``."""
    why = dict(notes or {})
    tokens = usage.completion_tokens if usage else None
    t_first = stamps.t_first
    nothing = error or "the answer carried no text"
    ttft = _ms(stamps.t_send, t_first)
    if ttft is None:
        why["ttft_ms"] = nothing
    elif t_first in stamps.merged and stamps.events[1:2] == (t_first,):
        ttft = None
        why["ttft_ms"] = "the first tokens were read together, late: the stamp of the first is lost"
    ttfo = _ms(stamps.t_send, stamps.t_first_output)
    if document:
        ttft = ttfo = None
        why["ttft_ms"] = why["ttfo_ms"] = "the answer came in one piece: the moment of its first token cannot be seen"
    elif ttfo is None:
        why["ttfo_ms"] = "the answer ended while it was still reasoning" if stamps.events else nothing
    e2e = None if error else _ms(stamps.t_send, stamps.t_end)
    if e2e is None:
        why["e2e_ms"] = error

    output, kind = _output_events(stamps, tokens, finish_reason, why)
    # Between events that were read late and together lie gaps that nobody saw: the one before the first of them is too
    # long by what the others are too short. All of them are left out.
    lost = frozenset(stamps.merged)
    pairs = [(a, b, c) for a, b, c in zip(output, output[1:], [*output[2:], None], strict=False)]
    gaps = tuple(_round((b - a) * 1000) for a, b, c in pairs if not (b in lost and b in (a, c)))
    unseen = len(pairs) - len(gaps)
    if unseen:
        why["merged"] = f"{unseen} of {len(pairs)} gaps were not seen: the prober read several tokens at once"
    summary = summarise(gaps)
    _note_gaps(summary, gaps, why)

    tpot = None
    if tokens is None:
        why["completion_tokens"] = "the server gave no usage"
        why["tpot_ms"] = "needs the token count from the server's usage"
    elif tokens <= 1:
        why["tpot_ms"] = "needs at least two tokens"
    elif len(output) < 2:
        why["tpot_ms"] = "all tokens came in one event" if output else nothing
    elif error:
        why["tpot_ms"] = error
    else:
        tpot = (output[-1] - output[0]) * 1000 / (tokens - 1)
    if tpot is None or tpot <= 0:
        why["tokens_per_s"] = why.get("tpot_ms", "all tokens came at the same moment")

    queue = _round((stamps.t_send - stamps.t_due) * 1000)
    late = queue - (connect_ms or 0.0)
    if scheduled and ttft and late > OWN_SHARE * ttft:
        why["client_queue_ms"] = f"the probe sent {late:.1f} ms late, more than 1 % of TTFT"
    by_kernel = reading is not None and reading.by_kernel
    if client_wait_ms is None:
        why["client_wait_ms"] = "no /proc/thread-self/schedstat here"
    elif not by_kernel and e2e and client_wait_ms > OWN_SHARE * e2e:
        why["client_wait_ms"] = f"the probe itself waited {client_wait_ms:.1f} ms for a CPU, which its stamps include"
    return ProbeResult(
        ok=not error,
        error=error,
        started=started,
        ttft_ms=ttft,
        ttfo_ms=ttfo,
        itl_ms=summary,
        gaps_ms=gaps,
        gap_kind=kind,
        tpot_ms=None if tpot is None else _round(tpot),
        e2e_ms=e2e,
        client_queue_ms=queue,
        connect_ms=connect_ms,
        client_wait_ms=client_wait_ms,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=tokens,
        events=len(stamps.events),
        text_chars=text_chars,
        finish_reason=finish_reason,
        tokens_per_s=_round(1000 / tpot) if tpot else None,
        notes=why,
        ended=started + max(0.0, stamps.t_end - stamps.t_send),
        stamps="kernel" if by_kernel else "user",
        read_lag_ms=_round(reading.lag_s * 1000) if reading is not None and by_kernel else None,
        ttft_due_ms=None if ttft is None else _ms(stamps.t_due, t_first),
        timed_out=timed_out,
        endpoint=endpoint,
        server=server,
        i=i,
        merged=unseen,
        too_long=too_long,
        unstreamed=streaming and not error and (document or _in_one_piece(stamps, by_kernel, client_wait_ms)),
    )


def _in_one_piece(stamps: Stamps, by_kernel: bool, waited_ms: float | None) -> bool:
    """Whether all events came together at the end: a mean gap that no server makes, after a wait of which they took
    next to nothing. What qtop read late may have come over as long as qtop waited for a CPU."""
    events = stamps.events
    if len(events) < ONE_PIECE_EVENTS or (before_ms := (events[0] - stamps.t_send) * 1000) < ONE_PIECE_MS:
        return False
    took_ms = (events[-1] - events[0]) * 1000
    if stamps.merged or not by_kernel:
        took_ms += waited_ms or 0.0
    return took_ms < BUNCHED_MS * (len(events) - 1) and took_ms < 0.1 * before_ms


def _output_events(
    stamps: Stamps, tokens: int | None, finish_reason: str | None, why: dict[str, str]
) -> tuple[list[float], Literal["itl", "icl"]]:
    """The stamps that gaps are taken between, and whether a gap is one token.

    A silent delta counts where ``usage`` vouches for it as a token: without it, a character made of two tokens would
    show as a gap of twice the true length. The token that stops an answer carries no text and needs no event.
    """
    events = list(stamps.events)
    if tokens is None:
        if events:
            why["gap_kind"] = "no usage from the server, so an event is taken for one token"
        return events, "itl"
    spoken = len(events) + len(stamps.silent)
    if events and spoken <= tokens:
        events = sorted([*events, *(t for t in stamps.silent if t > events[0])])
    counted = spoken if spoken <= tokens else len(events)
    stop_token = 0 if finish_reason == "length" else 1
    return events, "icl" if tokens > SEVERAL * counted + stop_token else "itl"


def _note_gaps(summary: GapSummary | None, gaps: Sequence[float], why: dict[str, str]) -> None:
    if summary is None:
        why["itl_ms"] = "needs at least two output events"
        return
    if summary.p90 is None:
        why["itl_ms.p90"] = f"needs {P90_NEEDS} gaps, there are {summary.n}"
    if summary.p99 is None:
        why["itl_ms.p99"] = f"needs {P99_NEEDS} gaps, there are {summary.n}"
    bunched = sum(gap < BUNCHED_MS for gap in gaps)
    if bunched * 10 >= len(gaps):
        why["gaps_ms"] = f"{bunched} of {len(gaps)} events arrived together with the one before: the stream is buffered"


def _ms(since: float, until: float | None) -> float | None:
    return None if until is None else _round((until - since) * 1000)


def _number(value: object) -> float | None:
    fit = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_MS
    return _round(float(value)) if fit else None  # type: ignore[arg-type]


def _round(ms: float) -> float:
    """Microseconds are as fine as a stamp in user space is true."""
    return round(ms, 3)
