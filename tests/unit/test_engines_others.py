"""Adapters of engines that qtop has not been run against: told apart and read by their documented answers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.fakes.behaved import capture
from tests.fakes.hostile import KEY, Hostile, Route
from tests.fakes.wire import JSON, PLAIN

from qtop.collect.discover.servers import recognise
from qtop.collect.engine.base import EngineAdapter
from qtop.collect.engine.identify import identify
from qtop.collect.engine.ollama import Ollama
from qtop.collect.engine.openai import OpenAi
from qtop.collect.engine.sglang import SgLang
from qtop.collect.engine.tgi import Tgi
from qtop.collect.engine.triton import Triton
from qtop.collect.engine.trtllm import TrtLlm
from qtop.collect.http import Access, open_client
from qtop.sample import Absent, EngineSample, ModelSample, Why
from qtop.sample.series import split_series

NO: Route = (404, JSON, b"{}")


def metrics(engine: str) -> Route:
    return 200, PLAIN, capture(f"{engine}.metrics.txt")


def models(owner: str) -> Route:
    return 200, JSON, msgspec.json.encode({"data": [{"id": "m", "owned_by": owner, "max_model_len": 8192}]})


SGLANG = {
    "/v1/models": models("sglang"),
    "/metrics": metrics("sglang"),
    "/server_info": (200, JSON, capture("sglang.server_info.json")),
}
TGI = {"/v1/models": models("x"), "/metrics": metrics("tgi"), "/info": (200, JSON, capture("tgi.info.json"))}
TRTLLM = {
    "/v1/models": models("tensorrt_llm"),
    "/metrics": (200, JSON, b"[]"),
    "/prometheus/metrics": metrics("trtllm"),
    "/version": (200, JSON, b'{"version":"1.2.0"}'),
}
TRITON = {
    "/v1/models": NO,
    "/v2": (200, JSON, b'{"name":"triton","version":"2.60.0","extensions":[]}'),
    "/v2/models/stats": (200, JSON, b'{"model_stats":[{"name":"ensemble"},{"name":"a"},{"name":"b"},{"name":"c"}]}'),
}
OLLAMA = {
    "/v1/models": (200, JSON, b'{"object":"list","data":null}'),
    "/api/version": (200, JSON, b'{"version":"0.12.6"}'),
    "/api/ps": (200, JSON, capture("ollama.ps.json")),
}


@pytest.mark.parametrize(
    ("routes", "kind"),
    [
        (SGLANG, SgLang),
        (SGLANG | {"/v1/models": models("a-gateway")}, SgLang),
        (SGLANG | {"/v1/models": (401, JSON, b"{}")}, SgLang),
        (TGI, Tgi),
        (TRTLLM, TrtLlm),
        (TRTLLM | {"/v1/models": models("a-gateway")}, TrtLlm),
        (TRTLLM | {"/v1/models": models("a-gateway"), "/metrics": metrics("trtllm")}, TrtLlm),
        (TRITON, Triton),
        (TRITON | {"/v1/models": models("Triton Inference Server")}, Triton),
        (TRITON | {"/v2": (200, JSON, b'{"name":"another"}')}, Absent),
        (OLLAMA, Ollama),
        (OLLAMA | {"/api/version": (401, JSON, b"{}")}, OpenAi),
        (OLLAMA | {"/api/version": (200, JSON, b'{"version":' + b"9" * 9_000_000)}, OpenAi),
    ],
)
def test_the_engine_is_told(routes: dict[str, Route], kind: type) -> None:
    with Hostile("openai", routes=routes) as server, open_client(Access(server.url)) as client:
        assert type(identify(client)) is kind


def read(adapter: EngineAdapter, routes: dict[str, Route]) -> EngineSample | Absent:
    with Hostile("openai", routes=routes) as server, open_client(Access(server.url)) as client:
        return adapter.scrape(client)


@pytest.mark.parametrize(
    ("make", "routes", "prefixes"),
    [
        (SgLang, SGLANG, {"sglang"}),
        (Tgi, TGI, {"tgi"}),
        (TrtLlm, TRTLLM, {"trtllm"}),
        (Triton, TRITON | {"/metrics": metrics("triton")}, {"nv"}),
    ],
)
def test_its_series_are_kept_and_no_others(
    make: Callable[[], EngineAdapter], routes: dict[str, Route], prefixes: set[str]
) -> None:
    adapter = make()
    sample = read(adapter, routes)
    assert isinstance(sample, EngineSample) and adapter.missing == {}
    assert {split_series(key)[0].replace(":", "_").partition("_")[0] for key in sample.series} == prefixes
    assert not any(key.startswith("nv_gpu") for key in sample.series)
    assert msgspec.json.decode(msgspec.json.encode(sample), type=EngineSample) == sample


@pytest.mark.parametrize(
    ("make", "routes", "why", "clause"),
    [
        (SgLang, {"/metrics": NO}, Why.UNSUPPORTED, "--enable-metrics"),
        (SgLang, {"/metrics": (200, PLAIN, b"python_info 1\n")}, Why.UNSUPPORTED, "no sglang: series yet"),
        (Tgi, {"/metrics": (200, PLAIN, b"")}, Why.UNSUPPORTED, "no tgi_ series yet"),
        (Tgi, {"/metrics": (500, PLAIN, b"")}, Why.FAILED, "HTTP 500"),
        (TrtLlm, {"/prometheus/metrics": NO, "/metrics": (200, JSON, b"[]")}, Why.UNSUPPORTED, "return_perf_metrics"),
        (TrtLlm, {"/prometheus/metrics": (401, JSON, b"")}, Why.DENIED, "API key"),
        (Ollama, {"/api/ps": NO}, Why.UNSUPPORTED, "no /api/ps"),
        (Ollama, {"/api/ps": (200, JSON, b"[")}, Why.FAILED, "not what this route should hold"),
    ],
)
def test_without_metrics_it_says_why(
    make: Callable[[], EngineAdapter], routes: dict[str, Route], why: Why, clause: str
) -> None:
    adapter = make()
    sample = read(adapter, routes)
    assert isinstance(sample, Absent) and sample.why is why and clause in sample.detail
    assert sample in adapter.missing.values()


@pytest.mark.parametrize("mode", ["garbage", "website", "failing", "loading", "reset", "huge", "compressed"])
@pytest.mark.parametrize("make", [SgLang, Tgi, TrtLlm, Triton, Ollama])
def test_no_server_makes_an_adapter_raise(make: Callable[[], EngineAdapter], mode: str) -> None:
    with Hostile(mode) as server, open_client(Access(server.url), 1.0) as client:
        adapter = make()
        adapter.told(("x", "--metrics-port", "9"))
        assert isinstance(adapter.scrape(client), Absent)
        info = adapter.info(client)
    assert not info.verified and info.engine == adapter.name


def test_who_they_are() -> None:
    def info(adapter: EngineAdapter, routes: dict[str, Route], *argv: str) -> tuple[object, ...]:
        with Hostile("openai", routes=routes) as server, open_client(Access(server.url)) as client:
            found = adapter.info(client, argv)
        assert not found.verified
        return found.version, found.model, found.max_model_len, found.max_running

    assert info(SgLang(), SGLANG) == ("0.5.23", "m", 8192, 128)
    older = {k: v for k, v in SGLANG.items() if k != "/server_info"} | {"/get_server_info": SGLANG["/server_info"]}
    assert info(SgLang(), older | {"/v1/models": NO})[:2] == ("0.5.23", "llama-3.1-8b")
    version, model, length, running = info(Tgi(), TGI)
    assert (version, model, length) == ("3.3.4", "HuggingFaceH4/zephyr-7b-beta", 2048)
    assert isinstance(running, Absent) and "by tokens" in running.detail
    assert info(TrtLlm(), TRTLLM, "trtllm-serve", "m", "--max_batch_size=64", "--max_seq_len", "4096") == (
        "1.2.0",
        "m",
        8192 // 2,
        64,
    )
    assert info(Triton(), TRITON)[:2] == ("2.60.0", "a, b, c and 1 more")
    assert info(Ollama(), OLLAMA)[:3] == ("0.12.6", "gemma3:latest", 4096)
    empty = OLLAMA | {
        "/api/ps": (200, JSON, b'{"models":null}'),
        "/api/tags": (200, JSON, b'{"models":[{"name":"q"}]}'),
    }
    assert info(Ollama(), empty)[1] == "q"


def test_the_keys_in_sglangs_settings_are_not_kept() -> None:
    with Hostile("openai", routes=SGLANG) as server, open_client(Access(server.url)) as client:
        assert "SECRET" not in repr(SgLang().info(client))


def test_tritons_metrics_are_read_from_their_own_port_which_gets_no_key() -> None:
    with Hostile("openai", routes=TRITON) as server, Hostile("openai", routes={"/metrics": metrics("triton")}) as other:
        adapter = Triton()
        adapter.told(("tritonserver", f"--metrics-port={other.port}"))
        with open_client(Access(server.url, KEY)) as client:
            sample = adapter.scrape(client)
            again = adapter.scrape(client)
    assert isinstance(sample, EngineSample) and isinstance(again, EngineSample) and again.series == sample.series
    assert [one.path for one in server.seen] == ["/metrics"], "the first port is not asked each time"
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert [one.path for one in other.seen] == ["/metrics"] * 2
    assert not any("authorization" in one.headers for one in other.seen)


def test_a_triton_without_metrics_names_the_port() -> None:
    adapter = Triton()
    adapter.told(("tritonserver", "--metrics-port=1"))
    sample = read(adapter, TRITON)
    assert isinstance(sample, Absent) and "port 1 " in sample.detail and "--allow-metrics" in sample.detail


def test_ollama_tells_its_models() -> None:
    sample = read(Ollama(), OLLAMA)
    assert isinstance(sample, EngineSample) and sample.series == {}
    assert sample.models == (
        ModelSample("gemma3:latest", 6591830464, 5333539264, 1795391227.93355, 4096),
        ModelSample("all-minilm:22m", 46000000, 0, 0.0, 0),  # stays: its end is centuries ahead
    )
    assert msgspec.json.decode(msgspec.json.encode(sample), type=EngineSample) == sample


@pytest.mark.parametrize(
    ("argv", "comm", "engine"),
    [
        (["/usr/bin/python3", "/usr/local/bin/trtllm-serve", "serve", "m"], "trtllm-serve", "trtllm"),
        (["python3", "-m", "tensorrt_llm.commands.serve", "m"], "python3", "trtllm"),
        ([], "trtllm-serve", "trtllm"),
        ([], "text-generation", "tgi"),
        (["text-generation-router", "--port", "80"], "text-generation", "tgi"),
        (["tritonserver", "--model-repository=/m"], "tritonserver", "triton"),
    ],
)
def test_their_processes_are_recognised(argv: list[str], comm: str, engine: str) -> None:
    found = recognise(argv, comm)
    assert found is not None and found.engine == engine
