"""The decode bound: what memory bandwidth allows, for models whose shape is known.

step ≥ (W + B·c·kv)/BW; tokens/s ≤ B/step. Weights and KV bytes a token are those of the published configuration
(36 layers, 8 KV heads of 128, bf16: 147 456 B a token; 4 022 468 096 parameters). Bandwidth = 2·clock·bus/8.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Bytes of weights read a step and bytes of KV cache a token."""

    weights: float
    kv_token: float


SHAPES = {"qwen3-4b": Shape(weights=2 * 4_022_468_096, kv_token=147_456)}
"""By a part of the model's name, lower case."""

BANDWIDTH = {
    "H100 PCIe": 2.0e12,
    "H100": 3.35e12,
    "H200": 4.8e12,
    "RTX 4090": 1.008e12,
}
"""Peak bytes a second by a part of the GPU's name, the more special first (source: vendor data sheets)."""


def shape_of(model: str) -> Shape | None:
    """The shape of a model by its name, None if it is not known."""
    lowered = model.lower()
    return next((shape for part, shape in SHAPES.items() if part in lowered), None)


def bandwidth_of(gpu: str) -> float | None:
    """Peak memory bandwidth of a GPU by its name, bytes a second; None if it is not known."""
    return next((peak for part, peak in BANDWIDTH.items() if part in gpu), None)


def bound(shape: Shape, bandwidth: float, batch: float, context_tokens: float) -> float:
    """Upper bound in tokens a second for ``batch`` sequences that hold ``context_tokens`` tokens together."""
    return batch * bandwidth / (shape.weights + context_tokens * shape.kv_token)
