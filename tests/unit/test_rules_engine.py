"""The rules of the engine, QT301 to QT310: just below and above each threshold, cannot tell for what is absent, and
what looks like the finding and is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.fakes.proctree import ProcTree

from qtop.collect.procs import ProcsCollector
from qtop.diagnose.engine import Finding, Tracker
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Answer, CannotTell, NotApplicable, Observed, Severity, State
from qtop.diagnose.rules.queueing import effective
from qtop.diagnose.whole import diagnose_all
from qtop.model.cpu import SchedView, ThreadView
from qtop.model.derive import Deriver
from qtop.model.engines import TABLES, engine_view
from qtop.model.frame import EngineView, Frame, GpuView, Stage, Waterfall
from qtop.model.sched import sched_view
from qtop.model.serving import LoraView, RankView
from qtop.model.settings import SettingsView
from qtop.record.convert import import_trace
from qtop.record.reader import Recording
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    EngineSample,
    HostSample,
    Sample,
    ServerInfo,
    ServerProcs,
    Setting,
    Why,
    unanswered,
)

NO = Absent(Why.UNSUPPORTED, "not told")
SERVER = ServerInfo(url="http://127.0.0.1:8000", engine="vllm", version="0.32.0", pid=100, max_running=16)
RUNS = EngineView(
    running=4.0,
    waiting=0.0,
    kv_use=0.3,
    preempt_s=0.0,
    gen_tok_s=400.0,
    prompt_tok_s=1000.0,
    steps_s=100.0,
    finished_s=4.0,
    itl_ms=10.0,
    scrape_ms=5.0,
    waiting_by_reason={"capacity": 0.0, "deferred": 0.0},
    kv_capacity_tokens=100_000.0,
    prefix_hit=0.5,
    prefix_queries=20_000.0,
    loras=Absent(Why.UNSUPPORTED, "no LoRA adapter is in use"),
    rejections_s=0.0,
    sleep="awake",
)


def thread(run: float, role: str = "engine", wait: float = 0.0) -> ThreadView:
    return ThreadView(1, 1, "x", role, run, wait, 0.0, 10.0, "0-3", process_role=role)


def sched(*threads: ThreadView, stopped: tuple[str, ...] = ()) -> SchedView:
    return SchedView(
        threads=threads,
        critical=threads[:1],
        processes=2,
        cpu=sum(one.run for one in threads),
        rss_bytes=0,
        allowed="0-3",
        cpuset="0-3",
        quota=None,
        involuntary=0.0,
        competitors=(),
        stopped=stopped,
    )


def gpu(util: float) -> GpuView:
    told: dict[str, Any] = dict.fromkeys(GpuView.__struct_fields__, NO)
    return GpuView(**told | {"index": 0, "util": util, "processes": (), "duty": {}, "duty_window": {}})


def fall(
    frontend: float = 5.0, queue: float = 0.0, prefill: float = 100.0, decode: float = 500.0, **more: Any
) -> Waterfall:
    stages = tuple(
        Stage(name, ms)
        for name, ms in (("frontend", frontend), ("queue", queue), ("prefill", prefill), ("decode", decode))
    )
    given: dict[str, Any] = {
        "seconds": 30.0,
        "finished": 100.0,
        "stages": stages,
        "ttft_ms": frontend + queue + prefill,
        "itl_ms": 10.0,
        "tokens": 50.0,
        "first_tokens": 100.0,
        "trusted": True,
    }
    return Waterfall(**given | more)


def frame(
    server: Any = SERVER, sched: Any = NOT_YET, gpus: Any = NOT_YET, waterfall: Any = NOT_YET, **of: Any
) -> Frame:
    """A frame of a vLLM with figures changed."""
    return Frame(1.0, 1.0, server, replace(RUNS, **of), sched, gpus=gpus, waterfall=waterfall, server_before=server)


def of(engine: str, **more: Any) -> ServerInfo:
    return msgspec.structs.replace(SERVER, engine=engine, **more)


def look(rule: str, one: Frame) -> Answer:
    return BY_ID[rule].look(one)


def seen(rule: str, one: Frame) -> Observed:
    answer = look(rule, one)
    assert isinstance(answer, Observed), answer
    assert 0.0 <= answer.impact <= 1.0
    return answer


def play(rule: str, *parts: tuple[int, Frame]) -> Finding:
    """So many seconds of each frame, one after the other; the last finding."""
    tracker, now = Tracker(BY_ID[rule]), 100.0
    finding: Finding | None = None
    for seconds, one in parts:
        for _ in range(seconds):
            now += 1.0
            finding = tracker.push(replace(one, t=now, dt=1.0))
    assert finding is not None
    return finding


IDLE = frame(running=0.0, gen_tok_s=0.0, prompt_tok_s=0.0, steps_s=0.0, finished_s=0.0, itl_ms=NOT_YET, kv_use=0.0)
QUEUE = {"waiting": 6.0, "waiting_by_reason": {"capacity": 6.0, "deferred": 0.0}}
FULL = frame(kv_use=0.95, running=12.0, **QUEUE)
CAPPED = frame(running=16.0, kv_use=0.2, **QUEUE)
READING = frame(running=4.0, kv_use=0.3, waterfall=fall(prefill=250.0), **QUEUE)
DEAD = {"gen_tok_s": 0.0, "prompt_tok_s": 0.0, "steps_s": 0.0, "finished_s": 0.0, "itl_ms": NOT_YET}
STUCK = frame(sched=sched(thread(0.0)), **DEAD)
RULES = [f"QT30{number}" for number in range(1, 10)] + ["QT310"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("calm", [frame(waterfall=fall()), IDLE])
def test_a_server_that_runs_or_idles_has_no_finding(rule: str, calm: Frame) -> None:
    assert play(rule, (60, calm)).state is not State.FIRING


@pytest.mark.parametrize("rule", RULES)
def test_without_a_server_or_its_numbers_it_cannot_tell(rule: str) -> None:
    none = Absent(Why.LOST, "No LLM server found on this host")
    for one in (
        Frame(1.0, 1.0, none, none),
        Frame(1.0, 1.0, SERVER, Absent(Why.NOT_YET, "looking")),
        Frame(1.0, 1.0, SERVER, NOT_RECORDED),
    ):
        assert isinstance(look(rule, one), CannotTell)


@pytest.mark.parametrize("engine", list(TABLES))
@pytest.mark.parametrize("rule", RULES)
def test_every_engine_gets_an_answer(rule: str, engine: str) -> None:
    sample = EngineSample(at=1.0, scrape_ms=1.0, series={})
    one = Frame(1.0, 1.0, of(engine), engine_view(engine, None, sample), server_before=of(engine))
    answer = look(rule, one)
    assert not isinstance(answer, Observed) or answer.value == 0.0
    if isinstance(answer, Observed):
        assert answer.told.evidence


# --- what each says


@pytest.mark.parametrize(
    ("rule", "one", "words"),
    [
        ("QT301", FULL, "KV CACHE FULL: 95 % of 100 000 tokens, 6 wait"),
        ("QT302", frame(preempt_s=1.5), "REQUESTS ARE PREEMPTED 1.5 times a second"),
        ("QT303", CAPPED, "REQUEST LIMIT REACHED: 16 of 16 run, 6 wait, KV cache 20 % full — raise --max-num-seqs"),
        ("QT304", READING, "READING PROMPTS 83 % of the time: 6 wait"),
        ("QT305", STUCK, "ENGINE STUCK: 4 run, 0 wait"),
        ("QT306", frame(prefix_hit=0.02), "PREFIX CACHE FINDS 2 % of 20 000 prompt tokens"),
        ("QT308", frame(rejections_s=4.0), "REQUESTS ARE REFUSED: 4 a second (50 %)"),
        (
            "QT309",
            frame(waterfall=fall(frontend=400.0)),
            "TOKENIZING TAKES LONG: 400 ms before the queue, 80 % of TTFT",
        ),
    ],
)
def test_it_fires_in_time_and_says_so(rule: str, one: Frame, words: str) -> None:
    finding = play(rule, (20, one))
    assert finding.state is State.FIRING
    assert finding.headline.startswith(words)
    assert len(finding.headline) <= 120
    assert finding.evidence
    assert play(rule, (20, one), (40, IDLE)).state is not State.FIRING


# --- QT301


def test_a_full_cache_is_no_finding_while_nothing_waits_for_room() -> None:
    assert seen("QT301", frame(kv_use=0.99)).value == 0.0
    put_off = frame(kv_use=0.99, waiting=3.0, waiting_by_reason={"capacity": 0.0, "deferred": 3.0})
    assert seen("QT301", put_off).value == 0.0


def test_a_server_that_gives_no_reasons_is_taken_by_all_that_wait() -> None:
    assert seen("QT301", frame(kv_use=0.95, waiting=3.0, waiting_by_reason=NO)).value == 0.95


def test_kv_thresholds() -> None:
    assert play("QT301", (20, frame(kv_use=0.89, running=20.0, **QUEUE))).state is State.CLEAR
    assert play("QT301", (7, FULL)).state is not State.FIRING
    assert play("QT301", (8, FULL)).state is State.FIRING
    between = frame(kv_use=0.85, running=20.0, **QUEUE)
    assert play("QT301", (10, FULL), (60, between)).state is State.FIRING
    assert play("QT301", (10, FULL), (19, frame())).state is State.FIRING
    assert play("QT301", (10, FULL), (20, frame())).state is State.CLEAR


@pytest.mark.parametrize(
    ("use", "running", "expected"),
    [(0.74, 3.0, 0.74), (0.76, 3.0, 0.90), (0.69, 1.0, 0.69), (0.85, 16.0, 0.85), (0.95, 3.0, 0.95), (0.8, 0.0, 0.8)],
)
def test_few_large_requests_fill_a_cache_before_it_is_full(use: float, running: float, expected: float) -> None:
    assert effective(use, running) == expected


@pytest.mark.parametrize("field", ["running", "waiting", "kv_use"])
def test_kv_cannot_tell_without(field: str) -> None:
    without: dict[str, Any] = {field: NO}
    answer = look("QT301", replace(FULL, engine=replace(RUNS, **without)))
    assert isinstance(answer, CannotTell)
    assert "not told" in answer.reason


def test_llama_cpp_has_no_common_cache() -> None:
    for rule in ("QT301", "QT302", "QT304", "QT308"):
        assert isinstance(look(rule, replace(FULL, server=of("llamacpp"))), NotApplicable)


# --- QT302


def test_preemption_now_and_then_is_none() -> None:
    once, none = frame(preempt_s=1.0), frame()
    assert play("QT302", *(((1, once), (9, none)) * 5)).state is State.CLEAR
    assert play("QT302", (3, once)).state is State.FIRING
    assert play("QT302", (3, once), (29, none)).state is State.FIRING
    assert play("QT302", (3, once), (30, none)).state is State.CLEAR
    assert isinstance(look("QT302", frame(preempt_s=NO)), CannotTell)


def test_what_preemption_explains_is_the_turns_that_came_to_nothing() -> None:
    assert seen("QT302", frame(preempt_s=1.0, finished_s=3.0)).impact == 0.25
    assert seen("QT302", frame(preempt_s=0.0)).impact == 0.0


# --- QT303


def test_the_cap_needs_a_queue_and_room() -> None:
    assert seen("QT303", frame(running=16.0, kv_use=0.2)).value == 0.0
    assert seen("QT303", frame(running=15.0, kv_use=0.2, **QUEUE)).value == 0.0
    assert seen("QT303", frame(running=16.0, kv_use=0.85, **QUEUE)).value == 0.0
    assert seen("QT303", frame(running=16.0, kv_use=0.84, **QUEUE)).value == 1.0
    put_off = frame(running=16.0, kv_use=0.2, waiting=3.0, waiting_by_reason={"capacity": 0.0, "deferred": 3.0})
    assert seen("QT303", put_off).value == 0.0


def test_the_cap_is_that_of_each_engine() -> None:
    ranks = tuple(RankView(str(number), 16.0, 3.0, 0.1, 1.0, 1.0) for number in range(2))
    assert seen("QT303", frame(running=20.0, engines=ranks, **QUEUE)).value == 0.0
    assert seen("QT303", frame(running=32.0, engines=ranks, **QUEUE)).value == 1.0


def test_the_cap_must_be_known() -> None:
    untold = of("vllm", max_running=Absent(Why.UNSUPPORTED, "only on its command line"))
    assert seen("QT303", frame(server=untold)).value == 0.0, "nothing waits"
    answer = look("QT303", frame(server=untold, **QUEUE))
    assert isinstance(answer, CannotTell)
    assert "command line" in answer.reason
    assert isinstance(look("QT303", frame(kv_use=NO, running=16.0, **QUEUE)), CannotTell)


def test_llama_cpp_needs_no_kv_gauge() -> None:
    slots = frame(server=of("llamacpp", max_running=4), running=4.0, kv_use=NO, waiting=3.0, waiting_by_reason=NO)
    finding = play("QT303", (6, slots))
    assert finding.state is State.FIRING
    assert finding.headline.startswith("ALL 4 SLOTS BUSY, 3 requests wait")


# --- QT304


def test_prefill_is_not_blamed_for_what_the_cap_or_the_cache_does() -> None:
    assert seen("QT304", READING).value == pytest.approx(250.0 * 100 / 30_000)
    assert seen("QT304", replace(CAPPED, waterfall=fall(prefill=250.0))).value == 0.0
    assert seen("QT304", replace(FULL, waterfall=fall(prefill=250.0))).value == 0.0
    assert seen("QT304", frame(waterfall=fall(prefill=250.0))).value == 0.0
    short = replace(READING, waterfall=fall(prefill=149.0))
    assert play("QT304", (20, short)).state is State.CLEAR
    assert play("QT304", (20, replace(READING, waterfall=fall(prefill=151.0)))).state is State.FIRING


@pytest.mark.parametrize(
    "waterfall", [NO, fall(finished=4.0), fall(seconds=9.0), fall(finished=NO), fall(stages=(Stage("prefill", NO),))]
)
def test_prefill_cannot_tell_without_its_histogram(waterfall: Any) -> None:
    assert isinstance(look("QT304", replace(READING, waterfall=waterfall)), CannotTell)


# --- QT305


def test_stuck_takes_ten_seconds() -> None:
    assert play("QT305", (9, STUCK)).state is not State.FIRING
    finding = play("QT305", (10, STUCK))
    assert (finding.state, finding.severity, finding.impact) == (State.FIRING, Severity.CRITICAL, 1.0)
    assert play("QT305", (10, STUCK), (3, frame(sched=sched(thread(0.5))))).state is State.CLEAR


@pytest.mark.parametrize("moving", ["gen_tok_s", "prompt_tok_s", "steps_s", "finished_s"])
def test_anything_that_moves_is_life(moving: str) -> None:
    assert seen("QT305", frame(sched=sched(thread(0.0)), **DEAD | {moving: 0.5})).value == 0.0


@pytest.mark.parametrize(
    "working",
    [
        {"gpus": (gpu(0.99),), "sched": sched(thread(0.0))},
        {"sched": sched(thread(0.06))},
        {"sched": sched(thread(0.9, "worker"))},
        {},  # nothing of it can be seen: it may compute
    ],
)
def test_a_long_prompt_is_not_stuck_for_three_minutes(working: dict[str, Any]) -> None:
    one = frame(**working, **DEAD)
    assert play("QT305", (170, one)).state is State.CLEAR
    assert play("QT305", (180, one)).state is State.FIRING


def test_an_idle_gpu_is_no_life_though_the_engine_spins() -> None:
    assert seen("QT305", frame(gpus=(gpu(0.0),), sched=sched(thread(1.0)), **DEAD)).value == 1.0
    assert seen("QT305", frame(sched=sched(thread(0.0), thread(0.4, "api")), **DEAD)).value == 1.0


def test_a_stopped_engine_is_stuck_though_its_gauges_froze_at_nothing() -> None:
    one = replace(IDLE, sched=sched(thread(0.0), stopped=("VLLM::EngineCore (pid 7)",)))
    finding = play("QT305", (10, one))
    assert finding.state is State.FIRING
    assert "VLLM::EngineCore (pid 7)" in finding.headline


def test_a_sleeping_engine_gets_its_own_words() -> None:
    one = frame(sched=sched(thread(0.0)), sleep="weights_offloaded", **DEAD)
    assert play("QT305", (10, one)).headline.startswith("ENGINE SLEEPS (weights_offloaded)")
    assert seen("QT305", replace(IDLE, engine=replace(RUNS, running=0.0, sleep="discard_all"))).value == 0.0


def test_engines_that_count_at_the_end_of_a_request_cannot_be_said_to_be_stuck() -> None:
    one = frame(server=of("trtllm"), sched=sched(thread(0.0)), **DEAD | {"steps_s": NO})
    assert isinstance(look("QT305", one), CannotTell)
    assert seen("QT305", frame(server=of("tgi"), sched=sched(thread(0.0)), **DEAD)).value == 1.0
    first = frame(**dict.fromkeys(DEAD, NOT_YET))
    assert "two readings" in look("QT305", first).reason  # type: ignore[union-attr]
    assert isinstance(look("QT305", frame(server=of("ollama"))), NotApplicable)


# --- QT306


def test_the_prefix_cache_is_judged_by_many_tokens_only() -> None:
    assert play("QT306", (20, frame(prefix_hit=0.0, prefix_queries=9_999.0))).state is State.CLEAR
    assert play("QT306", (20, frame(prefix_hit=0.11))).state is State.CLEAR
    finding = play("QT306", (20, frame(prefix_hit=0.09)))
    assert (finding.state, finding.severity, finding.impact) == (State.FIRING, Severity.INFO, 0.0)
    assert isinstance(look("QT306", frame(prefix_queries=NO)), CannotTell)
    assert isinstance(look("QT306", frame(prefix_hit=NO)), CannotTell)


def test_a_server_without_a_prefix_cache_is_not_judged() -> None:
    off = SettingsView({"memory": (Setting("enable_prefix_caching", "off", "command line"),)})
    one = frame(prefix_queries=0.0, prefix_hit=NOT_YET)
    assert isinstance(look("QT306", replace(one, settings=off)), NotApplicable)
    assert seen("QT306", one).value == 0.0


# --- QT307


def adapters(running: tuple[str, ...], waiting: tuple[str, ...], most: Any = 1.0) -> dict[str, Any]:
    return {"loras": LoraView(running, waiting, most, NO)}


def test_adapters_take_turns() -> None:
    thrash = frame(waiting=5.0, waiting_by_reason={"capacity": 0.0, "deferred": 5.0}, **adapters(("a",), ("b", "c")))
    assert play("QT307", (7, thrash)).state is not State.FIRING
    finding = play("QT307", (8, thrash))
    assert finding.state is State.FIRING
    assert finding.headline.startswith("LORA ADAPTERS TAKE TURNS: 3 asked for, 1 fits a batch, 5 requests wait")


def test_vllm_does_not_name_the_adapters_of_requests_that_it_put_off() -> None:
    one = frame(waiting=6.0, waiting_by_reason={"capacity": 0.0, "deferred": 6.0}, **adapters(("a",), ()))
    headline = play("QT307", (8, one)).headline
    assert headline.startswith("LORA ADAPTERS TAKE TURNS: 1 fits a batch, 6 requests wait for theirs")
    room = frame(waiting=6.0, waiting_by_reason={"capacity": 0.0, "deferred": 6.0}, **adapters(("a",), (), 2.0))
    assert seen("QT307", room).value == 0.0


@pytest.mark.parametrize(
    "more",
    [
        {**QUEUE, **adapters(("a",), ("a",))},  # they wait for room, not for an adapter
        {**QUEUE, **adapters(("a",), ("b",), 2.0)},
        {"waiting": 0.0, **adapters(("a",), ("b",))},  # the series of an earlier moment
    ],
)
def test_adapters_that_fit_do_not_take_turns(more: dict[str, Any]) -> None:
    assert seen("QT307", frame(**more)).value == 0.0


def test_adapters_cannot_be_judged_by_their_number() -> None:
    assert isinstance(look("QT307", frame()), NotApplicable)
    assert isinstance(look("QT307", frame(server=of("sglang"), loras=LoraView(NO, NO, 8.0, 8.0))), CannotTell)
    assert isinstance(look("QT307", frame(**adapters(("a",), (), NO))), CannotTell)
    assert isinstance(look("QT307", frame(loras=NOT_YET)), CannotTell)


# --- QT308


def test_refusals() -> None:
    refused = frame(rejections_s=1.0, finished_s=3.0)
    assert play("QT308", (1, refused)).state is not State.FIRING
    finding = play("QT308", (2, refused))
    assert finding.state is State.FIRING
    assert finding.impact == 0.25
    assert play("QT308", (2, refused), (30, frame())).state is State.CLEAR


def test_a_vllm_without_a_limit_refuses_nothing() -> None:
    assert isinstance(look("QT308", frame(server=of("vllm", version="0.25.1"), rejections_s=NO)), NotApplicable)
    assert isinstance(look("QT308", frame(server=of("vllm", version="0.30.0"), rejections_s=NO)), CannotTell)
    assert isinstance(look("QT308", frame(server=of("vllm", version=NO), rejections_s=NO)), CannotTell)


# --- QT309


def test_the_gap_before_the_queue_has_a_floor_and_a_length() -> None:
    assert seen("QT309", frame(waterfall=fall(frontend=49.0, prefill=10.0))).value == 0.0
    assert seen("QT309", frame(waterfall=fall(frontend=60.0, prefill=60.0))).value == 0.5
    long = frame(waterfall=fall(frontend=500.0, prefill=60.0), prompt_tok_s=100_000.0, finished_s=1.0)
    assert seen("QT309", long).value == 0.0  # 100 000 tokens may take that long


@pytest.mark.parametrize("api", [thread(0.86, "api"), thread(0.1, "api", wait=0.11)])
def test_a_saturated_or_starved_api_server_is_another_finding(api: ThreadView) -> None:
    assert seen("QT309", frame(waterfall=fall(frontend=400.0), sched=sched(api))).value == 0.0
    assert seen("QT309", frame(waterfall=fall(frontend=400.0), sched=sched(thread(0.2, "api")))).value == 0.8


def test_an_api_server_that_is_half_busy_is_not_said_to_tokenize() -> None:
    gap = fall(frontend=400.0)
    assert seen("QT309", frame(waterfall=gap, sched=sched(thread(0.2, "api")))).told.headline.startswith("TOKENIZING")
    busy = seen("QT309", frame(waterfall=gap, sched=sched(thread(0.62, "api")))).told
    assert busy.headline.startswith(
        "API SERVER TAKES LONG: 400 ms before the queue, 80 % of TTFT, its main thread is 62 %"
    )
    assert "--stream-interval" in busy.reason


def test_the_gap_is_not_judged_by_means_of_different_requests() -> None:
    doubted = fall(frontend=400.0, trusted=False, why="90 begun, 40 finished")
    assert isinstance(look("QT309", frame(waterfall=doubted)), CannotTell)
    assert isinstance(look("QT309", frame(waterfall=NO)), CannotTell)
    assert isinstance(look("QT309", frame(waterfall=fall(ttft_ms=NO))), CannotTell)
    assert isinstance(look("QT309", frame(server=of("llamacpp"), waterfall=fall(frontend=400.0))), NotApplicable)


# --- QT310

HUNG = Absent(Why.FAILED, "127.0.0.1:8000 accepted but did not answer within 2 s")


def silent(engine: Absent, **more: Any) -> Frame:
    return replace(frame(**more), engine=engine)


@pytest.mark.parametrize("engine", [HUNG, Absent(Why.LOST, "nothing listens on 127.0.0.1:8000")])
def test_silence_for_five_seconds(engine: Absent) -> None:
    one = silent(engine, sched=sched(thread(0.0)))
    assert play("QT310", (4, one)).state is not State.FIRING
    finding = play("QT310", (5, one))
    assert (finding.state, finding.severity, finding.impact) == (State.FIRING, Severity.CRITICAL, 1.0)
    assert finding.headline.startswith("SERVER DOES NOT ANSWER: ")
    assert any(one.value == engine.detail for one in finding.evidence)
    assert play("QT310", (5, one), (2, frame())).state is State.CLEAR


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"sched": sched(thread(0.0), stopped=("python3 (pid 9)",))},
            "a debugger stopped python3 (pid 9) — kill -CONT it",
        ),
        ({"sched": sched(thread(0.0))}, "does nothing — it hangs"),
        ({"sched": sched(thread(0.9))}, "uses 90 % of a CPU and stays silent"),
        ({"sched": NO}, "did not answer within 2 s — see its log"),
        ({"sched": NO, "server": of("vllm", on_host=False)}, "is its host, or the network, down?"),
    ],
)
def test_what_its_process_does_meanwhile(more: dict[str, Any], words: str) -> None:
    assert words in play("QT310", (5, silent(HUNG, **more))).headline


@pytest.mark.parametrize(
    "answer",
    [
        Absent(Why.UNSUPPORTED, "the server has no /metrics"),
        Absent(Why.DENIED, "the server wants an API key"),
        Absent(Why.FAILED, "/metrics answered HTTP 500"),
    ],
)
def test_an_answer_of_any_kind_is_an_answer(answer: Absent) -> None:
    assert play("QT310", (10, silent(answer))).state is State.CLEAR


def test_qtop_itself_standing_still_is_not_the_servers_silence() -> None:
    assert isinstance(look("QT310", silent(Absent(Why.STALE, "qtop stood still for 9 s"))), CannotTell)
    assert isinstance(look("QT310", silent(Absent(Why.NOT_YET, "the server is loading its model"))), CannotTell)


def test_only_a_server_that_was_there_can_be_gone() -> None:
    deriver = Deriver()
    gone = Absent(Why.LOST, "the server (pid 100) ended; waiting for it at http://127.0.0.1:8000")

    def step(at: float, server: ServerInfo | Absent) -> Frame:
        nothing = Absent(Why.NOT_YET, "")
        return deriver.push(
            Sample(t=at, server=server, engine=nothing, procs=nothing, host=nothing, gpu=nothing, wakeup=nothing,
                   own=nothing)
        )  # fmt: skip

    assert isinstance(look("QT310", step(1.0, gone)), CannotTell)
    step(2.0, SERVER)
    answer = seen("QT310", step(3.0, gone))
    assert answer.value == 1.0
    assert answer.told.headline.startswith("SERVER IS GONE: the server (pid 100) ended; waiting for it at ")
    loading = Absent(Why.NOT_YET, "the server is loading its model")
    assert isinstance(look("QT310", step(4.0, loading)), CannotTell)


def test_words_are_made_only_when_read() -> None:
    """A look that built its headline would cost more than it may; ``tell`` is called once, by who reads it."""
    asked: list[str] = []
    real: Callable[[Observed], Any] = Observed.told.fget  # type: ignore[attr-defined]
    for rule in RULES:
        answer = look(rule, FULL)
        if isinstance(answer, Observed):
            assert answer._told is None
            asked.append(real(answer).headline)
    assert asked


def test_a_process_that_a_signal_stopped_is_seen_in_its_stat(tmp_path: Path) -> None:
    tree, states, views = ProcTree(tmp_path), ("S", "T", "t", "R"), []
    host = HostSample(at=1.0, cpus={}, tasks=NOT_RECORDED)
    old: ServerProcs | None = None
    for state in states:
        tree.process(10, "VLLM::EngineCor", state=state)
        new = ProcsCollector(lambda: [10], tree.root).read()
        assert isinstance(new, ServerProcs)
        if old is not None:
            view = sched_view(old, new, "vllm", (host, host))
            assert isinstance(view, SchedView)
            views.append(view.stopped)
        old = new
    stopped = ("VLLM::EngineCor (pid 10)",)
    assert views == [stopped, stopped, ()]


def test_silence_is_told_from_a_bad_answer() -> None:
    assert unanswered(HUNG) and unanswered(Absent(Why.LOST, "nothing listens there"))
    assert not unanswered(Absent(Why.FAILED, "127.0.0.1:8000 does not answer in HTTP: is it another service?"))
    assert not unanswered(Absent(Why.FAILED, "/metrics was not complete after 4 s"))
    assert not unanswered(Absent(Why.STALE, "metrics: no reading for 5 s"))


# --- recordings

ROOT = Path(__file__).parent.parent


def test_long_contexts_on_an_h100_are_told_as_a_full_cache(tmp_path: Path) -> None:
    import_trace(ROOT / "data/traces/longctx.jsonl.xz", tmp_path / "t.qtop")
    whole = diagnose_all(Recording(tmp_path / "t.qtop").samples())
    assert whole is not None
    assert whole.verdict.rule == "QT301"
    assert "426 960 tokens" in whole.verdict.headline
    fired = [turn.t - whole.begin for turn in whole.timeline if turn.rule == "QT301" and turn.state is State.FIRING]
    assert len(fired) == 1 and fired[0] < 20.0  # full from second 10 on


@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*/quiet.qtop")), ids=lambda path: path.parent.name)
def test_none_of_them_warns_on_a_quiet_recording(path: Path) -> None:
    whole = diagnose_all(Recording(path).samples())
    assert whole is not None
    firing = [one for one in whole.findings if one.rule in RULES and one.state is State.FIRING]
    assert [one.headline for one in firing if one.severity is not Severity.INFO] == []
