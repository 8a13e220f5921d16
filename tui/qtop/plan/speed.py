"""How fast a plan decodes and reads prompts: a bound that physics sets, and what servers reach of it. Pure.

A decoding step reads the weights once and the cache of each sequence, and multiplies each weight once a sequence; it
takes at least the longer of the two. A prompt is arithmetic: two operations a weight and token, and attention of each
token to those before it (source: the guide's check; kernels of attention count two products a pair).
"""

from __future__ import annotations

import msgspec

from qtop.plan.serving import Card, Model, Serving, form_of, kv_element, read_bytes


class Span(msgspec.Struct, frozen=True):
    """What is expected, from low to high."""

    low: float
    high: float


class Decode(msgspec.Struct, frozen=True):
    """Decoding ``batch`` sequences of ``context`` tokens each; tokens a second of all of them."""

    batch: int
    context: int
    bound: float
    expected: Span
    limited_by: str
    """"memory" or "arithmetic"."""

    @property
    def each(self) -> Span:
        """Tokens a second of one sequence."""
        return Span(self.expected.low / self.batch, self.expected.high / self.batch)


class Prefill(msgspec.Struct, frozen=True):
    """Reading one prompt of ``tokens`` tokens, seconds."""

    tokens: int
    floor: float
    expected: Span


READING = (0.80, 0.95)
"""Share of the peak bandwidth at which kernels read. An H100 with Qwen3-4B fits 0.91 and 1.7 ms a step beside it, from
1 to 64 sequences and 1K to 32K of context (tests/data/starts): 36 layers at 48 µs. These are those with a margin."""
LAYER_S = (55e-6, 30e-6)
"""Seconds a layer beside that: kernels begin and end one after the other."""
STEP_S = (0.5e-3, 0.0)
"""Seconds a step: sampling, the scheduler."""
SEQUENCE_S = (25e-6, 0.0)
"""Seconds a sequence in each step."""
MULTIPLYING = (0.50, 0.85)
"""Share of the dense rate that reading a prompt reaches: 0.50 to 0.56 there for 8K to 32K, TTFT over all."""
PROMPT_S = (40e-3, 5e-3)
"""Seconds a prompt beside its arithmetic: HTTP, scheduling, the first token."""
TOKENIZED = (230e3, 1e6)
"""Tokens a second of the tokenizer: 230 to 570 thousand were measured on a weak CPU."""


def _rates(model: Model, gpu: Card, one: Serving) -> tuple[float, float] | None:
    """(operations a second of linear layers, of attention) of all GPUs; None where the card's are not known. Weights in
    fp8 are multiplied as such where the card can; other quantised ones are widened first."""
    if gpu.bf16 is None:
        return None
    linear = gpu.bf16
    if "fp8" in form_of(model, one.weights) and gpu.fp8 is not None:
        linear = gpu.fp8
    return linear * one.spread, gpu.bf16 * one.spread


def _pair_flop(model: Model) -> float:
    """Operations of attention for one token that looks at one other, in one layer."""
    shape = model.shape
    if shape.latent is not None:
        return 2.0 * shape.heads * (shape.latent.nope + shape.latent.rope + shape.latent.value)
    return 4.0 * shape.heads * shape.head_dim


def decode_step_s(model: Model, gpu: Card, one: Serving, batch: int, context: float) -> tuple[float, str]:
    """(seconds that a step takes at least, what sets it)."""
    shape = model.shape
    element = kv_element(model, one.kv)
    # What all GPUs read together; a latent vector or a head that is held several times is read several times.
    cache = batch * shape.seen(context) * shape.kv_layer(element, one.spread) * one.spread
    read = (read_bytes(model, one.weights, batch) + cache) / (gpu.bandwidth * one.spread)
    rates = _rates(model, gpu, one)
    if rates is None:
        return read, "memory"
    passed = shape.active - (0 if shape.tied else shape.embedding)
    flop_s = batch * (2.0 * passed / rates[0] + shape.seen(context) * _pair_flop(model) / rates[1])
    return (flop_s, "arithmetic") if flop_s > read else (read, "memory")


def decode(model: Model, gpu: Card, one: Serving, batch: int, context: int) -> Decode:
    """The bound, and between what two figures a server that nothing holds back is expected."""
    step, why = decode_step_s(model, gpu, one, batch, context)
    low, high = (
        batch / (step / READING[at] + model.shape.layers * LAYER_S[at] + STEP_S[at] + batch * SEQUENCE_S[at])
        for at in (0, 1)
    )
    return Decode(batch, context, batch / step, Span(low, high), why)


def prefill_flop(model: Model, tokens: float) -> tuple[float, float]:
    """(operations of linear layers, of attention) for a prompt. The output layer is passed by its last token only."""
    shape = model.shape
    linear = 2.0 * (shape.active - shape.unquantised) * tokens
    pairs = shape.full * tokens * tokens / 2
    for window in shape.windows:
        if window:
            near = min(tokens, window)
            pairs += near * tokens - near * near / 2
    return linear, pairs * _pair_flop(model)


def prefill(model: Model, gpu: Card, one: Serving, tokens: int) -> Prefill | None:
    """TTFT of one prompt on an idle server; None where the card's rate is not known."""
    rates = _rates(model, gpu, one)
    if rates is None:
        return None
    linear, attention = prefill_flop(model, tokens)
    floor = linear / rates[0] + attention / rates[1]
    if gpu.bandwidth > 0:  # reading the weights once is the least, however short the prompt
        floor = max(floor, read_bytes(model, one.weights, tokens) / (gpu.bandwidth * one.spread))
    high, low = (floor / MULTIPLYING[at] + PROMPT_S[at] + tokens / TOKENIZED[at] for at in (0, 1))
    return Prefill(tokens, floor, Span(low, high))
