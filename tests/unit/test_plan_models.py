"""Models and GPUs that the plan knows: counted against what their publishers state; configurations that it refuses."""

from __future__ import annotations

from typing import Any

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
    assert oss.kv_sequence(100, 2) == 100 * oss.kv_token(2)
    long = oss.kv_sequence(100_000, 2, budget=2048)
    assert 0.5 * oss.kv_token(2) * 100_000 < long < 0.52 * oss.kv_token(2) * 100_000
    assert oss.seen(100_000) == 12 * 100_000 + 12 * 128
    assert preset_decoder("gemma-3-1b").full == 4


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
