"""What each engine's series mean, from captures and from documented definitions."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from tests.fakes.behaved import capture

from qtop.collect.engine.exposition import parse
from qtop.model.derive import Deriver
from qtop.model.engines import TABLES, engine_view, latency_view
from qtop.model.frame import EngineView, Stage, Waterfall
from qtop.model.series import totals_of
from qtop.model.serving import Latency, LatencyView, LoraView
from qtop.model.settings import SettingsView, in_force
from qtop.model.waterfall import waterfall
from qtop.sample import Absent, EngineSample, ModelSample, Sample, ServerInfo, SlotSample, Why
from qtop.sample.series import split_series

PREFIXES = ("vllm:", "sglang:", "tgi_", "trtllm_", "nv_", "llamacpp:", "process_cpu")
FILES = {
    "vllm": "vllm-0.32-cpu.metrics.txt",
    "sglang": "sglang.metrics.txt",
    "tgi": "tgi.metrics.txt",
    "trtllm": "trtllm.metrics.txt",
    "triton": "triton.metrics.txt",
    "llamacpp": "llamacpp.metrics.txt",
}


def series_of(engine: str) -> dict[str, float]:
    return parse(capture(FILES[engine]).decode(), PREFIXES)


def counters(engine: str) -> set[str]:
    """The series that only grow, by the file's own TYPE lines."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", capture(FILES[engine]).decode(), re.MULTILINE))
    suffixes = ("_bucket", "_sum", "_count")

    def grows(name: str) -> bool:
        stem = next((name.removesuffix(end) for end in suffixes if name.endswith(end)), name)
        return kinds.get(name) == "counter" or kinds.get(stem) == "histogram"

    return {key for key in series_of(engine) if grows(split_series(key)[0])}


def pair(engine: str, seconds: float = 40.0) -> tuple[EngineSample, EngineSample]:
    """Two scrapes between which every counter doubled."""
    old, growing = series_of(engine), counters(engine)
    new = {key: value * 2 if key in growing else value for key, value in old.items()}
    return EngineSample(0.0, 1.0, old), EngineSample(seconds, 1.0, new)


def view(engine: str, seconds: float = 40.0) -> EngineView:
    return engine_view(engine, *pair(engine, seconds))


def several(series: dict[str, float], ranks: int) -> dict[str, float]:
    """The same server with data-parallel ranks that hold the same counts."""
    return {
        key.replace('engine="0"', f'engine="{rank}"'): value for key, value in series.items() for rank in range(ranks)
    }


# ---- all


@pytest.mark.parametrize("engine", [*TABLES, "openai", "unknown"])
def test_every_field_is_a_reading_with_a_source_or_says_why_not(engine: str) -> None:
    old, new = pair(engine) if engine in FILES else (EngineSample(0.0, 1.0, {}), EngineSample(1.0, 1.0, {}))
    found = engine_view(engine, old, new)
    for name in EngineView.__struct_fields__:
        if name in ("scrape_ms", "engines", "sources"):
            continue
        reading = getattr(found, name)
        if isinstance(reading, Absent):
            assert reading.detail and name not in found.sources, name
        else:
            assert found.sources[name], name


@pytest.mark.parametrize("engine", TABLES)
def test_nothing_at_all_makes_a_view_of_reasons(engine: str) -> None:
    empty = EngineSample(1.0, 1.0, {})
    for old in (None, EngineSample(0.0, 1.0, {})):
        found = engine_view(engine, old, empty)
        assert isinstance(found.running, Absent) and isinstance(found.gen_tok_s, Absent)
    later = EngineSample(100.0, 1.0, {})
    fall, found_latency = waterfall(engine, empty, later), latency_view(engine, empty, later)
    assert isinstance(fall, Absent) or all(isinstance(stage.ms, Absent) for stage in fall.stages)
    if isinstance(found_latency, LatencyView):
        assert all(isinstance(getattr(found_latency, name), Absent) for name in ("queue", "ttft", "itl", "e2e"))


# ---- vLLM


def test_vllm() -> None:
    found = view("vllm")
    assert (found.running, found.waiting) == (2.0, 0.0)
    assert found.waiting_by_reason == {"capacity": 0.0, "deferred": 0.0}
    assert found.gen_tok_s == 394 / 40 and found.prompt_tok_s == 42 / 40
    assert found.steps_s == 392 / 40 and found.tokens_step == 436 / 392
    assert found.finished_by_reason == {"stop": 0.0, "length": 3 / 40, "abort": 0.0, "error": 0.0, "repetition": 0.0}
    assert (found.prefix_hit, found.prefix_queries) == (0.0, 42.0)
    assert found.rejections_s == 0.0 and found.sleep == "awake" and found.api_cpu == 27.56 / 40
    assert isinstance(found.spec_accept, Absent) and found.spec_accept.detail == "no speculative decoding"
    assert isinstance(found.loras, Absent) and "no LoRA" in found.loras.detail
    assert found.sources["steps_s"] == "rate of vllm:iteration_tokens_total_count"
    assert [rank.label for rank in found.engines] == ["0"]


def test_the_kv_pool_of_a_vllm_by_tokens_or_by_blocks() -> None:
    def capacity(*labels: str) -> object:
        series = {f"vllm:cache_config_info{{{one}}}": 1.0 for one in labels}
        return engine_view("vllm", None, EngineSample(0.0, 1.0, series)).kv_capacity_tokens

    assert capacity('block_size="16",kv_cache_size_tokens="426960",num_gpu_blocks="99"') == 426960.0
    assert capacity('block_size="16",num_gpu_blocks="1000"') == 16000.0
    two = ('block_size="16",engine="0",num_gpu_blocks="10"', 'block_size="16",engine="1",num_gpu_blocks="10"')
    assert capacity(*two) == 320.0
    assert isinstance(capacity('block_size="16",num_gpu_blocks="None"'), Absent)


def test_former_names_of_vllm_are_read_and_those_of_its_v0_engine_are_not() -> None:
    old = {
        "vllm:gpu_cache_usage_perc": 0.4,
        "vllm:gpu_prefix_cache_hits_total": 10.0,
        "vllm:gpu_prefix_cache_queries_total": 100.0,
        "vllm:time_per_output_token_seconds_sum": 1.0,
        "vllm:time_per_output_token_seconds_count": 10.0,
    }
    new = {key: value * 2 if key.endswith(("_total", "_sum", "_count")) else value for key, value in old.items()}
    found = engine_view("vllm", EngineSample(0.0, 1.0, old), EngineSample(1.0, 1.0, new))
    assert (found.kv_use, found.prefix_hit, found.itl_ms) == (0.4, 0.1, 100.0)
    assert found.sources["kv_use"] == "vllm:gpu_cache_usage_perc"
    both = engine_view("vllm", None, EngineSample(0.0, 1.0, {**old, "vllm:kv_cache_usage_perc": 0.6}))
    assert both.kv_use == 0.6, "the present name counts where both are there (0.9.2 to 0.11)"
    gone = {
        "vllm:num_requests_swapped": 3.0,
        "vllm:cpu_cache_usage_perc": 0.9,
        "vllm:gpu_prefix_cache_hit_rate": 0.5,
        "vllm:avg_generation_throughput_toks_per_s": 99.0,
        "vllm:tokens_total": 5.0,
        "vllm:spec_decode_draft_acceptance_rate": 0.8,
    }
    v0 = engine_view("vllm", EngineSample(0.0, 1.0, gone), EngineSample(1.0, 1.0, gone))
    assert v0.sources == {} and v0.engines == ()


def test_ranks_of_a_vllm_add_up_and_the_fullest_cache_counts() -> None:
    old, new = pair("vllm")
    series = several(new.series, 4)
    series['vllm:kv_cache_usage_perc{engine="3",model_name="qwen3-tiny"}'] = 0.9
    series['vllm:num_requests_running{engine="2",model_name="qwen3-tiny"}'] = 5.0
    found = engine_view("vllm", replace_series(old, several(old.series, 4)), replace_series(new, series))
    assert found.running == 11.0 and found.kv_use == 0.9 and found.gen_tok_s == 4 * 394 / 40
    assert found.sources["kv_use"].startswith("largest of ") and found.sources["running"].startswith("sum of ")
    assert [(rank.label, rank.running) for rank in found.engines] == [("0", 2.0), ("1", 2.0), ("2", 5.0), ("3", 2.0)]
    assert found.engines[3].kv_use == 0.9
    assert all(rank.gen_tok_s == 394 / 40 and rank.steps_s == 392 / 40 for rank in found.engines)


def replace_series(sample: EngineSample, series: dict[str, float]) -> EngineSample:
    return EngineSample(sample.at, sample.scrape_ms, series)


def test_a_rank_that_joins_has_no_rate_yet() -> None:
    old, new = pair("vllm")
    found = engine_view("vllm", old, replace_series(new, several(new.series, 2)))
    assert isinstance(found.engines[1].gen_tok_s, Absent) and found.engines[0].gen_tok_s == 394 / 40


def test_the_newest_lora_series_counts() -> None:
    def key(running: str, waiting: str) -> str:
        labels = f'max_lora="2",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        return f"vllm:lora_requests_info{{{labels}}}"

    series = {key("", ""): 1.79e9, key("sql,chat", "code"): 1.79e9 + 7, key("sql", ""): 1.79e9 + 3}
    loras = engine_view("vllm", None, EngineSample(0.0, 1.0, series)).loras
    assert isinstance(loras, LoraView)
    assert (loras.running, loras.waiting, loras.max) == (("sql", "chat"), ("code",), 2.0)


@pytest.mark.parametrize(("on", "state"), [("awake", "awake"), ("discard_all", "discard_all")])
def test_the_sleep_state(on: str, state: str) -> None:
    names = ("awake", "weights_offloaded", "discard_all")
    series = {f'vllm:engine_sleep_state{{sleep_state="{name}"}}': float(name == on) for name in names}
    assert engine_view("vllm", None, EngineSample(0.0, 1.0, series)).sleep == state


def test_shares_are_of_the_window_and_rates_of_the_tick() -> None:
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", "vllm:generation_tokens_total")
    one, two, three = (
        EngineSample(at, 1.0, dict(zip(names, values, strict=True)))
        for at, values in ((0.0, (0.0, 0.0, 0.0)), (29.0, (90.0, 100.0, 290.0)), (30.0, (90.0, 200.0, 300.0)))
    )
    found = engine_view("vllm", two, three, one)
    assert (found.prefix_hit, found.prefix_queries, found.gen_tok_s) == (0.45, 200.0, 10.0)


# ---- llama.cpp


def test_llamacpp_by_its_slots() -> None:
    series = series_of("llamacpp")
    old = EngineSample(0.0, 1.0, series, slots=(SlotSample(0, 2048, True, 100, 10), SlotSample(1, 2048, False, 50, 9)))
    new = EngineSample(2.0, 1.0, series, slots=(SlotSample(0, 2048, True, 100, 34), SlotSample(1, 2048, True, 50, 2)))
    found = engine_view("llamacpp", old, new)
    assert (found.running, found.gen_tok_s, found.kv_capacity_tokens) == (4.0, 13.0, 4096.0)
    assert found.kv_use == (134 + 52) / 4096 and found.sources["kv_use"].startswith("/slots")
    assert isinstance(found.preempt_s, Absent) and found.preempt_s.detail == "llama.cpp does not tell"
    grown = view("llamacpp")
    assert grown.prefix_hit == 0.0 and grown.prefix_queries == 67.0
    assert grown.itl_ms == pytest.approx(1931.58 / 187) and grown.tokens_step == pytest.approx(187 / 198)


# ---- SGLang


def test_sglangs_processes_of_one_rank_count_once() -> None:
    found = view("sglang")
    assert (found.running, found.waiting, found.kv_use, found.kv_capacity_tokens) == (21.0, 4.0, 0.57, 360_000.0)
    assert found.waiting_by_reason == {"capacity": 4.0, "grammar": 1.0}
    assert found.gen_tok_s == 755757 / 40 and found.prefix_hit == 0.2 and found.finished_s == 100.0
    assert [(one.label, one.running, one.kv_use, one.gen_tok_s) for one in found.engines] == [
        ("0", 12.0, 0.42, 410.0),
        ("1", 9.0, 0.57, 322.5),
    ]


def test_sglang_tells_its_schedulers_cpu() -> None:
    found = view("sglang", seconds=1000.0)
    assert (found.scheduler_cpu, found.scheduler_idle, found.api_cpu) == (0.8, 0.1, 0.31)
    assert found.sources["scheduler_cpu"].startswith("largest rate of ")
    assert isinstance(found.loras, LoraView) and (found.loras.max, found.loras.used) == (8.0, 2.0)


def test_counts_of_processes_that_report_the_same_steps_are_not_multiplied() -> None:
    found = view("sglang")
    assert found.preempt_s == pytest.approx(6 / 40)
    assert found.steps_s == (9040.0 + 9041.0) / 40
    assert [one.steps_s for one in found.engines] == [9040 / 40, 9041 / 40]


# ---- TGI, TensorRT-LLM, Triton, Ollama


def test_tgi() -> None:
    found = view("tgi", 100.0)
    assert (found.running, found.waiting) == (7.0, 2.0)
    assert (found.gen_tok_s, found.prompt_tok_s, found.finished_s, found.rejections_s) == (150.0, 450.0, 1.5, 0.06)
    assert found.itl_ms == pytest.approx(22.0) and found.steps_s == 61.2
    assert "when a request ends" in found.sources["gen_tok_s"]
    assert isinstance(found.kv_use, Absent) and found.kv_use.detail == "TGI does not tell"


def test_trtllm() -> None:
    found = view("trtllm", 100.0)
    assert (found.running, found.waiting, found.kv_use, found.kv_capacity_tokens) == (16.0, 5.0, 0.63, 83_200.0)
    assert (found.prefix_hit, found.gen_tok_s, found.finished_s) == (0.25, 640.0, 5.0)
    assert found.finished_by_reason == {"stop": 3.8, "length": 1.2}


def test_triton_counts_its_busiest_model() -> None:
    found = view("triton", 10.0)
    assert (found.running, found.waiting, found.kv_use, found.kv_capacity_tokens) == (7.0, 3.0, 0.25, 64_000.0)
    assert (found.finished_s, found.steps_s, found.rejections_s) == (11.0, 10.0, 0.2)
    assert {one.label for one in found.engines} == {"ensemble", "preprocessing", "tensorrt_llm", "postprocessing"}
    core = {key: value for key, value in series_of("triton").items() if "trt_llm_" not in key.partition("{")[0]}
    bare = engine_view("triton", None, EngineSample(0.0, 1.0, core))
    assert bare.waiting == 4.0 and isinstance(bare.kv_use, Absent) and "TensorRT-LLM backend" in bare.kv_use.detail


def test_ollama_tells_models_and_nothing_else() -> None:
    models = (ModelSample("a", 100, 80, 1.8e9, 4096), ModelSample("b", 50, 0))
    found = engine_view("ollama", None, EngineSample(0.0, 1.0, {}, models=models))
    assert not isinstance(found.models, Absent) and found.sources == {"models": "/api/ps"}
    assert (found.models[0].vram_bytes, found.models[0].expires, found.models[0].context) == (80, 1.8e9, 4096)
    assert isinstance(found.models[1].expires, Absent) and isinstance(found.models[1].context, Absent)
    assert isinstance(found.running, Absent) and "no /metrics" in found.running.detail


# ---- latency and waterfall


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", "trtllm"])
def test_latencies_need_a_window_and_name_their_source(engine: str) -> None:
    old, new = pair(engine, 29.0)
    short = latency_view(engine, old, new)
    assert isinstance(short, Absent) and short.why is Why.NOT_YET and "30 s" in short.detail
    found = latency_view(engine, *pair(engine, 30.0))
    assert isinstance(found, LatencyView)
    assert isinstance(found.e2e, Latency) and found.e2e.source.startswith(TABLES[engine].latencies["e2e"].names[0])
    for name in ("queue", "prefill", "decode", "ttft", "itl"):
        one = getattr(found, name)
        assert isinstance(one, Latency) if name in TABLES[engine].latencies else isinstance(one, Absent) and one.detail


def test_percentiles_of_a_sample_of_sglang() -> None:
    found = latency_view("sglang", *pair("sglang"))
    assert isinstance(found, LatencyView) and isinstance(found.ttft, Latency) and isinstance(found.queue, Latency)
    p50 = found.ttft.p50
    assert not isinstance(p50, Absent) and (p50.relation, p50.low_ms, p50.high_ms) == ("=", 200.0, 400.0)
    assert not isinstance(found.queue.p50, Absent) and found.queue.p50.low_ms == 0.0
    assert found.queue.n == 200.0, "two engines of 100 requests, each written by two processes"


def stages(fall: Waterfall | Absent) -> dict[str, Stage]:
    assert isinstance(fall, Waterfall)
    return {stage.name: stage for stage in fall.stages}


def test_the_stages_of_each_engine() -> None:
    found = {engine: stages(waterfall(engine, *pair(engine))) for engine in FILES}
    assert all(
        list(one)[:2] == ["client", "frontend"] and isinstance(one["client"].ms, Absent) for one in found.values()
    )
    assert {name: one.ms for name, one in found["trtllm"].items() if name != "client"} == pytest.approx(
        {"frontend": 40.0, "queue": 20.0, "prefill": 90.0, "decode": 2000.0}
    )
    assert found["trtllm"]["frontend"].source == "computed: ttft − queue − prefill"
    tgi = {name: one.ms for name, one in found["tgi"].items() if name != "client"}
    assert tgi == pytest.approx({"frontend": 3.0, "queue": 40.0, "prefill": 100.0, "decode": 2100.0})
    sglang = found["sglang"]
    assert isinstance(sglang["frontend"].ms, Absent) and "prefill" in sglang["frontend"].ms.detail
    assert {name: sglang[name].ms for name in ("queue", "prefill", "decode")} == pytest.approx(
        {"queue": 80.0, "prefill": 200.0, "decode": 2700.0}
    )
    triton = {name: one.ms for name, one in found["triton"].items() if name != "client"}
    assert triton == pytest.approx({"frontend": 8800.0 / 110, "queue": 100.0, "compute": 1820.0})
    tgi_fall = waterfall("tgi", *pair("tgi"))
    assert isinstance(tgi_fall, Waterfall) and tgi_fall.ttft_ms == pytest.approx(143.0) and tgi_fall.tokens == 100.0


@pytest.mark.parametrize("engine", ["ollama", "openai", "unknown"])
def test_a_server_that_does_not_say_where_its_time_goes(engine: str) -> None:
    empty = EngineSample(0.0, 1.0, {})
    assert isinstance(waterfall(engine, empty, empty), Absent)


def test_the_means_are_trusted_when_they_are_of_the_same_requests() -> None:
    first, done = "trtllm_time_to_first_token_seconds_count", "trtllm_request_success_total"

    def fall(seconds: float, begun: float, finished: float) -> Waterfall:
        new = EngineSample(seconds, 1.0, {first: begun, done: finished})
        found = waterfall("trtllm", EngineSample(0.0, 1.0, {first: 0.0, done: 0.0}), new)
        assert isinstance(found, Waterfall) and found.first_tokens == begun
        return found

    assert fall(30.0, 110.0, 100.0).trusted and fall(30.0, 110.0, 100.0).why == ""
    assert "short" in fall(29.0, 100.0, 100.0).why
    assert "only 4" in fall(30.0, 4.0, 4.0).why
    assert "different requests" in fall(30.0, 121.0, 100.0).why and not fall(30.0, 79.0, 100.0).trusted
    lost = waterfall("trtllm", EngineSample(0.0, 1.0, {done: 9.0}), EngineSample(40.0, 1.0, {done: 3.0}))
    assert isinstance(lost, Waterfall) and not lost.trusted


def test_the_deriver_gives_latencies_after_half_a_minute() -> None:
    deriver, old = Deriver(), series_of("vllm")
    growing = counters("vllm")
    for second in range(35):
        series = {key: value * (1 + second) if key in growing else value for key, value in old.items()}
        sample = Sample(t=1e9 + second, server=ServerInfo(engine="vllm"), engine=EngineSample(second, 1.0, series))
        frame = deriver.push(sample)
        assert isinstance(frame.latency, Absent) == (second < 30)
    assert isinstance(frame.latency, LatencyView) and frame.latency.seconds == 30.0
    assert isinstance(frame.latency.itl, Latency) and frame.latency.itl.n == 389 * 30
    assert isinstance(frame.engine, EngineView) and frame.kv_tokens == frame.engine.kv_capacity_tokens
    silent = deriver.push(replace_engine(sample, Absent(Why.LOST, "gone")))
    assert silent.latency == silent.waterfall and isinstance(silent.latency, Absent)


def test_a_latency_that_nobody_asks_for_is_not_worked_out_and_a_kept_frame_holds_no_scrape() -> None:
    asked: list[str] = []

    def find(name: str) -> Latency | Absent:
        asked.append(name)
        return Absent(Why.UNSUPPORTED, name)

    view = LatencyView(30.0, find)
    assert not asked
    assert view.itl is view.itl and asked == ["itl"]
    settled = view.settled()
    assert settled == view and len(asked) == len(LatencyView.NAMES)
    assert settled.ttft == Absent(Why.UNSUPPORTED, "ttft") and len(asked) == len(LatencyView.NAMES)
    assert settled != LatencyView(31.0, find) and "ttft=" in repr(view)
    with pytest.raises(AttributeError, match="no tpot"):
        view.tpot  # noqa: B018 - asked for what is not there


def test_frames_are_equal_whether_they_are_kept_or_not() -> None:
    kept, passing = Deriver(), Deriver(kept=False)
    old, growing = series_of("vllm"), counters("vllm")
    for second in range(0, 40, 2):
        series = {key: value * (1 + second) if key in growing else value for key, value in old.items()}
        sample = Sample(t=1e9 + second, server=ServerInfo(engine="vllm"), engine=EngineSample(second, 1.0, series))
        held, seen = kept.push(sample), passing.push(sample)
        assert held == seen
    assert isinstance(held.latency, LatencyView) and isinstance(held.latency.itl, Latency)


def replace_engine(sample: Sample, engine: EngineSample | Absent) -> Sample:
    return Sample(t=sample.t + 1, server=sample.server, engine=engine)


def test_a_layout_is_made_once() -> None:
    one, two = pair("vllm")
    assert totals_of(one.series).layout is totals_of(two.series).layout
    assert replace(TABLES["vllm"], title="x").title == "x"


@pytest.mark.parametrize("odd", ["²", "9" * 5000, "٣", "-1", ""])
def test_labels_that_are_no_numbers_tell_no_capacity(odd: str) -> None:
    series = {f'vllm:cache_config_info{{num_gpu_blocks="{odd}",block_size="16",kv_cache_size_tokens="{odd}"}}': 1.0}
    view = engine_view("vllm", None, EngineSample(1.0, 1.0, series))
    assert isinstance(view.kv_capacity_tokens, Absent)
    server = ServerInfo(url="http://127.0.0.1:1", engine="vllm")
    assert isinstance(in_force(server, next(iter(series))), (Absent, SettingsView))
