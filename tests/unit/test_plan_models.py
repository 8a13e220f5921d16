"""Models and GPUs that the plan knows: counted against what their publishers state; configurations that it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qtop.errors import QtopError
from qtop.model.decoder import Decoder, Quantisation
from qtop.model.gpus import GPUS, exactly, named
from qtop.model.model_config import BITS, decoder
from qtop.model.presets import PRESETS, Preset, meant, preset, preset_decoder
from qtop.model.quantised import by_name, by_setting, marked
from qtop.model.roofline import bound, shape, shape_of

QWEN = dict(PRESETS[2].config)


@pytest.mark.parametrize("name", [one.name for one in PRESETS])
def test_parameters_are_those_published(name: str) -> None:
    one = next(one for one in PRESETS if one.name == name)
    counted = preset_decoder(name).parameters
    exact = one.published % 1_000_000 != 0
    assert counted == one.published if exact else abs(counted / one.published - 1) < 0.001


PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "gemma-7b": (8_537_680_896, {"model_type": "gemma", "hidden_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576,
        "vocab_size": 256000}),
    "gemma-2-9b": (9_241_705_984, {"model_type": "gemma2", "hidden_size": 3584, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "intermediate_size": 14336,
        "vocab_size": 256000, "sliding_window": 4096}),
    "falcon-7b": (6_921_720_704, {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
        "num_attention_heads": 71, "num_kv_heads": 71, "multi_query": True, "new_decoder_architecture": False,
        "parallel_attn": True, "vocab_size": 65024}),
    "falcon-40b": (41_303_293_952, {"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60,
        "num_attention_heads": 128, "num_kv_heads": 8, "multi_query": True, "new_decoder_architecture": True,
        "parallel_attn": True, "vocab_size": 65024}),
    "mpt-7b": (6_649_286_656, {"model_type": "mpt", "d_model": 4096, "n_layers": 32, "n_heads": 32,
        "expansion_ratio": 4, "max_seq_len": 2048, "vocab_size": 50432}),
    "gpt2": (124_439_808, {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
        "vocab_size": 50257}),
    "opt-1.3b": (1_315_758_080, {"model_type": "opt", "hidden_size": 2048, "num_hidden_layers": 24,
        "num_attention_heads": 32, "ffn_dim": 8192, "max_position_embeddings": 2048, "vocab_size": 50272}),
    "bloom-7b1": (7_069_016_064, {"model_type": "bloom", "hidden_size": 4096, "n_layer": 30, "n_head": 32,
        "vocab_size": 250880}),
    "gpt-neox-20b": (20_554_567_680, {"model_type": "gpt_neox", "hidden_size": 6144, "num_hidden_layers": 44,
        "num_attention_heads": 64, "intermediate_size": 24576, "vocab_size": 50432, "tie_word_embeddings": False}),
    "phi-2": (2_779_683_840, {"model_type": "phi", "hidden_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 32, "intermediate_size": 10240, "vocab_size": 51200, "tie_word_embeddings": False}),
    "starcoder2-3b": (3_030_371_328, {"model_type": "starcoder2", "hidden_size": 3072, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 2, "intermediate_size": 12288, "vocab_size": 49152,
        "sliding_window": 4096}),
    "command-r": (34_980_831_232, {"model_type": "cohere", "hidden_size": 8192, "num_hidden_layers": 40,
        "num_attention_heads": 64, "num_key_value_heads": 64, "intermediate_size": 22528, "vocab_size": 256000,
        "use_qk_norm": False}),
    "stablelm-2-1.6b": (1_644_515_328, {"model_type": "stablelm", "hidden_size": 2048, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 5632, "vocab_size": 100352,
        "use_qkv_bias": True, "tie_word_embeddings": False}),
    "internlm2-7b": (7_737_708_544, {"model_type": "internlm2", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 92544,
        "tie_word_embeddings": False}),
    "minitron-4b": (4_190_509_056, {"model_type": "nemotron", "hidden_size": 3072, "num_hidden_layers": 32,
        "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216,
        "vocab_size": 256000, "tie_word_embeddings": False}),
    "glm-4-9b-0414": (9_400_279_040, {"model_type": "glm4", "hidden_size": 4096, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 13696,
        "vocab_size": 151552, "attention_bias": True, "tie_word_embeddings": False}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_configuration_has_the_parameters_of_its_published_checkpoint(name: str) -> None:
    published, config = PUBLISHED[name]
    found = decoder(config)
    assert found.parameters == published
    assert not any("not known" in note for note in found.notes)


def test_what_old_families_hold_of_a_token() -> None:
    def held(name: str) -> float:
        return decoder(PUBLISHED[name][1]).kv_token(2)

    assert held("falcon-7b") == 32 * 2 * 64 * 2, "one head for all"
    assert held("falcon-40b") == 60 * 2 * 8 * 64 * 2
    assert held("gpt2") == 12 * 2 * 768 * 2
    gemma = decoder(PUBLISHED["gemma-2-9b"][1])
    assert (gemma.sliding, gemma.full) == (21, 21)


def test_a_mixture_with_an_expert_for_all_and_pictures_that_are_not_counted() -> None:
    scout = decoder({"model_type": "llama4", "vision_config": {}, "text_config": {
        "model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "vocab_size": 202048,
        "attention_chunk_size": 8192}})  # fmt: skip
    assert scout.parameters == pytest.approx(107.8e9, rel=0.001) and scout.active == pytest.approx(17.2e9, rel=0.005)
    assert any("pictures" in one for one in scout.notes) and any("chunks" in one for one in scout.notes)


def test_active_parameters_and_what_a_step_touches() -> None:
    moe = preset_decoder("Qwen3-30B-A3B")
    assert moe.active == pytest.approx(3.3e9, rel=0.02)
    assert moe.touched(1) == pytest.approx(moe.active)
    assert moe.active < moe.touched(8) < moe.touched(64) < moe.parameters
    assert preset_decoder("Qwen3-235B-A22B").active == pytest.approx(22e9, rel=0.01)
    assert preset_decoder("DeepSeek-V3").active == pytest.approx(37e9, rel=0.02)
    dense = preset_decoder("Qwen3-8B")
    assert dense.touched(1) == dense.parameters and dense.read(1) == dense.parameters - 151_936 * 4096


def test_the_cache_of_a_token() -> None:
    assert preset_decoder("Qwen3-4B").kv_token(2) == 147_456  # 147 471 measured on an H100, blocks rounded
    assert preset_decoder("Qwen3-4B").kv_token(1) == 73_728
    assert preset_decoder("DeepSeek-V3").kv_token(2) == 61 * 576 * 2
    assert preset_decoder("DeepSeek-V3").kv_token(2, 8) == 61 * 576 * 2, "a latent vector is held by each GPU"
    assert preset_decoder("Qwen3-4B").kv_token(2, 2) == 147_456 / 2
    assert preset_decoder("Qwen3-30B-A3B").kv_token(2, 8) == 98_304 / 4, "of four heads each GPU holds one"


def test_a_window_bounds_what_is_held_and_read() -> None:
    oss = preset_decoder("gpt-oss-20b")
    assert (oss.full, oss.sliding) == (12, 12)
    each = oss.kv_layer(2)
    assert oss.kv_sequence(96, 2) == (12 * 96 + 12 * (96 + 16)) * each, "a window holds a block more"
    long = oss.kv_sequence(100_000, 2, budget=2048)
    assert 0.5 * oss.kv_token(2) * 100_000 < long < 0.52 * oss.kv_token(2) * 100_000
    assert oss.seen(100_000) == 12 * 100_000 + 12 * 128
    assert preset_decoder("gemma-3-1b").full == 4


def test_layers_that_are_missing_to_a_group_are_held_too() -> None:
    """34 layers of Gemma 3 4B, five of them full: six groups of five of the others, one of them with a stand-in."""
    windows = tuple(0 if (at + 1) % 6 == 0 else 1024 for at in range(34))
    one = msgspec.structs.replace(preset_decoder("gemma-3-1b"), layers=34, windows=windows)
    held = one.kv_sequence(65_536, 2, budget=8192) / one.kv_layer(2)
    assert held == 5 * 65_536 + 30 * (9216 + 16)
    even = msgspec.structs.replace(one, layers=25, windows=(0,) * 13 + (1024,) * 12)
    assert even.kv_sequence(65_536, 2, budget=8192) / one.kv_layer(2) == 13 * 65_536 + 13 * (9216 + 16)


def test_a_name_means_the_most_special_preset() -> None:
    def found(name: str) -> str:
        one = preset(name)
        assert one is not None
        return one.name

    assert found("Qwen/Qwen3-4B-Instruct-2507-FP8") == "Qwen3-4B-Instruct-2507"
    assert found("Qwen/Qwen3-4B") == "Qwen3-4B"
    assert found("/models/meta-llama/Llama-3.1-8B-Instruct") == "Llama-3.1-8B"
    assert preset("my/own-model") is None


def test_the_roofline_knows_every_plain_preset() -> None:
    found = shape_of("Qwen/Qwen3-8B")
    assert found is not None and found == shape(preset_decoder("Qwen3-8B"))
    assert found.resident == 2 * 8_190_735_360 and found.weights < found.resident
    assert shape_of("openai/gpt-oss-20b") is None, "its cache a token is not one figure"
    small, large = shape(preset_decoder("Qwen3-4B")), shape(preset_decoder("Qwen3-32B"))
    assert bound(small, 1e12, 1, 0) > bound(large, 1e12, 1, 0)
    assert bound(small, 1.008e12, 1, 0) == pytest.approx(125.3, abs=0.1)


def without(key: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in QWEN.items() if name != key} | more


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], "no JSON object"),
        (without("num_hidden_layers"), "num_hidden_layers is missing"),
        (without("", num_hidden_layers=0), "num_hidden_layers is 0"),
        (without("", hidden_size=-5), "hidden_size is no whole number"),
        (without("", hidden_size="wide"), "hidden_size is no whole number"),
        (without("", num_key_value_heads=5), "no multiple"),
        (without("vocab_size"), "vocab_size is missing"),
        (without("", model_type="mamba2"), "state of another kind"),
        (without("", layer_types=["linear_attention", "full_attention"]), "state of another kind"),
        (without("", model_type="bert"), "no decoder"),
        (without("", architectures=["BertForMaskedLM"]), "no decoder"),
        (without("", num_experts=8), "num_experts_per_tok"),
        ({}, "num_hidden_layers is missing"),
    ],
)
def test_what_cannot_be_planned_says_why_in_one_line(config: Any, said: str) -> None:
    with pytest.raises(QtopError, match=said) as caught:
        decoder(config)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_an_unknown_type_of_plain_shape_is_counted_and_says_so() -> None:
    one = decoder(without("", model_type="newcomer"))
    assert "newcomer" in one.notes[0] and one.parameters == 4_022_468_096 - 36 * 2 * 128


def held(**config: Any) -> Decoder:
    return decoder(without("", quantization_config=config))


def test_how_a_checkpoint_is_quantised() -> None:
    awq = held(quant_method="awq", bits=4, group_size=128).quantisation
    assert awq is not None and awq.bits == pytest.approx(4.156, abs=0.001)
    fp8 = held(quant_method="fp8").quantisation
    assert fp8 is not None and fp8.bits == 8
    packed = held(
        quant_method="compressed-tensors", config_groups={"group_0": {"weights": {"num_bits": 4, "group_size": 128}}}
    ).quantisation
    assert packed is not None and packed.bits == pytest.approx(4.125)
    oss = preset_decoder("gpt-oss-20b").quantisation
    assert oss is not None and oss.experts_only


def test_a_model_of_several_senses_is_planned_by_its_text() -> None:
    one = decoder({"model_type": "gemma3", "text_config": QWEN | {"model_type": "gemma3_text"}, "vision_config": {}})
    assert one.layers == 36 and "not counted" in one.notes[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("4090d", "RTX 4090 D"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000"),
        ("h200", "H200"),
    ],
)
def test_gpus_are_found_by_the_names_that_they_have(text: str, name: str) -> None:
    found = named(text)
    assert found is not None and found.name == name


def test_every_gpu_finds_itself_and_strangers_are_none() -> None:
    assert all(named(one.name) is one for one in GPUS)
    assert named("Voodoo 2") is None and named("NVIDIA A1000") is None
    assert exactly("RTX 4090 D").bandwidth == exactly("RTX 4090").bandwidth == 1.008e12


@pytest.mark.parametrize(
    ("name", "method", "bits"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507-FP8", "fp8", "fp8"),
        ("RedHatAI/Qwen3-4B-FP8-dynamic", "fp8", "fp8"),
        ("Llama-3.1-8B-Instruct-quantized.w8a8-fp8", "fp8", "fp8"),
        ("Qwen3-4B-AWQ", "awq", "int4"),
        ("Qwen3-4B-AWQ-4bit", "awq", "int4"),
        ("Qwen3-4B-GPTQ-Int4", "gptq", "int4"),
        ("Qwen3-4B-GPTQ-Int8", "gptq", "int8"),
        ("Llama-3.1-8B-Instruct-quantized.w4a16", "awq", "int4"),
        ("Llama-3.1-8B-Instruct-W8A8", "compressed-tensors", "int8"),
        ("Qwen3-8B-NVFP4", "nvfp4", "nvfp4"),
        ("Qwen3-8B-MXFP4", "mxfp4", "mxfp4"),
        ("Qwen3-8B-bnb-4bit", "bitsandbytes", "int4"),
        ("Qwen3-8B-bnb-8bit", "bitsandbytes", "int8"),
        ("qwen3-4b-Q4_K_M", "", ""),
        ("Qwen3-4B-IQ3_XS.gguf", "", ""),
    ],
)
def test_a_name_that_says_how_weights_are_held(name: str, method: str, bits: str) -> None:
    """In all places alike: no roofline in bf16, the form of a plan, the doubt of a rule."""
    assert marked(name)
    found = by_name(name)
    assert found == (Quantisation(method, BITS[bits]) if method else None)
    known = meant(name)
    assert known is not None and known.quantisation == found


@pytest.mark.parametrize("plain", PRESETS, ids=lambda one: one.name)
def test_a_plain_name_says_nothing_of_it(plain: Preset) -> None:
    assert not marked(plain.name) and by_name(plain.repository) is None
    assert not marked("models--Qwen--Qwen3-4B-Instruct-2507/snapshots/cdbee75f17c01a7cc42f958dc650907174af0554")


def test_a_setting_that_says_so() -> None:
    assert [value for value in ("", "none", "AUTO", "off", "fp8", "awq_marlin") if by_setting(value)] == [
        "fp8", "awq_marlin"
    ]  # fmt: skip
