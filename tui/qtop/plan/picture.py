"""What the screen of a plan draws: what fits by context and concurrency, speed by context, TTFT by prompt. Pure."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from qtop.plan.making import CONTEXTS, Plan
from qtop.plan.speed import Decode, Prefill, decode, prefill
from qtop.plan.vram import at_once, memory

CONCURRENCY = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COMFORTABLE = 0.8
"""Share of the pool up to which requests fit comfortably: beyond it a few that are longer than the others make one of
them be computed anew."""
SHORTEST = 1024
"""Tokens at which curves begin."""

Fit = Literal["easy", "just", "waits", "never"]
"""All of them at once, with room; all, with hardly any; vLLM starts and some of them wait; it does not start."""


class Grid(msgspec.Struct, frozen=True):
    """What fits: ``cells[row][column]``, so many requests at once of so many tokens each."""

    contexts: tuple[int, ...]
    seqs: tuple[int, ...]
    cells: tuple[tuple[Fit, ...], ...]
    at: tuple[int, int]
    """Row and column of the plan itself."""


class Curve(msgspec.Struct, frozen=True):
    """Decoding so many requests at once, by the tokens that each holds; it ends where the pool does."""

    batch: int
    points: tuple[Decode, ...]


def fit(share: float, one: float) -> Fit:
    """``share`` of the pool that all requests take, ``one`` that one takes; infinite where there is no pool."""
    if not one <= 1.0:
        return "never"
    return "easy" if share <= COMFORTABLE else "just" if share <= 1.0 else "waits"


def grid(plan: Plan) -> Grid:
    """Powers of two and the plan's own context and limit; each row reckoned as started with that limit: its
    graphs and its sampling take their share of the memory."""
    wish, one = plan.wish, plan.serving
    contexts = tuple(sorted({tokens for tokens in CONTEXTS if tokens <= wish.model.shape.positions} | {one.context}))
    seqs = tuple(sorted({*CONCURRENCY, one.seqs}))
    cells = []
    for many in seqs:
        row = msgspec.structs.replace(one, seqs=many)
        spent = memory(wish.model, wish.gpu, row)
        refused = spent.refused > 0
        holds = [0.0 if refused else at_once(wish.model, row, spent.pool, tokens) for tokens in contexts]
        cells.append(tuple(fit(many / hold, 1 / hold) if hold > 0 else "never" for hold in holds))
    return Grid(contexts, seqs, tuple(cells), (seqs.index(one.seqs), contexts.index(one.context)))


def lengths(longest: int, count: int) -> list[int]:
    """``count`` lengths from the shortest to the longest, evenly on a scale of ratios."""
    low = min(SHORTEST, max(1, longest))
    ratio = max(1.0, longest / low)
    return [max(1, round(low * ratio ** (at / max(1, count - 1)))) for at in range(count)]


def curves(plan: Plan, batches: tuple[int, ...], count: int) -> tuple[Curve, ...]:
    """``count`` points a curve at most, up to what the model was made for; empty where bandwidth is not known."""
    wish, one, pool = plan.wish, plan.serving, plan.memory.pool
    if wish.gpu.bandwidth <= 0 or not pool:
        return ()
    found = []
    for batch in batches:
        points = tuple(
            decode(wish.model, wish.gpu, one, batch, tokens)
            for tokens in lengths(wish.model.shape.positions, count)
            if at_once(wish.model, one, pool, tokens) >= batch
        )
        found.append(Curve(batch, points))
    return tuple(found)


def first_tokens(plan: Plan, count: int) -> tuple[Prefill, ...]:
    """TTFT of a prompt alone, by its length; empty where the card's rate is not known."""
    wish, one = plan.wish, plan.serving
    if wish.gpu.bandwidth <= 0:
        return ()
    found = (prefill(wish.model, wish.gpu, one, tokens) for tokens in lengths(wish.model.shape.positions, count))
    return tuple(each for each in found if each is not None)


def place(value: float, low: float, high: float) -> float:
    """Where a value lies between two others on a scale of ratios: 0 to 1, beyond them less or more."""
    if value <= 0 or low <= 0 or high <= low:
        return 0.0
    return math.log(value / low) / math.log(high / low)
