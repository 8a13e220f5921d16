"""What was true, what a tool reported, and how far apart the two are. Pure, but for reading the log; ms unless said."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

CLOCKS_S = 0.001
"""How much earlier than it was sent a request may seem to have come: tools may stamp after the send."""


class NoMatch(Exception):
    """Why a tool's results cannot be laid beside the truth."""


@dataclass(frozen=True)
class Truth:
    """One request as the server saw it."""

    number: int
    sent: float
    """When its last byte came, unix seconds: within microseconds of when the client sent it."""
    ttft: float
    gaps: tuple[float, ...]


@dataclass(frozen=True)
class Reported:
    """One request as a tool reports it; None for what it does not say."""

    number: int | None = None
    """The request's number, which the server's answer carries in its text and its usage."""
    sent: float | None = None
    """Unix seconds."""
    ttft: float | None = None
    gaps: tuple[float, ...] | None = None
    mean_gap: float | None = None


@dataclass(frozen=True)
class Percentiles:
    """Of a tool's own summary."""

    p50: float
    p99: float


@dataclass(frozen=True)
class Server:
    """How true the truth is: figures of the whole run, microseconds."""

    stamps: str
    """Where the instant of a request's last byte is from: "kernel" or "user"."""
    priority: str
    requests: int
    """Answered to their end."""
    send_us: tuple[float, float, float]
    """What a send() took (p50, p99, max): the true instant of an event lies in it; errors count from its beginning."""
    late_us: tuple[float, float, float]
    """Behind the timetable. No error of any tool's: the true instant is when it was sent."""
    instant_us: tuple[float, float, float]
    """From the first stream's send to the last stream's in one instant, where several streams share it."""
    blocked: int
    """Sends that a client's full socket held up."""


@dataclass(frozen=True)
class Errors:
    """Absolute errors of one figure, with the mean error (reported minus true) as ``bias``."""

    count: int
    p50: float
    p99: float
    largest: float
    bias: float | None


@dataclass
class Comparison:
    """A tool's results beside the truth."""

    ttft: Errors | None = None
    itl: Errors | None = None
    itl_of: str = ""
    """What an error of ``itl`` is of: each "gap", or the "summary", whose p50 and p99 are then those of the tool's own
    p50 and p99 (``count`` is 0)."""
    itl_mean: Errors | None = None
    """Of each request's mean gap, where that is all that the tool gives."""
    matched: int = 0
    unmatched: int = 0
    """Results without a true request, or with another number of gaps than it had."""
    summary: dict[str, tuple[float, float]] = field(default_factory=dict)
    """(reported, true) of what a user reads: ttft_p50, ttft_p99, itl_p50, itl_p99."""


def quantile(values: Iterable[float], q: float) -> float:
    """By linear interpolation at rank (n - 1)·q (Hyndman-Fan type 7); nan of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    at = (len(ordered) - 1) * q
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def read(path: Path) -> tuple[list[Truth], Server]:
    """The log of scripts/known_sse_server.py; only streamed answers that came to their end."""
    log: dict[str, Any] = json.loads(path.read_text())
    whole = [one for one in log["requests"] if one["after"] and len(one["after"]) == len(one["due"])]
    truths = [
        Truth(
            number=one["number"],
            sent=one["received_unix"] / 1e9,
            ttft=(one["before"][0] - one["received"]) / 1e6,
            gaps=tuple((b - a) / 1e6 for a, b in pairwise(one["before"])),
        )
        for one in whole
    ]
    widths = [
        (after - before) / 1e3 for one in whole for before, after in zip(one["before"], one["after"], strict=True)
    ]
    late = [(before - due) / 1e3 for one in whole for before, due in zip(one["before"], one["due"], strict=True)]
    instants: dict[int, list[int]] = {}
    for one in whole:
        for due, before in zip(one["due"], one["before"], strict=True):
            instants.setdefault(due, []).append(before)
    spread = [(max(sends) - min(sends)) / 1e3 for sends in instants.values() if len(sends) > 1]
    stamps = {one["stamp"] for one in whole}
    return truths, Server(
        stamps="user" if "user" in stamps or not stamps else "kernel",
        priority=log["priority"],
        requests=len(whole),
        send_us=_three(widths),
        late_us=_three(late),
        instant_us=_three(spread),
        blocked=sum(one["blocked"] for one in whole),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if not values:
        return (0.0, 0.0, 0.0)
    return (round(quantile(values, 0.5), 1), round(quantile(values, 0.99), 1), round(max(values), 1))


def match(truths: Sequence[Truth], reported: Sequence[Reported]) -> list[tuple[Truth, Reported]]:
    """Pairs of the same request: by number, else by the order in which they were sent. NoMatch where neither will do.

    By order only where as many were reported as are true, leaving out what came to the server before the first that
    was reported was sent (a warm-up): two requests within the same microseconds may be taken for each other then.
    """
    if all(one.number is not None for one in reported):
        known = {one.number: one for one in truths}
        if len({one.number for one in reported}) != len(reported):
            raise NoMatch("two results have the same number")
        return [(known[one.number], one) for one in reported if one.number in known]
    mine, theirs = sorted(truths, key=lambda one: one.sent), list(reported)
    sent = [one.sent for one in theirs if one.sent is not None]
    if sent and len(sent) == len(theirs):
        theirs.sort(key=lambda one: one.sent or 0.0)
        mine = [one for one in mine if one.sent > min(sent) - CLOCKS_S]
    if len(theirs) != len(mine):
        raise NoMatch(f"{len(theirs)} results without numbers for {len(mine)} requests")
    return list(zip(mine, theirs, strict=True))


def errors(differences: Sequence[float]) -> Errors | None:
    """Of reported minus true; None of nothing."""
    if not differences:
        return None
    sizes = [abs(one) for one in differences]
    return Errors(
        count=len(sizes),
        p50=round(quantile(sizes, 0.5), 4),
        p99=round(quantile(sizes, 0.99), 4),
        largest=round(max(sizes), 4),
        bias=round(math.fsum(differences) / len(sizes), 4),
    )


def compare(
    truths: Sequence[Truth],
    reported: Sequence[Reported],
    said: dict[str, Percentiles] | None = None,
    first: int = 0,
) -> Comparison:
    """Errors of TTFT and ITL as finely as the tool reports; ``said`` are its own summaries of "ttft" and "itl".

    The ``first`` requests that came to the server are not judged: connections are opened in them and modules loaded,
    and tools differ in whether they leave them out. A tool's own summary is judged as it is.
    """
    every = match(truths, reported)
    pairs = [(true, one) for true, one in every if true.number > first]
    found = Comparison(matched=len(pairs), unmatched=len(reported) - len(every))
    found.ttft = errors([one.ttft - true.ttft for true, one in pairs if one.ttft is not None])
    gaps = [(true, one.gaps) for true, one in pairs if one.gaps is not None]
    alike = [(true, mine) for true, mine in gaps if len(mine) == len(true.gaps)]
    found.unmatched += len(gaps) - len(alike)
    percentiles = dict(said or {})
    if alike:
        found.itl_of = "gap"
        found.itl = errors([a - b for true, mine in alike for a, b in zip(mine, true.gaps, strict=True)])
        percentiles.setdefault("itl", percentiles_of(gap for _, one in every for gap in one.gaps or ()))
    found.itl_mean = errors(
        [
            one.mean_gap - math.fsum(true.gaps) / len(true.gaps)
            for true, one in pairs
            if one.mean_gap is not None and true.gaps
        ]
    )
    if found.ttft is not None:
        percentiles.setdefault("ttft", percentiles_of(one.ttft for _, one in every if one.ttft is not None))
    true_values = {
        "ttft": [true.ttft for true, _ in every],
        "itl": [gap for true, _ in every for gap in true.gaps],
    }
    for name, theirs in percentiles.items():
        for key, value in (("p50", theirs.p50), ("p99", theirs.p99)):
            true_value = quantile(true_values[name], 0.5 if key == "p50" else 0.99)
            found.summary[f"{name}_{key}"] = (round(value, 4), round(true_value, 4))
    if found.itl is None and "itl" in percentiles:
        found.itl_of = "summary"
        p50, p99 = (round(off(found.summary[f"itl_{key}"]), 4) for key in ("p50", "p99"))
        found.itl = Errors(0, p50, p99, max(p50, p99), None)
    return found


def percentiles_of(values: Iterable[float]) -> Percentiles:
    """The median and p99 of values."""
    kept = list(values)
    return Percentiles(quantile(kept, 0.5), quantile(kept, 0.99))


def off(pair: tuple[float, float]) -> float:
    """How far a reported figure is from the true one."""
    return abs(pair[0] - pair[1])
