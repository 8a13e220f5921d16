"""A plan beside the server that runs: where they differ, and why. Pure."""

from __future__ import annotations

import msgspec

from qtop.plan.making import Plan
from qtop.plan.speed import decode
from qtop.units import number, percent, size

NEAR = 0.03
"""Share by which figures may differ before it is worth a word."""
PREFILLING = 0.1
"""Prompt tokens to output tokens, from which reading prompts takes time from decoding."""


class Seen(msgspec.Struct, frozen=True):
    """What the running server tells; None where it does not."""

    server: str
    kv_tokens: float | None = None
    tok_s: float | None = None
    running: float | None = None
    held: float | None = None
    """Tokens in the cache."""
    prompt_tok_s: float | None = None
    used: float | None = None
    """Bytes of VRAM of its processes."""
    cpu_wait: float | None = None
    """Share of time that its critical thread waits for a CPU."""
    blocks_given: bool = False
    """The pool's size was given (num_gpu_blocks_override, kv_cache_memory_bytes)."""


class Row(msgspec.Struct, frozen=True):
    """One figure."""

    what: str
    plan: str
    measured: str
    difference: str


class Compared(msgspec.Struct, frozen=True):
    """The figures and what explains them."""

    server: str
    rows: tuple[Row, ...]
    why: tuple[str, ...]


def compare(plan: Plan, seen: Seen) -> Compared:
    """Plan against measured."""
    rows: list[Row] = []
    why: list[str] = []
    tokens = plan.memory.tokens
    if seen.kv_tokens and tokens:
        differs = seen.kv_tokens / tokens - 1
        rows.append(Row("tokens of cache", number(tokens), number(round(seen.kv_tokens)), _signed(differs)))
        if seen.blocks_given:
            why.append("the size of its cache was given, not left to vLLM's own sum")
        elif abs(differs) > NEAR:
            why.append(_cache(differs))
    elif not seen.kv_tokens:
        why.append("it does not tell how many tokens its cache holds")
    if seen.used:
        spent = plan.memory
        planned = spent.weights + spent.pool + spent.reserve.total
        rows.append(Row("VRAM of its processes", size(planned), size(seen.used), _signed(seen.used / planned - 1)))
    if seen.tok_s and seen.running and seen.running >= 0.5:
        batch = max(1, round(seen.running))
        context = int((seen.held or 0.0) / batch)
        found = decode(plan.wish.model, plan.wish.gpu, plan.serving, batch, context)
        share = seen.tok_s / found.bound
        expected = f"{number(round(found.expected.low))}–{number(round(found.expected.high))}"
        rows.append(
            Row(
                f"tokens a second, {batch} at once",
                expected,
                number(round(seen.tok_s)),
                f"{percent(share)} of the bound",
            )
        )
        why += _slow(seen, share, found.expected.low, found.expected.high, found.bound)
    else:
        why.append("no request runs: how fast it is shows under load")
    return Compared(seen.server, tuple(rows), tuple(why))


def _signed(share: float) -> str:
    """ "+0.7 %"; never a zero with a sign."""
    text = f"{share * 100:+.1f} %"
    return "0.0 %" if text[1:] == "0.0 %" else text


def _cache(differs: float) -> str:
    if differs < 0:
        return (
            "its cache is smaller than planned: other processes, drafts or adapters held memory when it started, or "
            "its version counts more"
        )
    return "its cache is larger than planned: its version counts less, or the weights are smaller than is known here"


def _slow(seen: Seen, share: float, low: float, high: float, bound: float) -> list[str]:
    assert seen.tok_s is not None
    if seen.tok_s > bound:
        return [
            "faster than the bound: drafts are accepted, weights are smaller, or running requests were counted late"
        ]
    if low <= seen.tok_s <= high or share > 1:
        return []
    if seen.tok_s > high:
        return ["faster than expected, within the bound"]
    found = []
    if seen.cpu_wait is not None and seen.cpu_wait >= 0.05:
        found.append(f"its critical thread waits for a CPU {percent(seen.cpu_wait)} of the time")
    if seen.prompt_tok_s and seen.prompt_tok_s >= PREFILLING * seen.tok_s:
        found.append(f"it reads {number(round(seen.prompt_tok_s))} tokens of prompts a second meanwhile")
    return found or ["slower than expected: `qtop doctor` says what holds it back"]
