"""Figures of a test prompt as one line of text."""

from __future__ import annotations

from qtop.probe.timing import ProbeResult
from qtop.units import milliseconds


def probe_line(result: ProbeResult) -> str:
    """TTFT, gaps with their largest, rate, tokens."""
    gap = result.gap_kind.upper()
    itl = result.itl_ms
    parts = [f"TTFT {milliseconds(result.ttft_ms)}"]
    if itl is not None:
        parts.append(f"{gap} p50 {milliseconds(itl.p50)}  max {milliseconds(itl.max)}")
    if result.tokens_per_s is not None:
        parts.append(f"{result.tokens_per_s:.1f} tok/s")
    tokens = result.completion_tokens if result.completion_tokens is not None else f"{result.events} events"
    parts.append(f"{tokens} tokens" if isinstance(tokens, int) else tokens)
    return "   ".join(parts)
