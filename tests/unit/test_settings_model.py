"""The settings in force: who outweighs whom, what a version takes by default, and when that may be claimed."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.build import T0
from tests.fakes.behaved import capture
from tests.fakes.stub_source import Machine

from qtop.collect.config_in_force import command_line
from qtop.collect.config_in_force.server_info import understood
from qtop.collect.engine.exposition import parse
from qtop.model.derive import Deriver
from qtop.model.settings import CONFIG_INFO, SettingsView, in_force, with_cap
from qtop.model.vllm_defaults import (
    DEFAULTS,
    GIB,
    NEWEST,
    Gpu,
    Version,
    batch,
    defaults,
    described,
    retired,
    version_of,
)
from qtop.sample import NOT_RECORDED, Absent, EngineSample, Sample, ServerInfo, Setting, Why
from qtop.sample.settings import (
    COMMAND_LINE,
    CONFIG_FILE,
    ENVIRONMENT,
    METRICS,
    MODELS,
)

H100 = Gpu(81_559 << 20, "NVIDIA H100 80GB HBM3")
RTX4090 = Gpu(24_564 << 20, "NVIDIA GeForce RTX 4090")
A100 = Gpu(80 * GIB, "NVIDIA A100-SXM4-80GB")
B200 = Gpu(180 * GIB, "NVIDIA B200")
CPU = Gpu(0, "cpu")


def config_info(name: str) -> str:
    series = parse(capture(name).decode(), ("vllm:",))
    return next(key for key in series if key.startswith(CONFIG_INFO))


def server(words: str = "", *more: Setting, version: str = "0.25.1", **fields: object) -> ServerInfo:
    argv = ("/opt/venv/bin/python", "/opt/venv/bin/vllm", "serve", "/models/q", *words.split())
    info = ServerInfo(
        url="http://127.0.0.1:8000",
        engine="vllm",
        version=version,
        pid=1,
        max_running=Absent(Why.UNSUPPORTED, "not told"),
        argv=argv,
        settings=(*command_line.settings(argv, "vllm"), *more),
    )
    return msgspec.structs.replace(info, **fields)


def view(info: ServerInfo, config: str = "", *gpus: Gpu) -> SettingsView:
    found = in_force(info, config, gpus)
    assert isinstance(found, SettingsView)
    return found


def one(settings: SettingsView, name: str) -> Setting:
    found = settings.get(name)
    assert found is not None, name
    return found


# ---- what outweighs what


def test_the_command_line_outweighs_the_file_and_says_so() -> None:
    settings = view(server("--max-num-seqs 64", Setting("max_num_seqs", "32", CONFIG_FILE)), "", H100)
    assert one(settings, "max_num_seqs") == Setting(
        "max_num_seqs", "64", COMMAND_LINE, "config file says 32; default 1024"
    )


def test_what_runs_outweighs_what_was_asked_for() -> None:
    settings = view(server("--block-size 16 --gpu-memory-utilization 0.5"), config_info("vllm-0.25.1-h100.metrics.txt"))
    assert one(settings, "gpu_memory_utilization") == Setting(
        "gpu_memory_utilization", "0.85", METRICS, "command line says 0.5; default 0.92"
    )
    size = one(settings, "block_size")
    assert (size.value, size.source) == ("16", COMMAND_LINE)
    assert "confirmed by /metrics" in size.note


def test_a_default_that_runs_is_told_as_the_default() -> None:
    settings = view(server(), config_info("vllm-0.32-cpu.metrics.txt"))
    caching = one(settings, "enable_prefix_caching")
    assert (caching.value, caching.source) == ("on", "default of vLLM 0.25")
    assert caching.note == "for models that support it; confirmed by /metrics"
    size = one(settings, "block_size")  # the CPU's attention takes 128
    assert (size.value, size.source, size.note) == ("128", METRICS, "default 16")


def test_numbers_and_words_are_compared_by_what_they_mean() -> None:
    line = Setting("max_num_batched_tokens", "8192", CONFIG_FILE)
    settings = view(server("--max-num-batched-tokens 8K", line, Setting("quantization", "None", CONFIG_FILE)))
    assert "says" not in one(settings, "max_num_batched_tokens").note
    assert one(settings, "quantization").value == "none"
    assert settings.number("max_num_batched_tokens") == 8192


def test_the_length_in_force_is_that_of_the_model_list() -> None:
    settings = view(server("--max-model-len auto", max_model_len=5024))
    assert one(settings, "max_model_len") == Setting("max_model_len", "5024", MODELS, "command line says auto")


def test_capacity_of_older_versions_is_blocks_times_their_size() -> None:
    settings = view(server(), CONFIG_INFO + 'block_size="16",num_gpu_blocks="100",cache_dtype="auto"}')
    assert one(settings, "kv_cache_size_tokens").value == "1600"


def test_server_info_as_captured_agrees_with_the_defaults_of_its_version() -> None:
    told = understood(json.loads(capture("vllm.server_info.json")))
    assert not isinstance(told, Absent)
    cpu = Setting("VLLM_CPU_KVCACHE_SPACE", "1", ENVIRONMENT)
    settings = view(server("--enforce-eager", *told, cpu, version="0.32.0"), config_info("vllm-0.32-cpu.metrics.txt"))
    default = described((0, 32, 0))
    for name in (
        "max_num_seqs",
        "max_num_batched_tokens",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "scheduling_policy",
        "stream_interval",
        "long_prefill_token_threshold",
        "performance_mode",
        "optimization_level",
        "renderer_num_workers",
        "tensor_parallel_size",
        "api_server_count",
        "quantization",
    ):
        assert one(settings, name).source == default, name
    assert one(settings, "enforce_eager").source == COMMAND_LINE
    policy = one(settings, "async_scheduling")  # not on a CPU
    assert (policy.value, policy.source) == ("off", default)
    assert policy.note == "the CPU build's; confirmed by /server_info"
    size = one(settings, "block_size")
    assert (size.value, size.source, size.note) == ("128", default, "the CPU build's; confirmed by /metrics")
    assert one(settings, "cudagraph_mode").value == "none"


def test_of_older_cpu_builds_no_more_is_claimed_than_is_known() -> None:
    settings = view(server(version="0.25.1", settings=(Setting("VLLM_CPU_KVCACHE_SPACE", "1", ENVIRONMENT),)))
    assert settings.get("block_size") is None and settings.get("async_scheduling") is None
    assert settings.number("max_num_seqs") == 128


@pytest.mark.parametrize(
    ("told", "name"),
    [(0, "none"), (1, "piecewise"), (2, "full"), ([2, 0], "full_decode_only"), ([2, 1], "full_and_piecewise"),
     ("FULL", "FULL"), (9, "9")],
)  # fmt: skip
def test_the_mode_of_cuda_graphs_is_told_by_name(told: object, name: str) -> None:
    found = understood({"vllm_config": {"compilation_config": {"cudagraph_mode": told}}})
    assert not isinstance(found, Absent)
    assert [(each.name, each.value) for each in found] == [("cudagraph_mode", name)]


def test_groups_stand_in_their_order_and_hold_each_setting_once() -> None:
    extra = Setting("VLLM_USE_DEEP_GEMM", "1", ENVIRONMENT)
    settings = view(server("-tp 2 --seed 1 -cc.mode=3", extra), config_info("vllm-0.25.1-h100.metrics.txt"), H100)
    assert list(settings.groups) == ["memory", "scheduler", "parallelism", "speed", "other"]
    names = [each.name for group in settings.groups.values() for each in group]
    assert len(names) == len(set(names))
    assert [each.name for each in settings.groups["parallelism"]][:3] == [
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
    ]
    assert {"model", "seed", "VLLM_USE_DEEP_GEMM"} <= {each.name for each in settings.groups["other"]}
    assert "compilation_config.mode" in {each.name for each in settings.groups["speed"]}


# ---- defaults


@pytest.mark.parametrize(
    ("version", "gpu", "expected"),
    [
        ((0, 25, 1), H100, (1024, 8192)),
        ((0, 25, 1), RTX4090, (256, 2048)),
        ((0, 25, 1), A100, (256, 2048)),  # large batches slow it down: left out by name
        ((0, 27, 0), B200, (1024, 8192)),
        ((0, 28, 0), B200, (1024, 16384)),
        ((0, 32, 0), CPU, (128, 2048)),  # as its /server_info says
        ((0, 9, 2), CPU, (32, 2048)),
    ],
)
def test_the_batch_depends_on_the_gpu(version: Version, gpu: Gpu, expected: tuple[int, int]) -> None:
    assert batch(version, gpu) == expected


def test_throughput_doubles_and_a_cpu_counts_its_processes() -> None:
    assert batch((0, 17, 0), H100, throughput=True) == (2048, 16384)
    assert batch((0, 16, 0), H100, throughput=True) == (1024, 8192)
    assert batch((0, 32, 0), CPU, world=2) == (256, 4096)
    settings = view(server("--performance-mode throughput"), "", H100)
    assert settings.number("max_num_seqs") == 2048


@pytest.mark.parametrize(
    ("name", "version", "value"),
    [
        ("gpu_memory_utilization", (0, 19, 1), "0.9"),
        ("gpu_memory_utilization", (0, 20, 0), "0.92"),
        ("async_scheduling", (0, 13, 0), "off"),
        ("async_scheduling", (0, 14, 0), "on"),
        ("swap_space", (0, 17, 1), "4"),
        ("swap_space", (0, 18, 0), None),
        ("stream_interval", (0, 11, 0), None),
        ("stream_interval", (0, 11, 1), "1"),
    ],
)
def test_a_default_changes_with_the_version(name: str, version: Version, value: str | None) -> None:
    held = defaults(version).get(name)
    assert (held.value if held else None) == value


def test_a_version_has_one_default_of_each_name() -> None:
    versions = sorted({one.since for one in DEFAULTS} | {one.until for one in DEFAULTS if one.until} | {NEWEST})
    for version in versions:
        holding = [x.name for x in DEFAULTS if version >= x.since and (x.until is None or version < x.until)]
        assert sorted(holding) == sorted(defaults(version))


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.25.1", (0, 25, 1)), ("v0.11.1rc2.dev12+g0a1b", (0, 11, 1)), ("0.32.0+cpu", (0, 32, 0)), ("1.2", (1, 2, 0))],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert version_of(text) == version
    assert version_of("dev") is None


def test_a_version_newer_than_the_table_says_whose_default_it_is() -> None:
    assert described((0, 33, 1)) == "default of vLLM 0.33"
    assert described((0, 34, 0)) == "default of vLLM 0.33, the newest that qtop knows"


@pytest.mark.parametrize(
    "info",
    [
        server(version="0.8.5"),
        server(version="dev"),
        server(settings_missing={CONFIG_FILE: Absent(Why.FAILED, "c.yaml: no such file")}),
        server(settings=NOT_RECORDED, max_model_len=4096),
        server(settings=Absent(Why.NOT_YET, "being read"), max_model_len=4096),
        server(argv=("python3", "my_server.py")),
        server(argv=Absent(Why.NOT_HERE)),
    ],
)
def test_no_default_is_claimed_where_something_unseen_may_say_otherwise(info: ServerInfo) -> None:
    settings = in_force(info, "", (H100,))
    assert isinstance(settings, SettingsView)
    assert all("default" not in each.source for group in settings.groups.values() for each in group)


def test_two_kinds_of_gpu_leave_the_batch_open() -> None:
    for gpus in ((), (H100, RTX4090)):
        settings = view(server(), "", *gpus)
        assert settings.get("max_num_seqs") is None
        assert "depends on the GPU's memory" in settings.missing["max_num_seqs"].detail
    assert view(server("--max-num-seqs 8"), "").missing.keys() == {"max_num_batched_tokens"}


def test_the_bounds_of_the_model_apply_to_the_default_batch() -> None:
    settings = view(server("--no-enable-chunked-prefill", max_model_len=32768), "", H100)
    assert settings.number("max_num_batched_tokens") == 32768
    assert view(server("--max-num-seqs 2", max_model_len=512), "", H100).number("max_num_batched_tokens") == 1024
    assert view(server("--max-num-batched-tokens 512"), "", H100).number("max_num_seqs") == 512


def test_api_servers_follow_the_data_parallel_size_since_0_15() -> None:
    assert view(server("-dp 4"), "").number("api_server_count") == 4
    assert view(server("-dp 4", version="0.13.0"), "").number("api_server_count") == 1
    assert view(server("-dp 4 --headless"), "").get("api_server_count") is None


def test_flags_that_a_version_does_not_have_are_kept_and_named() -> None:
    settings = view(server("--swap-space 4 --num-scheduler-steps 8 --load-in-4bit --some-new-flag 1", version="0.32.0"))
    assert one(settings, "swap_space").note == "not a flag of vLLM since 0.18"
    assert one(settings, "num_scheduler_steps").note == "not a flag of vLLM since 0.10"
    assert one(settings, "load_in_4bit").note == "not a flag of vLLM"
    assert one(settings, "some_new_flag").note == ""
    assert retired("swap_space", (0, 17, 1)) == ""
    assert one(view(server("--enable-chunked-prefill")), "enable_chunked_prefill").note == "the default too"


# ---- through the deriver


def test_the_frame_has_the_settings_and_the_cap_that_follows() -> None:
    info = server()
    machine = Machine()
    key = config_info("vllm-0.25.1-h100.metrics.txt")
    sample = Sample(t=T0, server=info, engine=EngineSample(1.0, 1.0, {key: 1.0}), gpu=machine.sample(0).gpu)
    deriver = Deriver()
    frame = deriver.push(sample)
    assert isinstance(frame.settings, SettingsView) and isinstance(frame.server, ServerInfo)
    assert one(frame.settings, "gpu_memory_utilization").value == "0.85"
    again = deriver.push(msgspec.structs.replace(sample, t=T0 + 1))
    assert again.settings is frame.settings and again.server is frame.server  # weighed once
    gone = Absent(Why.LOST, "the server ended")
    assert deriver.push(Sample(t=T0 + 2, server=gone)).settings == gone


def test_the_cap_is_filled_in_and_never_replaced() -> None:
    info = server("--config c.yaml", Setting("max_num_seqs", "48", CONFIG_FILE))
    assert with_cap(info, view(info)).max_running == 48
    told = msgspec.structs.replace(info, max_running=7)
    assert with_cap(told, view(told)).max_running == 7
    by_default = server()
    assert with_cap(by_default, view(by_default, "", H100)).max_running == 1024
    unknown = with_cap(by_default, view(by_default, ""))
    assert isinstance(unknown.max_running, Absent)


def test_other_engines_have_what_they_tell_and_no_defaults() -> None:
    info = ServerInfo(
        engine="llamacpp",
        settings=(Setting("ctx_size", "4096", COMMAND_LINE), Setting("ctx_size", "8192", ENVIRONMENT)),
    )
    settings = view(info)
    assert settings.groups == {"memory": (Setting("ctx_size", "4096", COMMAND_LINE, "environment says 8192"),)}
    nothing = in_force(ServerInfo(engine="llamacpp", settings=()))
    assert isinstance(nothing, Absent)
