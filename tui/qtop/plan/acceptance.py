"""The acceptance test: are answers as fast as the hardware allows? Pure.

The pass line (source: the guide's §6, put right in its check, G31b): TTFT p50 within 240 ms, and E2E p90 within that
and the time that the answer's tokens take at 60 % of the memory roofline. Decoding reaches 60–85 % of the roofline on a
server that nothing holds back. The guide's own line, 240 ms and 1.1 s, is told beside it: on the card that it names the
second cannot be kept in bf16.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtop.model.gpus import exactly
from qtop.model.presets import preset_decoder
from qtop.model.roofline import Hardware, bound, shape
from qtop.probe.summary import Summary

TTFT_MS = 240.0
GUIDE_E2E_MS = 1100.0
ATTAINED = 0.6
"""Share of the roofline that a healthy server reaches."""
GUIDE_TOKENS = 256
LONG_PROMPT = 2048
"""Tokens of prompt from which its prefill alone may exceed the line for TTFT, which then is no measure."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is judged. ``passed`` is None where it cannot be: ``why`` says why."""

    name: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool | None
    source: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The test's verdict."""

    passed: bool
    lines: tuple[Line, ...]
    guide: tuple[Line, ...]
    """By the guide's own line."""
    guide_why: str
    """Why its line for the whole answer cannot be met where it was meant."""


def accept(
    summary: Summary, hardware: Hardware | None, why_unknown: str, streams: int, tokens: int, fewest: int
) -> Acceptance:
    """Judge a test of ``tokens`` a request with ``streams`` at a time; ``hardware`` is None where its roofline is not
    known, and then only what went wrong is judged. ``fewest`` requests are needed."""
    lines = [
        Line("requests", float(summary.requests), float(fewest), "", summary.requests >= fewest, "of the test"),
        Line("errors", float(summary.failed - summary.timed_out), 0.0, "", summary.failed == summary.timed_out, ""),
        Line("time-outs", float(summary.timed_out), 0.0, "", summary.timed_out == 0, ""),
    ]
    ttft, e2e = summary.ttft_ms, summary.e2e_ms
    ttft_p50 = ttft.p50 if ttft is not None else None
    e2e_p90 = e2e.p90 if e2e is not None else None
    prompt = _mean(summary.input_tokens, summary.ok)
    answer = min(float(tokens), _mean(summary.output_tokens, summary.ok) or float(tokens))
    if hardware is None:
        lines += [_open("TTFT p50", ttft_p50, why_unknown), _open("E2E p90", e2e_p90, why_unknown)]
    else:
        if prompt is not None and prompt >= LONG_PROMPT:
            lines.append(_open("TTFT p50", ttft_p50, f"{prompt:.0f} tokens of prompt: prefill alone may take longer"))
        else:
            lines.append(_line("TTFT p50", ttft_p50, TTFT_MS, "the guide's line"))
        lines.append(_e2e(e2e_p90, ttft_p50, prompt, answer, hardware, streams))
    guide = (
        _line("TTFT p50", ttft_p50, TTFT_MS, "the guide"),
        _line("E2E p90", e2e_p90, GUIDE_E2E_MS, "the guide"),
    )
    return Acceptance(all(line.passed is not False for line in lines), tuple(lines), guide, guide_why())


def _e2e(
    value: float | None, ttft: float | None, prompt: float | None, answer: float, hardware: Hardware, streams: int
) -> Line:
    held = streams * ((prompt or 0.0) + answer / 2)
    at_most = bound(hardware.shape, hardware.bandwidth, streams, held, hardware.copies) / streams
    # A long prompt's prefill is no fault of decoding: what TTFT took beyond its line is granted.
    begin = max(TTFT_MS, ttft or 0.0) if prompt is not None and prompt >= LONG_PROMPT else TTFT_MS
    limit = begin + answer / (ATTAINED * at_most) * 1000.0
    source = (
        f"{begin:.0f} ms + {answer:.0f} tokens at {ATTAINED * 100:.0f} % of the roofline, {at_most:.0f} tok/s a stream "
        f"({hardware.gpu}, {hardware.bandwidth / 1e9:.0f} GB/s)"
    )
    return _line("E2E p90", value, limit, source)


def guide_why() -> str:
    """Why the guide's 1.1 s cannot be met in bf16 on an RTX 4090 D."""
    per_s = bound(shape(preset_decoder("Qwen3-4B")), exactly("RTX 4090 D").bandwidth, 1, 0)
    return (
        f"a 4090D reads the bf16 weights at most {per_s:.0f} times a second, so {GUIDE_TOKENS} tokens take "
        f"{GUIDE_TOKENS / per_s:.2f} s or more, whatever else is done"
    )


def _line(name: str, value: float | None, limit: float, source: str) -> Line:
    if value is None:
        return Line(name, None, limit, "ms", None, source, "too few requests ended well")
    return Line(name, value, limit, "ms", value <= limit, source)


def _open(name: str, value: float | None, why: str) -> Line:
    return Line(name, value, None, "ms", None, "", why)


def _mean(total: int | None, n: int) -> float | None:
    return total / n if total is not None and n else None
