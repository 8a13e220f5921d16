"""What fits into a GPU's memory beside Qwen3-4B's weights, and how fast it can be at best. Pure arithmetic.

Source: the model's published configuration (``model.presets``) and vLLM's own sum, v1/worker/gpu_worker.py: KV cache =
memory × utilization − weights − the rest (CUDA context, activations, graphs). Measured on an H100: 58.64 GiB held
426 960 tokens, 147 471 B each.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtop.model.gpus import exactly
from qtop.model.model_config import BITS
from qtop.model.presets import preset_decoder

_MODEL = preset_decoder("Qwen3-4B-Instruct-2507")
PARAMETERS, EMBEDDED = _MODEL.parameters, _MODEL.unquantised
"""EMBEDDED: those of the embedding, which is the output layer too; it stays in bf16 when the rest is quantised."""
LAYERS, WIDE = _MODEL.layers, _MODEL.heads * _MODEL.head_dim
"""Layers, and query heads × their size."""
KV_TOKEN = _MODEL.kv_token(2)
"""Bytes of KV cache a token in bf16 or fp16; half of it in fp8."""
LONGEST = _MODEL.positions
"""Tokens that the model was made for."""
RESERVE_GIB = (1.0, 2.0)
"""CUDA context, activations and graphs of one GPU: assumed (1.0 was measured on an H100)."""


@dataclass(frozen=True, slots=True)
class Card:
    """GPUs that one copy of the model is spread over, together."""

    name: str
    total: float
    """Bytes that CUDA sees."""
    bandwidth: float | None
    """Bytes a second; None where it is not known."""
    flops: float | None
    """Dense bf16 operations a second, by the data sheet; None where it is not known."""
    count: int = 1
    real: bool = True
    """False: not here, but the guide's own."""


_GUIDES = exactly("RTX 4090 D")
GUIDES_CARD = Card(_GUIDES.name, _GUIDES.memory, _GUIDES.bandwidth, _GUIDES.bf16, real=False)
"""The guide's: 24 GB, of which CUDA sees 23.64 GiB."""


@dataclass(frozen=True, slots=True)
class Form:
    """How weights and cache are held, and the flags of vLLM for it."""

    name: str
    short: str
    """Weights/cache."""
    bits: float
    """Of the quantised weights, scales included."""
    kv_token: float
    flags: str
    checkpoint: str = ""
    """What has to be fetched for it, "" if nothing."""

    @property
    def weights(self) -> float:
        """Bytes."""
        return (PARAMETERS - EMBEDDED) * self.bits / 8 + EMBEDDED * 2.0


BF16 = Form("bf16 weights, bf16 cache", "bf16/bf16", 16, KV_TOKEN, "")
FP8 = Form("fp8 weights, bf16 cache", "fp8/bf16", 8, KV_TOKEN, "--quantization fp8")
FP8_FP8 = Form("fp8 weights, fp8 cache", "fp8/fp8", 8, KV_TOKEN / 2, "--quantization fp8 --kv-cache-dtype fp8")
INT4_FP8 = Form(
    "4-bit weights, fp8 cache",
    "4-bit/fp8",
    BITS["int4"],
    KV_TOKEN / 2,
    "--kv-cache-dtype fp8",
    "an AWQ or GPTQ checkpoint of the model",
)
FORMS = (BF16, FP8, FP8_FP8, INT4_FP8)
"""From the most exact to the smallest."""


def pool(card: Card, utilization: float, form: Form, reserve: float) -> float:
    """Bytes of KV cache, 0 where the rest leaves none. ``reserve``: bytes of context, activations and graphs."""
    return max(0.0, card.total * utilization - form.weights - reserve)


def footprint(form: Form, tokens: float, reserve: float) -> float:
    """Bytes in all for a cache of so many tokens."""
    return form.weights + tokens * form.kv_token + reserve


def decode_tok_s(bandwidth: float, form: Form, batch: float, context: float) -> float:
    """Most output tokens a second of ``batch`` sequences of ``context`` tokens each: a step reads all weights once and
    the cache of each."""
    return batch * bandwidth / (form.weights + batch * context * form.kv_token)


def batch_for(bandwidth: float, form: Form, tok_s: float, context: float) -> float | None:
    """Sequences at once from which memory allows ``tok_s``; None where no number of them does."""
    left = bandwidth - tok_s * context * form.kv_token
    return tok_s * form.weights / left if left > 0 else None


def prefill_flop(tokens: float) -> float:
    """Operations that reading a prompt takes at least: the layers, and attention of each token to those before it."""
    return 2.0 * (PARAMETERS - EMBEDDED) * tokens + 2.0 * LAYERS * WIDE * tokens * tokens


def prefill_s(card: Card, tokens: float) -> float | None:
    """Seconds that it takes at least; None where the card's speed is not known."""
    return None if card.flops is None else prefill_flop(tokens) / card.flops
