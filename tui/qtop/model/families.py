"""Families of decoders: what a model type has that its config.json does not say.

Sources: the configuration classes and modelling files of transformers and vLLM's model files. Of most a published
checkpoint's number of parameters is met to the last one (tests).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Family:
    """Of one model type."""

    qk_norm: bool = False
    """A norm of ``head_dim`` on queries and one on keys, in each layer."""
    qkv_bias: bool = False
    out_bias: bool = False
    norms: int = 2
    """Of ``hidden`` size a layer."""
    norm_bias: bool = False
    """Layer norms instead of RMS norms: two vectors each."""
    gated: bool = True
    """The MLP multiplies two projections: three matrices; else two."""
    mlp_bias: bool = False
    tied: bool = False
    """Whether embeddings are tied where the configuration is silent."""
    head_bias: bool = False
    embedding_norm: bool = False
    places: int | None = None
    """Rows of learned position embeddings beside the longest context; None: there are none."""
    sinks: bool = False
    """A learned value a head in each layer."""
    expert_bias: bool = False
    """Router and experts have biases."""
    routed_bias: bool = False
    """A correction a routed expert."""
    shared: bool = False
    """One expert that every token passes, of the others' size, where the configuration names none."""
    pattern: int = 0
    """Each so many layers one looks at all tokens, where the configuration has a window and no pattern."""


_BIASED = Family(qkv_bias=True, out_bias=True, norm_bias=True, gated=False, mlp_bias=True)
"""As GPT-2 was: layer norms, biases everywhere, an MLP without a gate."""
_TIED = replace(_BIASED, tied=True)


def _alike(family: Family, *kinds: str) -> dict[str, Family]:
    return dict.fromkeys(kinds, family)


FAMILIES = {
    **_alike(Family(), "llama", "mistral", "ministral", "ministral3", "mixtral", "phi3", "granite", "smollm3",
             "internlm2", "deepseek_v2"),
    **_alike(Family(qkv_bias=True), "qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl",
             "qwen2_5_vl_text", "glm"),
    **_alike(Family(qk_norm=True), "qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text"),
    **_alike(Family(routed_bias=True), "deepseek_v3", "kimi_k2", "glm4_moe"),
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True, pattern=2),
    "gemma3_text": Family(qk_norm=True, norms=4, tied=True, pattern=6),
    "glm4": Family(norms=4, qkv_bias=True),
    "llama4_text": Family(shared=True),
    "gpt_oss": Family(qkv_bias=True, out_bias=True, sinks=True, expert_bias=True),
    "cohere": Family(norms=1, tied=True),
    "stablelm": Family(norm_bias=True),
    "nemotron": Family(norm_bias=True, gated=False),
    "falcon": Family(norm_bias=True, gated=False, tied=True),
    "mpt": Family(gated=False, tied=True),
    "gpt_neox": _BIASED,
    "phi": replace(_BIASED, norms=1, head_bias=True),
    "starcoder2": _TIED,
    "bloom": replace(_TIED, embedding_norm=True),
    **_alike(replace(_TIED, places=0), "gpt2", "gpt_bigcode"),
    "opt": replace(_TIED, places=2),
}  # fmt: skip
