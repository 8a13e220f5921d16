"""The rules about configuration: thresholds, what cannot be told, and what must not be said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from qtop.collect import discover
from qtop.collect.config_in_force import command_line, server_info
from qtop.collect.engine import installed
from qtop.demo.server import free_port
from qtop.diagnose.engine import Diagnosis, Finding
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Answer, CannotTell, NotApplicable, Observed, Severity, State
from qtop.model import vllm_flags
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame, GpuView, LaunchView, UtilView, VramSplit
from qtop.model.roofline import shape_of
from qtop.model.serving import Latency, LatencyView, Quantile
from qtop.model.settings import SettingsView, in_force
from qtop.model.vllm_defaults import RETIRED, Gpu
from qtop.record.redact import Redactor
from qtop.sample import NOT_RECORDED, NOT_YET, Absent, Launch, Sample, ServerInfo, Setting, Why
from qtop.sample.codec import decode_sample, encode_sample
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE, ENVIRONMENT, METRICS, OPENAPI
from qtop.source.attach import Attachment, Target
from qtop.source.launches import NONE, Launches, told

GIB = 1 << 30
TOTAL = 24 * GIB
QWEN = "Qwen/Qwen3-4B-Instruct-2507"
UNKNOWN = Absent(Why.UNSUPPORTED, "not told")


def info(words: str = "", version: str | Absent = "0.32.0", model: str = QWEN, **fields: object) -> ServerInfo:
    argv = ("/v/bin/python", "/v/bin/vllm", "serve", model, *words.split())
    settings = command_line.settings(argv, "vllm")
    given: dict[str, object] = {
        **{"url": "http://127.0.0.1:8000", "engine": "vllm", "version": version, "model": model, "pid": 7},
        **{"argv": argv, "settings": settings, "started": 1000.0, "bound": "127.0.0.1"},
    }
    return ServerInfo(**{**given, **fields})  # type: ignore[arg-type]


def gpu(
    util: float = 0.9, own: float = 20.0, others: float = 0.0, free: float | None = None, **fields: object
) -> GpuView:
    left = TOTAL - int((own + others) * GIB) if free is None else int(free * GIB)
    given: dict[str, object] = {
        **{"index": 0, "name": "NVIDIA GeForce RTX 4090", "util": util, "mem_used": TOTAL - left, "mem_total": TOTAL},
        **{"temp_c": 60, "power_w": 300.0, "power_limit_w": 425.0, "sm_mhz": 2500, "sm_max_mhz": 3000},
        **{"mem_mhz": 10501, "reasons": (), "duty": {}, "pcie": "gen4 x16", "gpm": UNKNOWN, "processes": ()},
        **{"local_cpus": UNKNOWN, "vram": VramSplit(int(own * GIB), int(others * GIB), left, 0)},
    }
    return GpuView(**{**given, **fields})  # type: ignore[arg-type]


def engine(**fields: object) -> EngineView:
    given: dict[str, object] = {
        **{"running": 16.0, "waiting": 0.0, "kv_use": 0.2, "preempt_s": 0.0, "gen_tok_s": 900.0, "scrape_ms": 2.0},
        **{"prompt_tok_s": 1000.0, "steps_s": 60.0, "finished_s": 2.0, "itl_ms": 15.0, "kv_capacity_tokens": 80_000.0},
    }
    return EngineView(**{**given, **fields})  # type: ignore[arg-type]


def running(
    words: str = "", *more: Setting, version: str | Absent = "0.32.0", gpus: Sequence[GpuView] | Absent | None = None,
    missing: Mapping[str, Absent] | None = None, **fields: object,
) -> Frame:  # fmt: skip
    server = info(words, version, settings_missing=dict(missing or {}))
    told_all = () if isinstance(server.settings, Absent) else server.settings
    server = ServerInfo(
        **{name: getattr(server, name) for name in server.__struct_fields__} | {"settings": (*told_all, *more)}
    )
    view = in_force(server, "", (Gpu(TOTAL, "RTX 4090"),))
    held = gpus if isinstance(gpus, Absent) else tuple(gpus or (gpu(),))
    frame = Frame(1060.0, 1.0, server=server, engine=engine(), gpus=held, settings=view, kv_tokens=80_000.0)
    return replace(frame, **fields)


def launching(
    words: str = "", ended: bool = False, version: str | Absent = "0.32.0", model: str = QWEN,
    gpus: Sequence[GpuView] | Absent | None = None, **fields: object,
) -> Frame:  # fmt: skip
    one = info(words, version, model, **fields)
    view = in_force(one, "", (Gpu(TOTAL, "RTX 4090"),))
    gone = Absent(Why.LOST, "nothing listens")
    held = gpus if isinstance(gpus, Absent) else tuple(gpus or (gpu(own=0.0),))
    return Frame(
        1020.0, 1.0, server=gone, engine=gone, gpus=held, settings=gone, launch=LaunchView(one, view, ended, 20.0)
    )


def look(rule: str, frame: Frame) -> Answer:
    return BY_ID[rule].look(frame)


def value(rule: str, frame: Frame) -> float:
    answer = look(rule, frame)
    assert isinstance(answer, Observed), answer
    assert answer.told.headline
    return answer.value


def headline(rule: str, frame: Frame) -> str:
    answer = look(rule, frame)
    assert isinstance(answer, Observed), answer
    assert len(answer.told.headline) <= 150
    return answer.told.headline


def over(rule: str, frames: Sequence[Frame]) -> Finding:
    diagnosis = Diagnosis([BY_ID[rule]])
    found = None
    for at, frame in enumerate(frames):
        found = diagnosis.push(replace(frame, t=1000.0 + at, dt=1.0))[0]
    assert found is not None
    return found


ALL = [f"QT4{number:02d}" for number in range(1, 11)]


@pytest.mark.parametrize("rule", ALL)
def test_without_a_server_nothing_can_be_told(rule: str) -> None:
    frame = Frame(1.0, 1.0, server=Absent(Why.LOST, "No LLM server found"))
    assert look(rule, frame) == CannotTell("No LLM server found")


@pytest.mark.parametrize("rule", ALL)
def test_of_other_engines_nothing_is_said(rule: str) -> None:
    frame = replace(running(), server=ServerInfo(engine="llamacpp"))
    assert isinstance(look(rule, frame), NotApplicable)
    started = launching()
    assert started.launch is not None
    other = replace(started.launch, info=ServerInfo(engine="sglang"))
    if rule in ("QT401", "QT402", "QT406", "QT409"):
        assert isinstance(look(rule, replace(started, launch=other)), NotApplicable)
    else:
        assert isinstance(look(rule, started), CannotTell)


@pytest.mark.parametrize("rule", ALL)
def test_a_recording_without_settings_is_not_clear(rule: str) -> None:
    bare = ServerInfo(engine="vllm", version=NOT_RECORDED, argv=NOT_RECORDED)
    frame = replace(running(), server=bare, settings=NOT_RECORDED, gpus=NOT_RECORDED)
    assert isinstance(look(rule, frame), CannotTell) or rule == "QT409"


@pytest.mark.parametrize("rule", ALL)
def test_a_plain_server_is_clear(rule: str) -> None:
    frame = running("--max-num-seqs 256", Setting("max_model_len", "32768", COMMAND_LINE))
    assert value(rule, frame) == 0.0


@pytest.mark.parametrize("rule", ["QT403", "QT404", "QT405", "QT410"])
def test_what_nobody_looked_for_is_not_off(rule: str) -> None:
    """A recording from before settings were read has some of /metrics, and no flags."""
    frame = running()
    assert isinstance(frame.server, ServerInfo)
    names = {name: getattr(frame.server, name) for name in frame.server.__struct_fields__}
    bare = ServerInfo(**{**names, "settings": NOT_RECORDED})
    view = SettingsView({"memory": (share("0.92"),)})
    assert isinstance(look(rule, replace(frame, server=bare, settings=view)), CannotTell)


# ---- QT401 and QT409


@pytest.mark.parametrize(
    ("words", "version", "flag"),
    [
        ("--load-in-4bit", "0.32.0", "--load-in-4bit"),
        ("--load_in_8bit", "0.9.2", "--load-in-8bit"),
        ("--quantize awq", "0.32.0", "--quantize"),
        ("--max-new-tokens=512", "0.20.0", "--max-new-tokens"),
        ("--sliding-window 8192", "0.32.0", "--sliding-window"),
        ("--swap-space 4", "0.18.0", "--swap-space"),
        ("--num-scheduler-steps 8", "0.10.2", "--num-scheduler-steps"),
        ("--kv-cache-dtype fp16", "0.9.2", "--kv-cache-dtype fp16"),
        ("--kv-cache-dtype float16", "0.12.0", "--kv-cache-dtype float16"),
        ("--kv-cache-dtype float16", "0.33.0", "--kv-cache-dtype float16"),
        ("--kv-cache-dtype q8", "0.32.0", "--kv-cache-dtype q8"),
    ],
)
def test_flags_that_end_a_start(words: str, version: str, flag: str) -> None:
    assert value("QT401", launching(words, version=version)) == 2.0
    frame = launching(words, ended=True, version=version)
    assert value("QT401", frame) == 3.0
    assert f"VLLM {version} REFUSED {flag} and ended" in headline("QT401", frame)


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ("--swap-space 4", "0.17.9"),
        ("--num-scheduler-steps 8", "0.10.1"),
        ("--kv-cache-dtype float16", "0.32.0"),
        ("--kv-cache-dtype float16 --dtype float16", "0.33.0"),
        ("--kv-cache-dtype q8", "0.25.0"),  # not known of that version
        ("--kv-cache-dtype fp8_e4m3", "0.32.0"),
        ("--kv-cache-dtype int8_per_token_head", "0.32.0"),
        ("--some-flag-of-a-fork", "0.32.0"),
        ("--enable-chunked-prefill --block-size 32", "0.32.0"),
        ("-- --load-in-4bit", "0.32.0"),
    ],
)
def test_flags_that_do_not(words: str, version: str) -> None:
    assert value("QT401", launching(words, ended=True, version=version)) == 0.0


def test_a_server_that_runs_has_not_been_refused_anything() -> None:
    assert value("QT401", running("--load-in-4bit --kv-cache-dtype fp16 --quantization bitsandbytes")) == 0.0
    assert value("QT409", running("--quantization bitsandbytes")) == 0.0


def test_what_is_passed_over_is_an_info() -> None:
    frame = running("--swap-space 4", version="0.17.0")
    assert value("QT401", frame) == 1.0
    assert over("QT401", [frame] * 4).severity is Severity.INFO
    assert value("QT401", running("--disable-log-requests", version="0.16.0")) == 1.0
    assert value("QT401", running("--disable-log-requests", version="0.9.2")) == 0.0


def test_the_demonstration_server_is_gone_since_0_25() -> None:
    argv = ("python", "-m", "vllm.entrypoints.api_server", "--model", "m")
    assert value("QT401", launching(ended=True, version="0.25.0", argv=argv, settings=())) == 3.0
    assert value("QT401", launching(ended=True, version="0.24.0", argv=argv, settings=())) == 0.0


def test_the_config_file_is_refused_like_the_command_line() -> None:
    file = (Setting("load_in_4bit", "on", CONFIG_FILE), Setting("quantization", "bitsandbytes", CONFIG_FILE))
    frame = launching("--config c.yaml", ended=True, settings=file)
    assert value("QT401", frame) == 3.0
    assert value("QT409", frame) == 2.0


def test_without_a_version_only_what_none_takes_is_judged() -> None:
    assert value("QT401", launching("--load-in-4bit", version=UNKNOWN)) == 2.0
    assert isinstance(look("QT401", launching("--swap-space 4", version=UNKNOWN)), CannotTell)
    assert isinstance(look("QT409", launching("--quantization gguf", version=UNKNOWN)), CannotTell)


@pytest.mark.parametrize(
    ("words", "version", "expected"),
    [
        ("--quantization bitsandbytes", "0.28.0", 2.0),
        ("-q bitsandbytes", "0.28.0", 2.0),
        ("--quantization bitsandbytes", "0.27.1", 0.0),
        ("--load-format bitsandbytes", "0.30.0", 2.0),
        ("--quantization=gguf", "0.24.0", 2.0),
        ("--quantization gguf", "0.23.9", 0.0),
        ("--quantization awq", "0.33.0", 0.0),
        ("", "0.33.0", 0.0),
    ],
)
def test_methods_that_a_version_has_no_more(words: str, version: str, expected: float) -> None:
    assert value("QT409", launching(words, ended=True, version=version)) == expected


def test_a_gguf_file_is_named() -> None:
    assert "a .gguf model" in headline("QT409", launching(ended=True, model="/m/q4.gguf"))


def test_what_is_proposed_is_taken_by_the_version() -> None:
    """No remedy names what another entry of the tables refuses."""
    for version in ("0.32.0", "0.33.0"):
        for name in (*RETIRED, "quantize", "sliding_window", "load_in_4bit"):
            words = vllm_flags.refused((f"--{name.replace('_', '-')}",), (), version, False)
            for word in words:
                argv = tuple(part.strip(",:;") for part in word.instead.split())
                assert not vllm_flags.refused(argv, (), version, False), word
                assert not vllm_flags.dropped(argv, (), version), word


def test_a_start_is_named_soon_and_its_end_at_once() -> None:
    frames = [launching("--load-in-4bit")] * 3
    first = over("QT401", frames)
    assert (first.state, first.severity) == (State.FIRING, Severity.WARNING)
    then = over("QT401", [*frames, *[launching("--load-in-4bit", ended=True)] * 3])
    assert (then.state, then.severity) == (State.FIRING, Severity.CRITICAL)
    better = over("QT401", [*frames, *[running()] * 4])
    assert better.state is State.CLEAR


# ---- QT402


def test_a_context_of_256k_is_36_gib() -> None:
    frame = launching("--max-model-len 262144 --gpu-memory-utilization 0.92", ended=True)
    assert value("QT402", frame) > 2.0
    assert "262 144 tokens × 144 KiB = 36.0 GiB" in headline("QT402", frame)
    assert 1.0 < value("QT402", launching("--gpu-memory-utilization 0.92")) < 2.0  # the model's own context
    assert value("QT402", launching("--max-model-len 262144 --kv-cache-dtype fp8", ended=True)) > 2.0


@pytest.mark.parametrize(
    "words",
    [
        "--max-model-len auto", "--max-model-len -1", "--max-model-len 32768", "--max-model-len 131072 -tp 2",
        "--max-model-len 262144 --tensor-parallel-size 4", "--max-model-len 262144 --kv-cache-memory-bytes 40G",
        "--max-model-len 131072 --kv-cache-dtype fp8",
    ],
)  # fmt: skip
def test_what_may_fit_is_not_blamed(words: str) -> None:
    assert value("QT402", launching(words, ended=True)) == 0.0


def test_quantised_weights_are_given_the_benefit_of_the_doubt() -> None:
    words = "--max-model-len 110000"
    assert value("QT402", launching(words, ended=True)) > 2.0
    assert value("QT402", launching(f"{words} --quantization fp8", ended=True)) == 0.0
    assert value("QT402", launching(words, ended=True, model="somebody/Qwen3-4B-Instruct-2507-w")) == 0.0


def test_a_context_that_cannot_be_weighed() -> None:
    assert isinstance(look("QT402", launching(model="other/model")), CannotTell)
    assert isinstance(look("QT402", launching(model="other/model --max-model-len 10")), CannotTell)
    assert isinstance(look("QT402", launching("--max-model-len 262144", gpus=NOT_RECORDED)), CannotTell)
    cpu = launching("--max-model-len 262144", version="0.32.0+cpu", gpus=Absent(Why.UNSUPPORTED, "none"))
    assert isinstance(look("QT402", cpu), CannotTell)
    assert shape_of("qwen3-4b-instruct-2507") is not None and shape_of("llama-3.1-8b") is not None
    assert isinstance(look("QT402", launching(model="openai/gpt-oss-20b")), CannotTell)


def test_the_cpu_build_has_what_it_is_given() -> None:
    space = (Setting("VLLM_CPU_KVCACHE_SPACE", "4", ENVIRONMENT), Setting("max_model_len", "32768", COMMAND_LINE))
    frame = launching(version="0.32.0+cpu", settings=space, ended=True, gpus=Absent(Why.UNSUPPORTED, "none"))
    assert value("QT402", frame) > 2.0
    more = (Setting("VLLM_CPU_KVCACHE_SPACE", "5", ENVIRONMENT), space[1])
    assert value("QT402", launching(version="0.32.0+cpu", settings=more, ended=True)) == 0.0


def test_a_running_server_whose_longest_request_does_not_fit() -> None:
    longest = Setting("max_model_len", "80000", COMMAND_LINE)
    assert value("QT402", running("", longest)) == 0.0
    small = replace(running("", longest), kv_tokens=79_000.0)
    assert over("QT402", [small] * 4).severity is Severity.INFO
    assert isinstance(look("QT402", replace(running("", longest), kv_tokens=NOT_YET)), CannotTell)


# ---- QT403, QT404, QT405


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("QT403", "--enforce-eager"),
        ("QT403", "-O0"),
        ("QT404", "--no-enable-chunked-prefill"),
        ("QT405", "--no-async-scheduling"),
    ],
)
def test_a_switch_is_an_info_and_costs_nothing_that_is_not_seen(rule: str, words: str) -> None:
    answer = look(rule, running(words, gpus=(gpu(util=0.97),)))
    assert isinstance(answer, Observed)
    assert (answer.value, answer.impact) == (1.0, 0.0)
    assert over(rule, [running(words)] * 12).severity is Severity.INFO
    assert value(rule, running()) == 0.0


@pytest.mark.parametrize(("rule", "words"), [("QT403", "--enforce-eager"), ("QT405", "--no-async-scheduling")])
def test_a_gpu_that_idles_while_requests_run(rule: str, words: str) -> None:
    seen = UtilView(10.0, 0, 0.55, 0.02, 60, 3.0, 0.0, 0.0)
    starved = replace(running(words), util=seen)
    answer = look(rule, starved)
    assert isinstance(answer, Observed)
    assert answer.value == 2.0
    assert answer.impact == pytest.approx(0.45)
    assert over(rule, [starved] * 12).severity is Severity.WARNING
    assert over(rule, [starved] * 6).severity is Severity.INFO
    for other in (
        replace(seen, mean=0.76),
        replace(seen, running=0.0),
        replace(seen, running=UNKNOWN),
        replace(seen, wait=0.42),
        UNKNOWN,
    ):
        assert value(rule, replace(starved, util=other)) == 1.0


@pytest.mark.parametrize("rule", ["QT403", "QT405", "QT407"])
def test_rules_about_gpus_do_not_apply_without_one(rule: str) -> None:
    words = "--enforce-eager --no-async-scheduling"
    assert isinstance(look(rule, running(words, gpus=Absent(Why.UNSUPPORTED, "no NVML"))), NotApplicable)
    assert isinstance(look(rule, running(words, version="0.32.0+cpu")), NotApplicable)
    assert isinstance(look(rule, running(words, gpus=Absent(Why.STALE, "NVML hangs"))), CannotTell)


@pytest.mark.parametrize("rule", ["QT403", "QT404", "QT405"])
def test_a_flag_may_stand_where_nobody_could_read(rule: str) -> None:
    hidden = {CONFIG_FILE: Absent(Why.DENIED, "may not be read")}
    assert isinstance(look(rule, running(missing=hidden)), CannotTell)


def test_before_0_14_async_scheduling_is_off_by_design() -> None:
    assert isinstance(look("QT405", running(version="0.13.0")), NotApplicable)
    assert value("QT405", running("--no-async-scheduling", version="0.14.0")) == 1.0
    assert isinstance(look("QT405", running(version=UNKNOWN)), CannotTell)


def test_streams_that_stall_for_prompts() -> None:
    def gaps(mean: float, relation: str = "=") -> LatencyView:
        half = Quantile(10.0, relation, 8.0, 12.0)  # type: ignore[arg-type]
        return LatencyView(30.0, {"itl": Latency("itl", 5000, mean, half, half, half)}.__getitem__)

    off = running("--no-enable-chunked-prefill")
    assert value("QT404", replace(off, latency=gaps(15.0))) == 2.0
    assert value("QT404", replace(off, latency=gaps(14.0))) == 1.0
    assert value("QT404", replace(off, latency=gaps(15.0, ">"))) == 1.0
    assert value("QT404", replace(off, latency=gaps(15.0), engine=engine(preempt_s=0.5))) == 1.0
    assert value("QT404", replace(off, latency=gaps(15.0), engine=engine(running=1.0))) == 1.0


# ---- QT406, QT407, QT408


def share(text: str) -> Setting:
    return Setting("gpu_memory_utilization", text, METRICS)


def test_others_beside_a_large_share() -> None:
    tight = running("", share("0.92"), gpus=(gpu(own=21.5, others=2.3),))
    assert value("QT406", tight) == 1.0
    assert over("QT406", [tight] * 12).severity is Severity.WARNING
    assert over("QT406", [tight] * 6).state is not State.FIRING
    assert "set --gpu-memory-utilization 0.87" in headline("QT406", tight)
    assert value("QT406", running("", share("0.92"), gpus=(gpu(own=21.5, others=1.0),))) == 0.0
    alone = gpu(own=23.7, others=0.1)
    assert value("QT406", running("", share("0.98"), gpus=(alone,))) == 0.0  # nobody else's fault
    late = gpu(own=10.0, others=5.0)  # it may still grow to its share
    assert value("QT406", running("", share("0.92"), gpus=(late,))) == 1.0
    exact = Setting("kv_cache_memory_bytes", str(8 * GIB), COMMAND_LINE)
    assert value("QT406", running("", share("0.92"), exact, gpus=(late,))) == 0.0


def test_a_share_that_was_not_free_at_the_start() -> None:
    assert value("QT406", launching("--gpu-memory-utilization 0.92", True, gpus=(gpu(own=0, others=4),))) == 2.0
    assert value("QT406", launching("--gpu-memory-utilization 0.92", True, gpus=(gpu(own=0, others=1),))) == 0.0
    two = (gpu(own=0, others=4), gpu(own=0, others=0))
    assert value("QT406", launching("--gpu-memory-utilization 0.92", True, gpus=two)) == 0.0
    assert isinstance(look("QT406", launching("--gpu-memory-utilization 0.92")), CannotTell)


def test_whose_memory_it_is_may_not_be_known() -> None:
    split = VramSplit(UNKNOWN, UNKNOWN, 100, 0)
    assert isinstance(look("QT406", running("", share("0.92"), gpus=(gpu(vram=split),))), CannotTell)
    assert isinstance(look("QT406", running("", share("0.92"), gpus=(gpu(vram=UNKNOWN),))), CannotTell)
    assert isinstance(look("QT406", running(version="0.32.0+cpu")), NotApplicable)


def test_a_full_cache_beside_idle_memory() -> None:
    full = engine(kv_use=0.97, waiting=8.0, waiting_by_reason={"capacity": 8.0})
    low = running("", share("0.6"), gpus=(gpu(own=14.5),), engine=full)
    # a third of the time is queueing, and 8 GiB beside 11 could save three quarters of that
    assert value("QT407", low) == pytest.approx(8 / 24 * 8.0 * GIB / (80_000 * 147_456), rel=1e-3)
    small = replace(low, kv_tokens=800_000.0)  # a tenth more ends no queue
    assert over("QT407", [small] * 12).state is State.CLEAR
    assert over("QT407", [low] * 12).severity is Severity.WARNING
    assert "set --gpu-memory-utilization 0.93" in headline("QT407", low)
    for calm in (
        engine(kv_use=0.89, waiting=8.0),
        engine(kv_use=0.97, waiting=0.0),
        engine(kv_use=0.97, waiting=8.0, waiting_by_reason={"capacity": 0.0, "deferred": 8.0}),
    ):
        assert value("QT407", replace(low, engine=calm)) == 0.0
    assert value("QT407", replace(low, gpus=(gpu(own=21.6),))) == 0.0
    assert value("QT407", running("", share("0.92"), gpus=(gpu(own=14.5),), engine=full)) == 0.0
    assert isinstance(look("QT407", replace(low, engine=engine(kv_use=UNKNOWN))), CannotTell)
    assert isinstance(look("QT407", replace(low, engine=UNKNOWN)), CannotTell)
    assert isinstance(look("QT407", replace(low, gpus=(gpu(vram=UNKNOWN),))), CannotTell)


def test_a_cap_that_the_cache_cannot_hold() -> None:
    busy = engine(running=40.0, kv_use=0.97, waiting=1.0, preempt_s=3.0)
    cap = running("--max-num-seqs 512", engine=busy)
    answer = look("QT408", cap)
    assert isinstance(answer, Observed)
    assert answer.value == 2.0
    assert answer.impact == pytest.approx(5820 / 7720, rel=0.01)
    assert "set --max-num-seqs 41" in headline("QT408", cap)
    assert over("QT408", [cap] * 12).severity is Severity.WARNING
    calm = replace(cap, engine=engine(running=40.0, kv_use=0.97, preempt_s=0.0))
    assert value("QT408", calm) == 1.0
    assert value("QT408", running(engine=engine(running=40.0, kv_use=0.97))) == 0.0  # the default's is no finding
    assert value("QT408", running(engine=busy)) == 2.0
    assert value("QT408", replace(cap, engine=engine(running=40.0, kv_use=0.79, preempt_s=3.0))) == 0.0
    assert value("QT408", running("--max-num-seqs 40", engine=busy)) == 0.0
    assert isinstance(look("QT408", replace(cap, engine=engine(preempt_s=UNKNOWN))), CannotTell)
    assert isinstance(look("QT408", replace(cap, engine=engine(kv_capacity_tokens=UNKNOWN))), CannotTell)
    assert isinstance(look("QT408", replace(cap, engine=engine(kv_use=UNKNOWN))), CannotTell)


# ---- QT410

DEV = Setting("VLLM_SERVER_DEV_MODE", "1", ENVIRONMENT)


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("127.0.0.1", 0.0),
        ("127.0.0.1, ::1", 0.0),
        ("0.0.0.0", 1.0),
        ("::", 1.0),
        ("10.0.0.7", 1.0),
        ("127.0.0.1, ::", 1.0),
    ],
)
def test_development_mode_by_where_it_listens(bound: str, expected: float) -> None:
    def frame(*more: Setting) -> Frame:
        one = running("", *more)
        assert isinstance(one.server, ServerInfo)
        names = {name: getattr(one.server, name) for name in one.server.__struct_fields__}
        return replace(one, server=ServerInfo(**{**names, "bound": bound}))

    assert value("QT410", frame(DEV)) == expected
    assert value("QT410", frame()) == 0.0
    assert value("QT410", frame(Setting(DEV.name, "0", ENVIRONMENT))) == 0.0
    assert value("QT410", frame(Setting(DEV.name, "1", OPENAPI))) == expected


def test_development_mode_that_cannot_be_told() -> None:
    denied = {ENVIRONMENT: Absent(Why.DENIED, "may not be read")}
    both = {**denied, OPENAPI: Absent(Why.DENIED, "wants a key")}
    assert isinstance(look("QT410", running(missing=both)), CannotTell)
    assert value("QT410", running("", Setting(DEV.name, "0", OPENAPI), missing=denied)) == 0.0
    one = running("", DEV)
    assert isinstance(one.server, ServerInfo)
    names = {name: getattr(one.server, name) for name in one.server.__struct_fields__}
    assert isinstance(look("QT410", replace(one, server=ServerInfo(**{**names, "bound": UNKNOWN}))), CannotTell)
    assert server_info.DEV_ROUTES[0] == "/collective_rpc"


# ---- a server that starts


def test_a_launch_survives_a_recording_without_its_secrets() -> None:
    argv = ("vllm", "serve", "m", "--api-key", "s3cret", "--load-in-4bit")
    launch = Launch(ServerInfo(engine="vllm", argv=argv, version="0.32.0", started=1000.0), 1013.0)
    line = encode_sample(Redactor().sample(Sample(t=1014.0, launch=launch)))
    assert b"s3cret" not in line
    back = decode_sample(line)
    assert isinstance(back.launch, Launch)
    frame = Deriver().push(back)
    assert frame.launch is not None
    assert (frame.launch.ended, frame.launch.lived_s) == (True, 13.0)
    assert Deriver().push(Sample(t=1.0)).launch is None


def test_what_is_said_of_a_launch() -> None:
    one = info("", "0.32.0")
    assert "vLLM 0.32.0 (pid 7) is starting" in str(told(Launch(one)))
    assert "ended 13 s after its start" in str(told(Launch(one, 1013.0)))
    assert NONE.why is Why.NOT_YET


SLEEPER = "import sys, time; time.sleep(float(sys.argv[-1]))\n"


def test_a_process_that_starts_is_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib/python3.12/site-packages/vllm-0.18.1+cu130.dist-info").mkdir(parents=True)
    script = tmp_path / "bin/vllm"
    script.write_text(SLEEPER)
    port = "45919"
    command = [sys.executable, str(script), "serve", "m", "--load-in-4bit", "--port", port, "--wait", "30"]
    child = subprocess.Popen(command)
    launches = Launches()
    try:
        _until(lambda: launches.look(f"http://127.0.0.1:{port}") is not None)
        seen = launches.current
        assert seen is not None
        assert (seen.info.pid, seen.info.version, seen.ended) == (child.pid, "0.18.1+cu130", 0.0)
        assert not launches.has_ended()
        kept = launches.look("http://127.0.0.1:45920")  # another address has none, and this one is kept
        assert kept is not None
        assert kept.info.pid == child.pid
        assert launches.look("http://192.0.2.7:45919") is None
        _until(lambda: isinstance(launches.current and launches.current.info.settings, tuple))
    finally:
        child.kill()
        child.wait()
    assert launches.has_ended()
    assert launches.current is not None
    assert launches.current.ended > 0
    assert isinstance(launches.current.info.settings, tuple)
    assert not launches.has_ended()
    launches.forget()
    assert launches.current is None


def test_the_search_for_a_server_finds_one_that_starts_and_sees_it_end(tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text(SLEEPER)
    port = str(free_port())
    attachment = Attachment(Target(url=f"http://127.0.0.1:{port}"))
    child = subprocess.Popen([sys.executable, str(script), "serve", "m", "--port", port, "--load-in-4bit", "30"])
    try:
        _until(lambda: "--load-in-4bit" in _words(child.pid))
        said = attachment.read()
        assert isinstance(said, Absent)
        assert said.why is Why.NOT_YET
        assert f"(pid {child.pid}) is starting" in said.detail
    finally:
        child.kill()
        child.wait()
    said = attachment.read()  # at once, though no search is due
    assert isinstance(said, Absent)
    assert said.why is Why.LOST
    assert "before it answered" in said.detail
    assert attachment.launch is not None
    assert attachment.launch.ended > 0
    attachment.choose("http://127.0.0.1:1")
    attachment.read()
    assert attachment.launch is None


def test_a_headless_engine_never_listens(tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text(SLEEPER)
    child = subprocess.Popen([sys.executable, str(script), "serve", "m", "--headless", "30"])
    try:
        _until(lambda: any(word == "--headless" for word in _words(child.pid)))
        assert child.pid not in {one.pid for one in discover.starting()}
    finally:
        child.kill()
        child.wait()


def test_a_version_that_is_nowhere(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER, "30"])
    try:
        assert isinstance(installed.version(child.pid, ("python", "x"), "no-such-package"), Absent)
        assert isinstance(installed.version(child.pid, (f"{tmp_path}/bin/python",), "no-such-package"), Absent)
    finally:
        child.kill()
        child.wait()


def _words(pid: int) -> tuple[str, ...]:
    words = discover.argv(pid)
    return () if isinstance(words, Absent) else words


def _until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_settings_of_a_launch_are_weighed_like_any() -> None:
    frame = launching("--max-model-len 4096")
    assert frame.launch is not None
    assert isinstance(frame.launch.settings, SettingsView)
    assert frame.launch.settings.number("max_model_len") == 4096
