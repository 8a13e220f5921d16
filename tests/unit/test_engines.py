"""Engines told apart, and read, by what real servers answered."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest
from tests.fakes.behaved import CAPTURES, capture
from tests.fakes.hostile import HTML, KEY, Hostile, Route

from qtop.collect.engine.argv import flag, integer, served_model
from qtop.collect.engine.base import EngineAdapter
from qtop.collect.engine.identify import identify
from qtop.collect.engine.llamacpp import LlamaCpp
from qtop.collect.engine.openai import OpenAi
from qtop.collect.engine.sglang import SgLang
from qtop.collect.engine.vllm import Vllm
from qtop.collect.http import Access, open_client
from qtop.sample import Absent, EngineSample, ServerInfo, SlotSample, Why
from qtop.sample.series import split_series

NOT_FOUND: Route = (404, "application/json", b"{}")


def identified(mode: str, key: str | None = None, **routes: Route) -> EngineAdapter | Absent:
    paths = {"/" + k.replace("__", "/"): v for k, v in routes.items()}
    with Hostile(mode, routes=paths) as server, open_client(Access(server.url, key), 5.0) as client:
        return identify(client)


def scraped(adapter: EngineAdapter, mode: str, key: str | None = None, **routes: Route) -> EngineSample | Absent:
    paths = {"/" + k.replace("__", "/"): v for k, v in routes.items()}
    with Hostile(mode, routes=paths) as server, open_client(Access(server.url, key), 5.0) as client:
        return adapter.scrape(client)


def informed(adapter: EngineAdapter, mode: str, *argv: str, key: str | None = None) -> ServerInfo:
    with Hostile(mode) as server, open_client(Access(server.url, key), 5.0) as client:
        info = adapter.info(client, argv)
        assert info.url == server.url
    return info


# ---- which engine


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("vllm", Vllm),
        ("locked", Vllm),  # 401 on /v1/models, /metrics open
        ("html", Vllm),
        ("huge", Vllm),
        ("endless", Vllm),
        ("cut", Vllm),
        ("cut-chunked", Vllm),
        ("llamacpp", LlamaCpp),
        ("llamacpp-bare", LlamaCpp),
        ("locked-all", LlamaCpp),  # 401 everywhere, but a Server header
        ("openai", OpenAi),
        ("sglang", SgLang),
    ],
)
def test_the_engine_is_told(mode: str, kind: type) -> None:
    assert type(identified(mode)) is kind


@pytest.mark.parametrize(
    "metrics", [(200, "text/html", HTML), (200, "text/plain", b"vllm:a 1\n" * 1_000_000), (500, "text/plain", b"")]
)
def test_whatever_stands_at_metrics_a_locked_vllm_is_told(metrics: Route) -> None:
    assert type(identified("locked", metrics=metrics)) is Vllm


def test_an_owner_that_is_not_the_engine_leaves_it_to_the_metrics() -> None:
    models = b'{"data":[{"id":"m","owned_by":"a-gateway"}]}'
    assert type(identified("vllm", v1__models=(200, "application/json", models))) is Vllm


def test_a_llamacpp_behind_a_gateway_is_told_by_its_props() -> None:
    props = (200, "application/json", capture("llamacpp.props.json"))
    assert type(identified("openai", props=props)) is LlamaCpp


def test_a_version_route_alone_makes_no_vllm() -> None:
    version = (200, "application/json", b'{"version":"1.2"}')
    assert type(identified("openai", version=version)) is OpenAi
    assert isinstance(identified("website", version=version), Absent)


@pytest.mark.parametrize(
    ("mode", "why", "clause"),
    [
        ("loading", Why.NOT_YET, "the server is loading its model"),
        ("loading-listed", Why.NOT_YET, "the server is loading its model"),
        ("website", Why.UNSUPPORTED, "not as an LLM server"),
        ("locked-gateway", Why.DENIED, "wants an API key"),
        ("garbage", Why.FAILED, "does not answer in HTTP"),
        ("reset", Why.LOST, "closed the connection"),
        ("failing", Why.FAILED, "HTTP 500"),
    ],
)
def test_what_is_no_engine_yet_says_why(mode: str, why: Why, clause: str) -> None:
    answer = identified(mode)
    assert isinstance(answer, Absent)
    assert answer.why is why
    assert clause in answer.detail


def test_a_silent_server_costs_one_timeout() -> None:
    with Hostile("silent") as server, open_client(Access(server.url), 0.3) as client:
        answer = identify(client)
        assert isinstance(answer, Absent) and "did not answer within 0.3 s" in answer.detail
        assert len(server.seen) == 1


# ---- vLLM


@pytest.mark.parametrize("name", ["vllm-0.25.1-h100.metrics.txt", "vllm-0.32-cpu.metrics.txt"])
def test_vllm_series_are_kept_whole(name: str) -> None:
    sample = scraped(Vllm(), "vllm", metrics=(200, "text/plain", capture(name)))
    assert isinstance(sample, EngineSample)
    assert {split_series(x)[0].partition(":")[0] for x in sample.series} == {
        *("vllm", "process_cpu_seconds_total", "http_requests_total")
    }
    names = {split_series(x)[0] for x in sample.series}
    assert {"vllm:request_queue_time_seconds_bucket", "vllm:cache_config_info", "vllm:num_preemptions_total"} <= names
    assert not [x for x in names if x.endswith("_created")]
    assert sample.scrape_ms > 0
    assert msgspec.json.decode(msgspec.json.encode(sample), type=EngineSample) == sample


def test_vllm_counters_move_between_scrapes_and_gauges_stay() -> None:
    adapter = Vllm()
    with Hostile("vllm") as server, open_client(Access(server.url)) as client:
        first = adapter.scrape(client)
        time.sleep(0.3)
        second = adapter.scrape(client)
    assert isinstance(first, EngineSample) and isinstance(second, EngineSample)
    assert second.at > first.at
    assert first.series.keys() == second.series.keys()
    tokens = 'vllm:generation_tokens_total{engine="0",model_name="qwen3-tiny"}'
    running = 'vllm:num_requests_running{engine="0",model_name="qwen3-tiny"}'
    assert second.series[tokens] > first.series[tokens]
    assert second.series[running] == first.series[running] > 0


def test_vllm_tells_who_it_is() -> None:
    info = informed(Vllm(), "vllm", "vllm", "serve", "/models/q", "--max-num-seqs", "128")
    assert (info.engine, info.version, info.model, info.max_model_len) == ("vllm", "0.32.0", "qwen3-tiny", 4096)
    assert info.max_running == 128


def test_vllm_without_its_command_line_does_not_guess_max_num_seqs() -> None:
    for argv in ((), ("vllm", "serve", "m", "--max-num-seqs", "auto")):
        running = informed(Vllm(), "vllm", *argv).max_running
        assert isinstance(running, Absent) and "--max-num-seqs" in running.detail


def test_a_locked_vllm_is_named_by_its_metrics_or_its_command_line() -> None:
    info = informed(Vllm(), "locked")
    assert info.model == "qwen3-tiny"
    assert info.version == "0.32.0"
    assert isinstance(info.max_model_len, Absent) and info.max_model_len.why is Why.DENIED
    told = informed(Vllm(), "locked", "vllm", "serve", "/models/q", "--served-model-name=name", "--max-model-len=8k")
    assert (told.model, told.max_model_len) == ("name", 8_000)
    assert informed(Vllm(), "locked", key=KEY).max_model_len == 4096


def test_a_lora_adapter_is_not_taken_for_the_model() -> None:
    models = b'{"data":[{"id":"lora","parent":"base","owned_by":"vllm"},{"id":"base","owned_by":"vllm","parent":null}]}'
    routes = {"/v1/models": (200, "application/json", models)}
    with Hostile("vllm", routes=routes) as server, open_client(Access(server.url)) as client:
        info = Vllm().info(client)
    assert info.model == "base"
    assert info.max_model_len == Absent(Why.UNSUPPORTED, "/v1/models has no max_model_len")


@pytest.mark.parametrize(
    ("metrics", "why", "clause"),
    [
        ((200, "text/html", HTML), Why.FAILED, "looks like HTML"),
        ((200, "text/plain", b"process_open_fds 54.0\n"), Why.UNSUPPORTED, "--disable-log-stats"),
        ((200, "text/plain", b"\x00\xff" * 99), Why.FAILED, "not metrics"),
        (NOT_FOUND, Why.UNSUPPORTED, "the server has no /metrics"),
    ],
)
def test_vllm_without_its_series_says_why(metrics: Route, why: Why, clause: str) -> None:
    adapter = Vllm()
    sample = scraped(adapter, "vllm", metrics=metrics)
    assert isinstance(sample, Absent)
    assert sample.why is why and clause in sample.detail
    assert adapter.missing == {"/metrics": sample}


@pytest.mark.parametrize("mode", ["huge", "cut", "cut-chunked", "silent"])
def test_half_a_scrape_is_no_scrape(mode: str) -> None:
    with Hostile(mode) as server, open_client(Access(server.url), 0.5) as client:
        sample = Vllm().scrape(client)
    assert isinstance(sample, Absent) and sample.why is Why.FAILED


# ---- llama.cpp


def test_llamacpp_series_and_slots() -> None:
    adapter = LlamaCpp()
    sample = scraped(adapter, "llamacpp")
    assert isinstance(sample, EngineSample)
    assert sample.series["llamacpp:requests_processing"] == 4.0
    assert sample.series["llamacpp:tokens_predicted_total"] == 187.0
    assert len(sample.series) == 15
    assert sample.slots == (
        SlotSample(0, 2048, True, 12, 6),
        SlotSample(1, 2048, True, 17, 11),
        SlotSample(2, 2048, True, 11, 5),
        SlotSample(3, 2048, True, 11, 5),
    )
    assert adapter.missing == {}


def test_idle_slots_and_those_of_older_builds() -> None:
    slots = (
        b'[{"id":0,"n_ctx":512,"is_processing":false},{"id":1,"n_ctx":512,"is_processing":true,"prompt":"SECRET TEXT",'
    )
    slots += b'"n_prompt_tokens":7,"next_token":{"n_decoded":3,"stopping_word":"SECRET WORD"}}]'
    sample = scraped(LlamaCpp(), "llamacpp", slots=(200, "application/json", slots))
    assert isinstance(sample, EngineSample)
    assert sample.slots == (SlotSample(0, 512, False, 0, 0), SlotSample(1, 512, True, 7, 3))
    assert "SECRET" not in repr(sample) + msgspec.json.encode(sample).decode()


def test_llamacpp_without_metrics_goes_on_with_its_slots_and_says_how() -> None:
    adapter = LlamaCpp()
    sample = scraped(adapter, "llamacpp-slots-only")
    assert isinstance(sample, EngineSample)
    assert sample.series == {}
    assert not isinstance(sample.slots, Absent) and len(sample.slots) == 4
    assert list(adapter.missing) == ["/metrics"]
    assert "start llama-server with --metrics" in adapter.missing["/metrics"].detail


def test_llamacpp_without_slots_goes_on_with_its_metrics_and_says_how() -> None:
    adapter = LlamaCpp()
    sample = scraped(adapter, "llamacpp", slots=(501, "application/json", b"{}"))
    assert isinstance(sample, EngineSample)
    assert sample.series["llamacpp:requests_processing"] == 4.0
    assert isinstance(sample.slots, Absent) and "--slots" in sample.slots.detail


@pytest.mark.parametrize(
    "slots", [b"{}", b"[1]", b"<html>", b"[" * 100_000, b'[{"id":"x"}]'], ids=lambda x: repr(x[:9])
)
def test_slots_of_another_shape_do_not_cost_the_metrics(slots: bytes) -> None:
    sample = scraped(LlamaCpp(), "llamacpp", slots=(200, "application/json", slots))
    assert isinstance(sample, EngineSample)
    assert sample.series
    assert isinstance(sample.slots, Absent) and sample.slots.why is Why.FAILED


def test_llamacpp_with_neither_route_is_absent() -> None:
    adapter = LlamaCpp()
    sample = scraped(adapter, "llamacpp-bare")
    assert sample == Absent(Why.UNSUPPORTED, "the server has no /metrics: start llama-server with --metrics")
    assert set(adapter.missing) == {"/metrics", "/slots"}


@pytest.mark.parametrize(("mode", "why"), [("loading", Why.NOT_YET), ("locked-all", Why.DENIED), ("reset", Why.LOST)])
def test_llamacpp_that_gives_nothing_says_why(mode: str, why: Why) -> None:
    sample = scraped(LlamaCpp(), mode)
    assert isinstance(sample, Absent) and sample.why is why


def test_llamacpp_tells_who_it_is() -> None:
    info = informed(LlamaCpp(), "llamacpp")
    assert (info.engine, info.version, info.model) == ("llamacpp", "b0-unknown", "smollm2-135m")
    assert (info.max_model_len, info.max_running) == (2048, 4)
    locked = informed(LlamaCpp(), "locked-all", "llama-server", "-np", "8")
    assert locked.max_running == 8
    assert isinstance(locked.version, Absent) and locked.version.why is Why.DENIED
    assert isinstance(locked.model, Absent) and isinstance(locked.max_model_len, Absent)


# ---- others


def test_a_server_with_nothing_but_models() -> None:
    info = informed(OpenAi(), "openai")
    assert (info.engine, info.model) == ("openai", "some-model")
    assert isinstance(info.version, Absent) and isinstance(info.max_running, Absent)
    sample = scraped(OpenAi("some engine"), "openai")
    assert sample == Absent(Why.UNSUPPORTED, "some engine offers no metrics that qtop reads")
    gone = scraped(OpenAi(), "close")
    assert isinstance(gone, Absent) and gone.why is Why.LOST


@pytest.mark.parametrize("mode", ["garbage", "website", "failing", "loading", "reset"])
@pytest.mark.parametrize("make", [Vllm, LlamaCpp, OpenAi])
def test_no_server_makes_an_adapter_raise(make: Callable[[], EngineAdapter], mode: str) -> None:
    assert isinstance(scraped(make(), mode), Absent)
    info = informed(make(), mode)
    assert isinstance(info.model, Absent) and isinstance(info.version, Absent)
    assert isinstance(info.max_model_len, Absent) and isinstance(info.max_running, Absent)


# ---- the command line


def test_flags_are_read_in_every_spelling() -> None:
    for argv in (["--max-num-seqs", "64"], ["--max-num-seqs=64"], ["--max_num_seqs", "64"], ["--max_num_seqs=64"]):
        assert flag(["vllm", "serve", "m", *argv], "--max-num-seqs") == "64"
        assert integer(argv, "--max-num-seqs") == 64
    assert flag(["x", "-np", "4"], "--parallel", "-np") == "4"
    assert flag(["x"], "--port") is None
    assert integer(["x"], "--port") is None
    assert integer(["--max-model-len", "9" * 5000], "--max-model-len") is None


def test_the_last_flag_counts_and_a_flag_is_no_value() -> None:
    assert flag(["--port", "1", "--port=2"], "--port") == "2"
    assert flag(["--enforce-eager", "--port", "1"], "--enforce-eager") == ""
    assert flag(["--port"], "--port") == ""
    assert flag(["--port="], "--port") == ""
    assert flag(["--max-model-len", "-1"], "--max-model-len") == "-1"
    assert flag(["--", "--port", "1"], "--port") is None
    assert flag(["--override", '{"a": "--port=9"}', "--port-range", "5"], "--port") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("4096", 4096), ("32k", 32_000), ("32K", 32_768), ("25.6k", 25_600), ("1M", 1 << 20), ("-1", -1)),
        *(("auto", None), ("1.5K", None), ("4 096", None), ("", None), ("k", None)),
    ],
)
def test_numbers_are_read_as_vllm_reads_them(text: str, number: int | None) -> None:
    assert integer(["--max-model-len", text], "--max-model-len") == number


def test_a_real_command_line() -> None:
    line = (CAPTURES / "vllm.ps.txt").read_text().splitlines()[0]
    argv = line.split()[5:]
    assert served_model(argv) == "qwen3-tiny"
    assert (integer(argv, "--port"), integer(argv, "--max-model-len")) == (18000, 4096)
    assert integer(argv, "--max-num-seqs") is None
    assert flag(argv, "--enforce-eager") == ""
    assert served_model(["vllm", "serve", "/models/q", "--port", "1"]) == "/models/q"
    assert served_model(["python", "-m", "x.api_server", "--model=q"]) == "q"
    assert served_model(["vllm", "serve", "--port", "1"]) is None
    assert served_model([]) is None
