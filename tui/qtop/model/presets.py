"""Models that are known by name: the configuration that their publishers give, and from where."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from qtop.model.decoder import Decoder, Quantisation
from qtop.model.model_config import decoder
from qtop.model.quantised import by_name


class Preset(msgspec.Struct, frozen=True):
    """A model."""

    name: str
    """As people write it; lower case it is what its served name holds."""
    config: dict[str, Any]
    source: str
    """Whose config.json it is."""
    published: int
    """Parameters that the publisher states, or that the checkpoint's index does."""

    @property
    def repository(self) -> str:
        """Its name on the hub: "Qwen/Qwen3-4B"."""
        return self.source.removeprefix("huggingface.co/").split(" ")[0]


def _qwen3(layers: int, hidden: int, inner: int, heads: int, kv: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen3", "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": 128, "vocab_size": 151_936,
        "max_position_embeddings": 40_960, "tie_word_embeddings": False, "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


def _moe(layers: int, hidden: int, inner: int, heads: int, each: int, **more: Any) -> dict[str, Any]:
    own = {"model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": each}
    return _qwen3(layers, hidden, inner, heads, 4, **own, **more)


def _llama(layers: int, hidden: int, inner: int, heads: int, vocab: int = 128_256, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama", "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": 8, "vocab_size": vocab,
        "max_position_embeddings": 131_072, "tie_word_embeddings": False, "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


_LONG = {"max_position_embeddings": 262_144}
_TIED = {"tie_word_embeddings": True}
_Q, _M = "huggingface.co/Qwen/", "huggingface.co/meta-llama/"
# fmt: off
PRESETS = (
    Preset("Qwen3-0.6B", _qwen3(28, 1024, 3072, 16, **_TIED), f"{_Q}Qwen3-0.6B", 596_049_920),
    Preset("Qwen3-1.7B", _qwen3(28, 2048, 6144, 16, **_TIED), f"{_Q}Qwen3-1.7B", 1_720_574_976),
    Preset("Qwen3-4B-Instruct-2507", _qwen3(36, 2560, 9728, 32, **_TIED, **_LONG), f"{_Q}Qwen3-4B-Instruct-2507",
           4_022_468_096),
    Preset("Qwen3-4B-Thinking-2507", _qwen3(36, 2560, 9728, 32, **_TIED, **_LONG), f"{_Q}Qwen3-4B-Thinking-2507",
           4_022_468_096),
    Preset("Qwen3-4B", _qwen3(36, 2560, 9728, 32, **_TIED), f"{_Q}Qwen3-4B", 4_022_468_096),
    Preset("Qwen3-8B", _qwen3(36, 4096, 12288, 32), f"{_Q}Qwen3-8B", 8_190_735_360),
    Preset("Qwen3-14B", _qwen3(40, 5120, 17408, 40), f"{_Q}Qwen3-14B", 14_768_307_200),
    Preset("Qwen3-32B", _qwen3(64, 5120, 25600, 64), f"{_Q}Qwen3-32B", 32_762_123_264),
    Preset("Qwen3-30B-A3B-Instruct-2507", _moe(48, 2048, 6144, 32, 768, **_LONG), f"{_Q}Qwen3-30B-A3B-Instruct-2507",
           30_532_122_624),
    Preset("Qwen3-30B-A3B-Thinking-2507", _moe(48, 2048, 6144, 32, 768, **_LONG), f"{_Q}Qwen3-30B-A3B-Thinking-2507",
           30_532_122_624),
    Preset("Qwen3-30B-A3B", _moe(48, 2048, 6144, 32, 768), f"{_Q}Qwen3-30B-A3B", 30_532_122_624),
    Preset("Qwen3-235B-A22B-Instruct-2507", _moe(94, 4096, 12288, 64, 1536, **_LONG),
           f"{_Q}Qwen3-235B-A22B-Instruct-2507", 235_093_634_560),
    Preset("Qwen3-235B-A22B-Thinking-2507", _moe(94, 4096, 12288, 64, 1536, **_LONG),
           f"{_Q}Qwen3-235B-A22B-Thinking-2507", 235_093_634_560),
    Preset("Qwen3-235B-A22B", _moe(94, 4096, 12288, 64, 1536), f"{_Q}Qwen3-235B-A22B", 235_093_634_560),
    Preset("Llama-3.1-8B", _llama(32, 4096, 14336, 32), f"{_M}Llama-3.1-8B", 8_030_261_248),
    Preset("Llama-3.1-70B", _llama(80, 8192, 28672, 64), f"{_M}Llama-3.1-70B", 70_553_706_496),
    Preset("Llama-3.3-70B", _llama(80, 8192, 28672, 64), f"{_M}Llama-3.3-70B-Instruct", 70_553_706_496),
    Preset("Llama-3.2-1B", _llama(16, 2048, 8192, 32, head_dim=64, **_TIED), f"{_M}Llama-3.2-1B", 1_235_814_400),
    Preset("Llama-3.2-3B", _llama(28, 3072, 8192, 24, head_dim=128, **_TIED), f"{_M}Llama-3.2-3B", 3_212_749_824),
    Preset("Mistral-7B", _llama(32, 4096, 14336, 32, 32_768, model_type="mistral", max_position_embeddings=32_768),
           "huggingface.co/mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
    Preset("Qwen2.5-7B", _llama(28, 3584, 18944, 28, 152_064, model_type="qwen2", num_key_value_heads=4,
                                max_position_embeddings=32_768), f"{_Q}Qwen2.5-7B-Instruct", 7_615_616_512),
    Preset("DeepSeek-V3", {
        "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "intermediate_size": 18432,
        "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129_280, "q_lora_rank": 1536,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3, "max_position_embeddings": 163_840, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"},
    }, "huggingface.co/deepseek-ai/DeepSeek-V3 (without its module for predicting several tokens)", 671_000_000_000),
    Preset("gpt-oss-20b", {
        "model_type": "gpt_oss", "num_hidden_layers": 24, "hidden_size": 2880, "intermediate_size": 2880,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201_088,
        "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": True,
        "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131_072,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"},
    }, "huggingface.co/openai/gpt-oss-20b", 20_914_757_184),
    Preset("gemma-3-1b", {
        "model_type": "gemma3_text", "num_hidden_layers": 26, "hidden_size": 1152, "intermediate_size": 6912,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262_144,
        "sliding_window": 512, "sliding_window_pattern": 6, "max_position_embeddings": 32_768,
        "torch_dtype": "bfloat16",
    }, "huggingface.co/google/gemma-3-1b-it", 999_885_952),
)
# fmt: on
"""The more special names before the more general."""


def preset(model: str) -> Preset | None:
    """The preset whose name a model's name holds, None where none does ("Qwen/Qwen3-4B-Instruct-2507-FP8")."""
    lowered = model.lower()
    return next((one for one in PRESETS if one.name.lower() in lowered), None)


_KIND = re.compile(r"instruct|it|chat|base|thinking|hf|dynamic|quantized|marlin|sym|block|v\d+(\.\d+)?|g\d+")
"""Words of a name that leave a model's shape as it is."""


class Meant(msgspec.Struct, frozen=True):
    """What a model's name says of it."""

    preset: Preset
    strange: tuple[str, ...]
    """Words that are neither the preset's nor known to leave its shape."""
    other: str
    """Such a word with a figure in it, "" for none: another release, whose context or shape may be another."""
    quantisation: Quantisation | None
    """How its name says that its weights are held."""


def meant(model: str) -> Meant | None:
    """The preset that a name holds, and what the rest of the name says; None where it holds none."""
    known = preset(model)
    if known is None:
        return None
    rest = model.rpartition("/")[2].lower().replace(known.name.lower(), "-")
    words = re.split(r"[-_]|\.(?=[a-z])", rest)
    strange = [word for word in words if word and not _KIND.fullmatch(word) and by_name(word) is None]
    other = next((word for word in strange if any(char.isdigit() for char in word)), "")
    return Meant(known, tuple(strange), other, by_name(rest))


@lru_cache(maxsize=64)
def preset_decoder(name: str) -> Decoder:
    """The shape of the preset of exactly this name. Errors: KeyError."""
    return decoder(_CONFIGS[name])


_CONFIGS = {one.name: one.config for one in PRESETS}
