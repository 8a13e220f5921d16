"""What qtop says of a real vLLM, against the server's own /metrics and /server_info and against /proc, read by hand.

Of a counter that moves, two readings by hand enclose qtop's, so that every bound is exact and none is a matter of time.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.load import streams
from tests.fakes.real_vllm import NAME, RealVllm

from qtop.collect import discover
from qtop.collect.engine.vllm import Vllm
from qtop.collect.http import Access, open_client
from qtop.collect.procs import ProcsCollector
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_UNREACHABLE
from qtop.model.engines import engine_view
from qtop.model.frame import EngineView, SchedView, Waterfall
from qtop.model.sched import sched_view
from qtop.model.waterfall import waterfall
from qtop.sample import Absent, EngineSample, Reading, ServerProcs

QTOP = (sys.executable, "-m", "qtop")
PATIENCE_S = 60.0
STREAMS = 4
SPAN_S = 6.0
"""Between the two looks under load: some requests begin and end in it."""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("QTOP_API_KEY", raising=False)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*QTOP, *words], capture_output=True, text=True, timeout=120, check=False)


def document(*words: str, status: int = EXIT_OK) -> dict[str, Any]:
    """The JSON document that these words print."""
    done = run(*words)
    assert done.returncode == status, done.stderr
    return dict(json.loads(done.stdout))


def fetch(server: RealVllm, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        return str(answer.read().decode())


def metrics(server: RealVllm) -> dict[str, float]:
    """/metrics by hand: the sum of the series of each name."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^vllm:(\w+)(?:\{.*\})? (\S+)$", fetch(server, "/metrics"), re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def wait_idle(server: RealVllm) -> None:
    wait_for(lambda: metrics(server)["num_requests_running"] == 0)


# ---- found, and idle


def test_it_is_found_without_being_named(vllm: RealVllm) -> None:
    [found] = [one for one in discover.candidates() if one.pid == vllm.pid]
    assert found.url == vllm.url


def test_who_it_is(vllm: RealVllm) -> None:
    server = document("snapshot", "--pid", str(vllm.pid))["server"]
    told = {name: server[name] for name in ("url", "engine", "model", "version", "max_model_len", "max_running")}
    assert told == {
        "url": vllm.url,
        "engine": "vllm",
        "model": NAME,
        "version": json.loads(fetch(vllm, "/version"))["version"],
        "max_model_len": 2048,
        "max_running": 16,
    }


def test_nothing_holds_up_an_idle_server(vllm: RealVllm) -> None:
    wait_idle(vllm)
    told = document("doctor", "--seconds", "8", "--json", "--url", vllm.url)
    states = {one["rule"]: one["state"] for one in told["findings"]}
    assert states["QT201"] == "clear" and told["verdict"]["rule"] is None


def test_its_processes_have_their_roles(vllm: RealVllm) -> None:
    sched = document("snapshot", "--url", vllm.url)["sched"]
    mains = {one["process"]: one["role"] for one in sched["threads"] if one["pid"] == one["tid"]}
    assert mains["vllm serve"] == "api" and mains["VLLM::EngineCore"] == "engine" and mains["VLLM::Worker"] == "worker"
    assert {one["role"] for one in sched["critical"]} == {"api", "engine"}


# ---- its settings


def test_the_plan_says_the_cache_that_it_made(vllm: RealVllm, vllm_environment: Path) -> None:
    told = document("plan", "--url", vllm.url, "--vllm", str(vllm_environment), "--json")
    made = re.search(r'kv_cache_size_tokens="(\d+)"', fetch(vllm, "/metrics"))
    assert made is not None and told["memory"]["kv_tokens"] == int(made[1])
    assert told["checked"] is True, told["checked_text"]
    assert told["compared"]["rows"][0]["measured"].replace(" ", "") == made[1]


def test_its_own_tokenizer_is_timed_by_its_own_python(vllm: RealVllm, vllm_environment: Path) -> None:
    words = ("--gpu", "h100", "--measure", "--vllm", str(vllm_environment), "--json")
    told = document("plan", "--model", str(vllm.model), *words)
    assert re.search(r"tokenizer: \d[\d ]* tokens a second on one CPU", told["measured"][0]), told["measured"]


def settings(server: RealVllm) -> dict[str, Any]:
    """The settings, once /server_info has answered: the first time it takes seconds."""
    held: dict[str, Any] = {}

    def complete() -> bool:
        held.update(document("snapshot", "--url", server.url)["settings"])
        return not held["missing"]

    wait_for(complete)
    return held


def test_the_settings_in_force_are_those_of_server_info(vllm: RealVllm) -> None:
    told = {one["name"]: one for group in settings(vllm)["groups"].values() for one in group}
    config = json.loads(fetch(vllm, "/server_info?config_format=json"))["vllm_config"]
    scheduler, cache = config["scheduler_config"], config["cache_config"]
    for name in ("max_num_seqs", "max_num_batched_tokens", "stream_interval", "long_prefill_token_threshold"):
        assert told[name]["value"] == str(scheduler[name])
    for name in ("block_size", "num_gpu_blocks", "kv_cache_size_tokens", "kv_cache_memory_bytes"):
        assert told[name]["value"] == str(cache[name])
    for name, section in (("async_scheduling", scheduler), ("enable_prefix_caching", cache)):
        assert told[name]["value"] == ("on" if section[name] else "off")
    assert told["VLLM_CPU_KVCACHE_SPACE"]["source"] == "environment"
    assert (told["max_num_seqs"]["source"], told["enforce_eager"]["source"]) == ("config file", "command line")
    assert told["enable_per_request_metrics"]["value"] == "on"
    assert told["max_num_seqs"]["note"] == "confirmed by /server_info; default 128"
    assert told["max_model_len"]["note"].startswith("confirmed by /v1/models")


def test_no_default_that_qtop_knows_of_this_version_is_another(vllm: RealVllm) -> None:
    told = [one for group in settings(vllm)["groups"].values() for one in group]
    wrong = [one for one in told if one["source"].startswith("/") and "default" in one["note"]]
    assert wrong == []
    assert sum(one["source"].startswith("default of vLLM") for one in told) > 15


# ---- its numbers under load


@dataclass(frozen=True)
class Look:
    """qtop's reading, enclosed by two by hand."""

    before: dict[str, float]
    sample: EngineSample
    after: dict[str, float]


@dataclass(frozen=True)
class Span:
    """Two looks; ``bounds`` is what a counter can have grown by between qtop's own two readings."""

    first: Look
    last: Look

    @property
    def seconds(self) -> float:
        return self.last.sample.at - self.first.sample.at

    def bounds(self, name: str) -> tuple[float, float]:
        return (
            self.last.before[name] - self.first.after[name],
            self.last.after[name] - self.first.before[name],
        )

    def mean_bounds(self, name: str) -> tuple[float, float]:
        """Of a histogram's mean, in ms."""
        (low, high), (few, many) = self.bounds(f"{name}_sum"), self.bounds(f"{name}_count")
        return 1000 * low / many, 1000 * high / few


@pytest.fixture(scope="module")
def loaded(vllm: RealVllm) -> Span:
    """Two looks at a server with some streams in flight."""
    adapter = Vllm()
    with streams(vllm.port, STREAMS), open_client(Access(vllm.url), timeout=30.0) as client:

        def look() -> Look:
            for _ in range(3):  # one lost reading is a gap of a second to qtop, and no fault of the figures
                before = metrics(vllm)
                sample = adapter.scrape(client)
                if isinstance(sample, EngineSample):
                    break
            assert isinstance(sample, EngineSample), sample
            return Look(before, sample, metrics(vllm))

        wait_for(lambda: metrics(vllm)["request_success_total"] >= STREAMS)
        first = look()
        enough = first.after["request_success_total"] + 2 * STREAMS
        time.sleep(SPAN_S)
        wait_for(lambda: metrics(vllm)["request_success_total"] >= enough)
        wait_for(lambda: metrics(vllm)["num_requests_running"] >= 1)  # streams that began together end together
        last = look()
    wait_idle(vllm)
    return Span(first, last)


def view(span: Span) -> EngineView:
    return engine_view("vllm", span.first.sample, span.last.sample)


def within(reading: Reading[float], bounds: tuple[float, float], scale: float = 1.0) -> None:
    assert not isinstance(reading, Absent), reading
    low, high = bounds
    assert high > 0 and low - 1e-6 <= reading * scale <= high + 1e-6


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("gen_tok_s", "generation_tokens_total"),
        ("prompt_tok_s", "prompt_tokens_total"),
        ("steps_s", "iteration_tokens_total_count"),
        ("finished_s", "request_success_total"),
    ],
)
def test_rates_agree_with_the_counters(loaded: Span, name: str, counter: str) -> None:
    within(getattr(view(loaded), name), loaded.bounds(counter), loaded.seconds)


def test_the_gap_between_tokens_agrees_with_its_histogram(loaded: Span) -> None:
    within(view(loaded).itl_ms, loaded.mean_bounds("inter_token_latency_seconds"))


def test_one_api_server_counts_each_step_once(loaded: Span) -> None:
    told = view(loaded)
    assert not isinstance(told.steps_s, Absent) and not isinstance(told.gen_tok_s, Absent)
    assert told.gen_tok_s / STREAMS <= told.steps_s * 1.05  # a step gives each stream one token at most


def test_gauges_are_those_of_the_moment(loaded: Span) -> None:
    told = view(loaded)
    last = loaded.last
    # vLLM sets its gauges at a step with output: beside the readings by hand they may be a step older or newer.
    assert not isinstance(told.running, Absent) and 0 <= told.running <= STREAMS
    by_hand = {one["num_requests_running"] for one in (last.before, last.after)}
    assert len(by_hand) > 1 or told.running in by_hand
    assert told.waiting == 0 and told.preempt_s == 0
    assert not isinstance(told.kv_use, Absent) and 0 <= told.kv_use < 0.1
    assert len(told.engines) == 1 and told.engines[0].running == told.running


def test_the_waterfall_agrees_with_the_histograms(loaded: Span) -> None:
    told = waterfall("vllm", loaded.first.sample, loaded.last.sample)
    assert isinstance(told, Waterfall)
    stages = {stage.name: stage.ms for stage in told.stages}
    for stage in ("queue", "prefill", "decode"):
        within(stages[stage], loaded.mean_bounds(f"request_{stage}_time_seconds"))
    within(told.ttft_ms, loaded.mean_bounds("time_to_first_token_seconds"))
    within(told.finished, loaded.bounds("request_success_total"))


def scheduled(pid: int) -> tuple[int, int]:
    """Nanoseconds that a process's main thread ran and waited, by hand."""
    run_ns, wait_ns, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(run_ns), int(wait_ns)


def test_shares_of_its_main_threads_agree_with_proc(vllm: RealVllm) -> None:
    pids = tuple(discover.server_tree(vllm.pid))
    collector = ProcsCollector(lambda: pids, start_ticks=discover.start_ticks(vllm.pid))

    def look() -> tuple[dict[int, tuple[int, int]], ServerProcs, dict[int, tuple[int, int]]]:
        before = {pid: scheduled(pid) for pid in pids}
        sample = collector.read()
        assert isinstance(sample, ServerProcs)
        return before, sample, {pid: scheduled(pid) for pid in pids}

    with streams(vllm.port, STREAMS):
        wait_for(lambda: metrics(vllm)["num_requests_running"] == STREAMS)
        first = look()
        time.sleep(3.0)
        last = look()
    collector.close()
    wait_idle(vllm)
    told = sched_view(first[1], last[1], "vllm", (None, None))
    assert isinstance(told, SchedView)
    span = 1e9 * (last[1].at - first[1].at)
    mains = [one for one in told.threads if one.tid == one.pid and one.role in ("api", "engine", "worker")]
    assert len(mains) == 3
    for one in mains:
        for which, share in enumerate((one.run, one.wait)):
            low = last[0][one.pid][which] - first[2][one.pid][which]
            high = last[2][one.pid][which] - first[0][one.pid][which]
            assert low <= share * span + 1000 and (share == 1.0 or share * span <= high + 1000)
    assert max(one.run for one in mains) > 0.1


# ---- a test prompt, and the end


def test_a_test_prompt_is_timed_and_counted_as_the_server_counts_it(vllm: RealVllm) -> None:
    wait_idle(vllm)
    before = metrics(vllm)
    [result] = document("probe", "--json", "--url", vllm.url)["results"]
    wait_idle(vllm)
    after = metrics(vllm)
    assert result["ok"] and result["finish_reason"] == "length"
    assert 0 < result["ttft_ms"] < result["e2e_ms"]
    assert result["itl_ms"]["n"] > 10 and 0 < result["itl_ms"]["p50"] <= result["itl_ms"]["max"]
    grew = {name: after[name] - before[name] for name in ("generation_tokens_total", "prompt_tokens_total")}
    assert result["completion_tokens"] == grew["generation_tokens_total"] == 64
    assert result["prompt_tokens"] == grew["prompt_tokens_total"]
    server_ms = 1000 * (after["time_to_first_token_seconds_sum"] - before["time_to_first_token_seconds_sum"])
    assert result["ttft_ms"] >= server_ms * 0.9  # the client's clock encloses the server's


def test_a_server_that_is_killed_is_told_in_one_line(vllm: RealVllm) -> None:
    words = [*QTOP, "doctor", "--seconds", "10", "--url", vllm.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as doctor:
        time.sleep(4.0)
        assert doctor.poll() is None
        vllm.kill()
        out, err = doctor.communicate(timeout=PATIENCE_S)
    assert doctor.returncode == EXIT_UNREACHABLE and err == ""
    assert f"the server (pid {vllm.pid}) ended; waiting for it at {vllm.url}" in out.splitlines()[0]
    again = run("probe", "--url", vllm.url)
    assert again.returncode in (EXIT_UNREACHABLE, EXIT_FINDING) and again.stderr.count("\n") == 1
    assert not Path(f"/proc/{vllm.pid}").exists()
