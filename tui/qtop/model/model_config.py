"""A model's config.json, read as a ``Decoder``; what cannot be reckoned with says so in one line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qtop.errors import QtopError
from qtop.model.decoder import Decoder, Experts, Latent, Quantisation
from qtop.model.families import FAMILIES, Family

BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.0 + (16 + 4) / 128, "mxfp4": 4.0 + 8 / 32, "nvfp4": 4.5}
"""Of a quantised weight with its scales: int4 in groups of 128 (an fp16 scale and a 4-bit zero point), mxfp4 and nvfp4
with a byte of scale for each 32 and 16."""
_OTHER = (
    "mamba", "rwkv", "jamba", "bamba", "falcon_h1", "nemotron_h", "qwen3_next", "qwen3_5", "zamba", "lfm2", "minimax",
    "recurrent_gemma", "plamo2", "kimi_linear", "granitemoehybrid",
)  # fmt: skip
_OTHER_KEYS = (
    "ssm_cfg", "mamba_d_state", "attn_layer_period", "layers_block_type", "hybrid_override_pattern",
    "linear_num_value_heads", "conv_L_cache",
)  # fmt: skip
_ENCODERS = ("bert", "t5", "bart", "whisper", "vit", "clip", "xlm", "electra", "marian", "pegasus")
_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}
_SANE = 1 << 40
_STATE_SPACE = "holds state of another kind than a KV cache"


def decoder(config: Any) -> Decoder:
    """The shape that a config.json describes. Errors: QtopError with one line for what is missing or not known."""
    if not isinstance(config, Mapping):
        raise QtopError("the model's config.json is no JSON object")
    notes: list[str] = []
    whole = config
    if isinstance(config.get("text_config"), Mapping):
        config = {**config["text_config"]}
        config.setdefault("quantization_config", whole.get("quantization_config"))
        config.setdefault("torch_dtype", whole.get("torch_dtype") or whole.get("dtype"))
    if "vision_config" in whole or "audio_config" in whole:
        notes.append("the encoder of pictures or sound is not counted, nor what its inputs hold")
    kind = str(config.get("model_type") or whole.get("model_type") or "")
    _reject(kind, config, whole)
    layers = _whole(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = _whole(config, "hidden_size", "n_embd", "d_model")
    heads = _whole(config, "num_attention_heads", "n_head", "n_heads")
    vocab = _whole(config, "vocab_size")
    kv_heads = _kv_heads(config, heads)
    head_dim = _maybe(config, "head_dim") or hidden // heads
    if heads % kv_heads:
        raise QtopError(f"config.json: {heads} heads are no multiple of {kv_heads} KV heads")
    if not head_dim:
        raise QtopError(f"config.json: {heads} heads are more than its hidden size of {hidden}")
    family = FAMILIES.get(kind)
    if family is None:
        notes.append(f"model type {kind or '(none)'} is not known here: counted as a plain decoder of its shape")
        family = Family()
    if config.get("attention_chunk_size") is not None:
        notes.append("its attention in chunks is counted as attention to all tokens: its cache may hold more")
    family = _told(family, config)
    experts = _experts(config, layers, family)
    intermediate = _maybe(config, "intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner")
    intermediate = intermediate or (0 if experts else (_maybe(config, "expansion_ratio") or 4) * hidden)
    tied = config.get("tie_word_embeddings", whole.get("tie_word_embeddings"))
    positions = _maybe(config, "max_position_embeddings", "n_positions", "max_seq_len")
    if not positions:
        notes.append("its config.json tells no longest context: 4096 is taken")
    return Decoder(
        kind=kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=vocab,
        tied=family.tied if tied is None else bool(tied),
        positions=positions or 4096,
        dtype_bytes=_BYTES.get(str(config.get("torch_dtype") or config.get("dtype") or "bfloat16"), 2),
        family=family,
        windows=_windows(config, layers, family.pattern),
        experts=experts,
        latent=_latent(config),
        quantisation=_quantisation(config.get("quantization_config")),
        notes=tuple(notes),
    )


def _reject(kind: str, config: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Raise for what is no decoder with a KV cache in each layer."""
    if any(part in kind.lower() for part in _OTHER) or any(config.get(key) is not None for key in _OTHER_KEYS):
        raise QtopError(
            f"model type {kind or '?'} {_STATE_SPACE}: qtop plans transformers with attention in each layer"
        )
    layer_types = config.get("layer_types")
    if isinstance(layer_types, list) and any(
        "attention" not in str(one) or "linear" in str(one) for one in layer_types
    ):
        raise QtopError(
            f"model type {kind or '?'} {_STATE_SPACE}: qtop plans transformers with attention in each layer"
        )
    encoder = whole.get("is_encoder_decoder") or any(kind.lower().startswith(one) for one in _ENCODERS)
    named = whole.get("architectures")
    told = [str(one) for one in named] if isinstance(named, list) else []
    if encoder or (told and not any("ForCausalLM" in one or "ForConditional" in one for one in told)):
        raise QtopError(f"model type {kind or '?'} is no decoder that generates text: qtop plans those only")


def _number(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or not 0 <= value < _SANE:
        raise QtopError(f"config.json: {key} is no whole number from 0 up: {str(value)[:40]}")
    return int(value)


def _maybe(config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if config.get(key) is not None:
            return _number(config[key], key)
    return 0


def _whole(config: Mapping[str, Any], *keys: str) -> int:
    found = _maybe(config, *keys)
    if found <= 0:
        told = "is 0" if any(config.get(key) is not None for key in keys) else "is missing"
        raise QtopError(f"config.json: {keys[0]} {told}: without it nothing can be planned")
    return found


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    """Falcon names all of its heads beside ``multi_query``, which holds where it is of the old kind."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    inner = config.get("attn_config")  # MPT
    nested = _maybe(inner, "kv_n_heads") if isinstance(inner, Mapping) else 0
    return _maybe(config, "num_key_value_heads", "num_kv_heads") or nested or heads


def _told(family: Family, config: Mapping[str, Any]) -> Family:
    """With what the configuration says itself."""
    bias = config.get("attention_bias")
    if isinstance(bias, bool) and not (family.qkv_bias and bias):
        family = replace(family, qkv_bias=bias, out_bias=bias)
    for key, value in (("use_qkv_bias", "qkv_bias"), ("use_qk_norm", "qk_norm"), ("mlp_bias", "mlp_bias")):
        if isinstance(config.get(key), bool):
            family = replace(family, **{value: config[key]})
    if config.get("parallel_attn") is True and not config.get("new_decoder_architecture"):
        family = replace(family, norms=1)  # Falcon of the old kind
    return family


def _windows(config: Mapping[str, Any], layers: int, usual: int) -> tuple[int, ...]:
    """The window of each layer; empty where none has any. ``usual``: the family's pattern."""
    window = config.get("sliding_window")
    if window is None or config.get("use_sliding_window") is False:
        return ()
    size = _number(window, "sliding_window")
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        found = tuple(size if "sliding" in str(one) or "local" in str(one) else 0 for one in kinds[:layers])
        found += (0,) * (layers - len(found))
    elif pattern := _maybe(config, "sliding_window_pattern", "_sliding_window_pattern") or usual:
        found = tuple(0 if (at + 1) % pattern == 0 else size for at in range(layers))
    else:
        found = (size,) * layers
    return found if any(found) else ()


def _experts(config: Mapping[str, Any], layers: int, family: Family) -> Experts | None:
    total = _maybe(config, "num_experts", "num_local_experts", "n_routed_experts")
    if total <= 1:
        return None
    active = _maybe(config, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "experts_per_token")
    if not 0 < active <= total:
        raise QtopError(f"config.json: {active} of {total} experts a token: num_experts_per_tok is missing or wrong")
    each = _maybe(config, "moe_intermediate_size", "intermediate_size")
    dense = _maybe(config, "first_k_dense_replace")
    only = config.get("mlp_only_layers")
    dense = max(dense, len(only) if isinstance(only, list) else 0)
    step = max(1, _maybe(config, "decoder_sparse_step", "interleave_moe_layer_step"))
    own = _maybe(config, "shared_expert_intermediate_size")
    return Experts(
        total=total,
        active=active,
        intermediate=each,
        layers=max(0, layers - dense) // step,
        shared=own or (_maybe(config, "n_shared_experts") or int(family.shared)) * each,
        shared_gate=own > 0,
    )


def _latent(config: Mapping[str, Any]) -> Latent | None:
    rank = _maybe(config, "kv_lora_rank")
    if not rank:
        return None
    return Latent(
        q_rank=_maybe(config, "q_lora_rank"),
        kv_rank=rank,
        nope=_whole(config, "qk_nope_head_dim"),
        rope=_whole(config, "qk_rope_head_dim"),
        value=_whole(config, "v_head_dim"),
    )


def _quantisation(config: Any) -> Quantisation | None:
    if not isinstance(config, Mapping):
        return None
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    if method == "mxfp4":
        return Quantisation(method, BITS["mxfp4"], experts_only=True)
    if method in ("awq", "gptq", "awq_marlin", "gptq_marlin"):
        bits = _maybe(config, "bits", "w_bit") or 4
        group = config.get("group_size", config.get("q_group_size", 128))
        size = group if isinstance(group, int) and group > 0 else 1 << 16
        return Quantisation(method, bits + (16 + bits) / size)
    if method == "compressed-tensors":
        groups = config.get("config_groups")
        first: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
        weights = first.get("weights") if isinstance(first, Mapping) else None
        held = weights if isinstance(weights, Mapping) else {}
        bits = _maybe(held, "num_bits") or 8
        size = _maybe(held, "group_size")
        return Quantisation(method, bits + (16 / size if size else 0.0))
    if method == "bitsandbytes":
        return Quantisation(method, 4.5 if config.get("load_in_4bit") else 8.0)
    if "fp4" in method:
        return Quantisation(method, BITS["nvfp4"])
    if "fp8" in method or method in ("fbgemm_fp8", "modelopt"):
        return Quantisation(method, BITS["fp8"])
    return Quantisation(method or "unknown", BITS["fp8"])
