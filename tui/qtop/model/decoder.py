"""The shape of a decoder: what its config.json says, and what follows from it: parameters and KV cache. Pure.

Sources: as of ``families``, and vLLM's kv_cache_interface.py; the counts are checked against the totals that the
published checkpoints state (tests).
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec

from qtop.model.families import Family

BLOCK = 16
"""Tokens of a block of KV cache, where none is named."""


class Experts(msgspec.Struct, frozen=True):
    """The mixture of experts of those layers that have one."""

    total: int
    active: int
    """Chosen for each token."""
    intermediate: int
    layers: int
    """How many layers have experts; the others are dense."""
    shared: int = 0
    """Intermediate size of what every token passes beside them."""
    shared_gate: bool = False


class Latent(msgspec.Struct, frozen=True):
    """Multi-head latent attention: one compressed vector a token instead of keys and values."""

    q_rank: int
    """0: queries are not compressed."""
    kv_rank: int
    nope: int
    rope: int
    value: int


class Quantisation(msgspec.Struct, frozen=True):
    """How the checkpoint's linear layers are held."""

    method: str
    """"fp8", "awq", "gptq", "mxfp4", "compressed-tensors" …"""
    bits: float
    """A weight, scales included."""
    experts_only: bool = False
    """The rest is in the model's dtype."""


class Decoder(msgspec.Struct, frozen=True):
    """A decoder-only transformer."""

    kind: str
    """Its model_type."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    positions: int
    """Tokens that it was made for."""
    dtype_bytes: int = 2
    family: Family = Family()
    windows: tuple[int, ...] = ()
    """By layer the tokens that it looks back at, 0 for all of them; empty: all layers look at all."""
    experts: Experts | None = None
    latent: Latent | None = None
    quantisation: Quantisation | None = None
    notes: tuple[str, ...] = ()
    """What was not counted, or taken for granted."""

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocab * self.hidden

    @property
    def unquantised(self) -> int:
        """Parameters that stay in the model's dtype when the linear layers are quantised: embedding and output."""
        return self.embedding * (1 if self.tied else 2)

    @property
    def sliding(self) -> int:
        """Layers with a sliding window."""
        return sum(1 for window in self.windows if window)

    @property
    def full(self) -> int:
        """Layers that look at all tokens."""
        return self.layers - self.sliding

    def _attention(self) -> int:
        one = self.latent
        if one is not None:
            size = one.nope + one.rope
            queries = (
                self.hidden * one.q_rank + one.q_rank + one.q_rank * self.heads * size
                if one.q_rank
                else self.hidden * self.heads * size
            )
            keys = self.hidden * (one.kv_rank + one.rope) + one.kv_rank
            return (
                queries + keys + one.kv_rank * self.heads * (one.nope + one.value)
                + self.heads * one.value * self.hidden
            )  # fmt: skip
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        count = self.hidden * (wide + 2 * narrow) + wide * self.hidden
        count += (wide + 2 * narrow) if self.family.qkv_bias else 0
        count += self.hidden if self.family.out_bias else 0
        count += 2 * self.head_dim if self.family.qk_norm else 0
        return count + (self.heads if self.family.sinks else 0)

    def _mlp(self, intermediate: int) -> int:
        bias = intermediate + self.hidden if self.family.mlp_bias and intermediate else 0
        return (3 if self.family.gated else 2) * self.hidden * intermediate + bias

    def _expert(self) -> int:
        assert self.experts is not None
        bias = (2 * self.experts.intermediate + self.hidden) if self.family.expert_bias else 0
        return self._mlp(self.experts.intermediate) + bias

    def count(self, chosen: int) -> int:
        """Parameters with ``chosen`` experts of each layer."""
        family = self.family
        norm = self.hidden * (2 if family.norm_bias else 1)
        total = self.unquantised + norm * (2 if family.embedding_norm else 1)
        total += self.vocab if family.head_bias else 0
        total += (self.positions + family.places) * self.hidden if family.places is not None else 0
        total += self.layers * (self._attention() + family.norms * norm)
        one = self.experts
        dense = self.layers - (one.layers if one is not None else 0)
        total += dense * self._mlp(self.intermediate)
        if one is not None:
            router = self.hidden * one.total + (one.total if family.expert_bias or family.routed_bias else 0)
            gate = self.hidden if one.shared_gate else 0
            total += one.layers * (chosen * self._expert() + router + self._mlp(one.shared) + gate)
        return total

    @property
    def parameters(self) -> int:
        """All of them."""
        return _counted(self, self.experts.total if self.experts is not None else 0)

    @property
    def active(self) -> int:
        """Those that one token passes: all of a dense model."""
        return _counted(self, self.experts.active if self.experts is not None else 0)

    @property
    def in_experts(self) -> int:
        """Parameters in routed experts."""
        return self.experts.layers * self.experts.total * self._expert() if self.experts is not None else 0

    def touched(self, tokens: float) -> float:
        """Parameters that a step of ``tokens`` tokens reads at the mean: each chooses its experts, taken to be chosen
        evenly (real routing is less even, which reads fewer)."""
        if self.experts is None:
            return float(self.parameters)
        one = self.experts
        share = 1.0 - math.pow(1.0 - one.active / one.total, max(1.0, tokens))
        return self.parameters - self.in_experts * (1.0 - share)

    def read(self, tokens: float) -> float:
        """Parameters that such a step reads: an embedding that is not the output too gives only some rows."""
        return self.touched(tokens) - (0 if self.tied else self.embedding)

    def kv_layer(self, element: float, spread: int = 1) -> float:
        """Bytes of KV cache that one layer holds of one token on each of ``spread`` GPUs. A latent vector is held whole
        by each; of heads each holds its part, at least one."""
        if self.latent is not None:
            return (self.latent.kv_rank + self.latent.rope) * element
        return 2.0 * max(1, -(-self.kv_heads // spread)) * self.head_dim * element

    def kv_token(self, element: float, spread: int = 1) -> float:
        """The same for all layers, as long as no window is full."""
        return self.layers * self.kv_layer(element, spread)

    def kv_sequence(self, tokens: float, element: float, budget: int = 0, spread: int = 1, block: int = BLOCK) -> float:
        """Bytes that a sequence of so many tokens holds. A layer with a window keeps that, the tokens of one step and a
        block more (source: SlidingWindowSpec.max_memory_usage_bytes); layers that are missing to a group hold as much
        as others (``_grouped``)."""
        full, windowed = self._grouped()
        held = full * tokens
        for window, layers in windowed.items():
            kept = min(tokens, window - 1 + budget)
            held += layers * (math.ceil(kept / block) + 1) * block
        return held * self.kv_layer(element, spread)

    def _grouped(self) -> tuple[int, dict[int, int]]:
        """Layers that look at all, and those of each window, as vLLM makes up groups of one size of them: as large as
        the fewest of a kind, or as the most where those are less than half as many again (source:
        kv_cache_utils._get_kv_cache_groups_uniform_page_size)."""
        windowed: dict[int, int] = {}
        for window in self.windows:
            if window:
                windowed[window] = windowed.get(window, 0) + 1
        counts = [*windowed.values(), *([self.full] if self.full else [])]
        if len(counts) < 2:
            return self.full, windowed
        size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
        return -(-self.full // size) * size, {window: -(-one // size) * size for window, one in windowed.items()}

    def seen(self, tokens: float) -> float:
        """Token-layers that a new token's attention reads behind ``tokens`` others."""
        return self.full * tokens + sum(min(tokens, window) for window in self.windows if window)


@lru_cache(maxsize=256)
def _counted(one: Decoder, chosen: int) -> int:
    """A curve of speed asks the same for each of its points."""
    return one.count(chosen)
