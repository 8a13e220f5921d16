"""Values proposed for flags: what the findings of real recordings reckon, and nothing where nothing calls for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from qtop.act.knobs import knob, proposals
from qtop.act.knobs.flag_knobs import FLAG_KNOBS, TABLE
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Observed
from qtop.errors import Refused
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame
from qtop.model.settings import SettingsView
from qtop.model.several import cap_of
from qtop.record.reader import Recording
from qtop.sample import ServerInfo, Setting

RULES = Path(__file__).parent.parent / "rules"


@cache
def seen(rule: str, which: str = "fires") -> Frame:
    """The frame of a rule's recording in which it sees most of what it is about."""
    deriver = Deriver()
    frames = [deriver.push(sample) for sample in Recording(RULES / rule / f"{which}.qtop").samples()]

    def value(frame: Frame) -> float:
        answer = BY_ID[rule].look(frame)
        return answer.value if isinstance(answer, Observed) else -1.0

    return max(frames, key=value)


def headline(rule: str) -> str:
    answer = BY_ID[rule].look(seen(rule))
    assert isinstance(answer, Observed)
    return answer.told.headline


@pytest.mark.parametrize(
    ("propose", "rule", "word"),
    [
        (proposals.max_num_seqs, "QT408", "--max-num-seqs {}"),
        (proposals.gpu_memory_utilization, "QT407", "--gpu-memory-utilization {}"),
        (proposals.api_server_count, "QT203", "--api-server-count"),
        (proposals.enforce_eager, "QT403", "without --enforce-eager"),
        (proposals.chunked_prefill, "QT404", "without --no-enable-chunked-prefill"),
    ],
)
def test_what_a_finding_names_is_what_is_proposed(propose: Callable[[Frame], str], rule: str, word: str) -> None:
    value = propose(seen(rule))
    assert word.format(value) in headline(rule)


def test_half_the_bytes_a_token_where_requests_wait_for_the_cache_of_a_gpu() -> None:
    frame = seen("QT301")
    with_gpu = replace(frame, gpus=seen("QT407").gpus)
    assert proposals.kv_cache_dtype(with_gpu) == "fp8"
    for other in (frame, replace(with_gpu, engine=seen("QT301", "quiet").engine)):
        with pytest.raises(Refused, match="nothing waits"):
            proposals.kv_cache_dtype(other)


@pytest.mark.parametrize(
    ("version", "engines", "expected"), [("0.13.0", 1, "20000"), ("0.14.0", 1, "auto"), ("0.13.0", 2, "10000")]
)
def test_the_longest_request_that_fits(version: str, engines: int, expected: str) -> None:
    server = ServerInfo(engine="vllm", version=version, max_model_len=40_960)
    engine = seen("QT303").engine
    assert isinstance(engine, EngineView)
    frame = Frame(0.0, 0.0, server=server, kv_tokens=20_000.0, engine=replace(engine, engines=(None,) * engines))
    assert proposals.max_model_len(frame) == expected
    with pytest.raises(Refused, match="fits the KV cache"):
        proposals.max_model_len(replace(frame, kv_tokens=40_960.0 * engines))


def test_more_requests_at_once_as_many_as_fit_and_no_more_than_twice() -> None:
    frame = seen("QT303")
    assert isinstance(frame.engine, EngineView)
    assert isinstance(frame.server, ServerInfo)
    cap, running, use = 16, 16.0, 0.2
    server = replace(frame.server, engine="vllm", max_running=cap)
    engine = replace(
        frame.engine,
        running=running,
        waiting=4.0,
        waiting_by_reason={"capacity": 4.0},
        kv_use=use,
        preempt_s=0.0,
        engines=(),
    )
    assert proposals.max_num_seqs(replace(frame, server=server, engine=engine)) == "32"
    # At 0.6 of the cache 16 leave room for 22 as large.
    assert proposals.max_num_seqs(replace(frame, server=server, engine=replace(engine, kv_use=0.6))) == "22"
    for kv_use, waiting in ((0.9, 4.0), (0.2, 0.0)):
        idle = replace(engine, kv_use=kv_use, waiting=waiting, waiting_by_reason={"capacity": waiting})
        with pytest.raises(Refused, match="nothing waits"):
            proposals.max_num_seqs(replace(frame, server=server, engine=idle))


def test_slots_are_doubled_only_where_something_waits_for_one() -> None:
    frame = seen("QT303")
    assert isinstance(frame.server, ServerInfo)
    if frame.server.engine != "llamacpp":
        frame = replace(frame, server=replace(frame.server, engine="llamacpp"))
    cap = cap_of(frame)
    assert isinstance(cap, int)
    assert proposals.parallel(frame) == str(2 * cap)
    assert isinstance(frame.engine, EngineView)
    with pytest.raises(Refused, match="nothing waits"):
        proposals.parallel(replace(frame, engine=replace(frame.engine, running=0.0)))


@pytest.mark.parametrize("flag", [flag for flag in TABLE if flag.propose is not None], ids=lambda flag: flag.id)
@pytest.mark.parametrize("rule", ["QT110", "QT201"])
def test_a_server_that_is_well_gets_no_proposal(flag: object, rule: str) -> None:
    """Of these, none is about a flag."""
    with pytest.raises(Refused):
        flag.propose(seen(rule, "quiet"))  # type: ignore[attr-defined]


def test_where_nothing_is_known_nothing_is_proposed() -> None:
    for flag in TABLE:
        if flag.propose is not None:
            with pytest.raises(Refused) as told:
                flag.propose(Frame(0.0, 0.0, server=ServerInfo(engine="vllm")))
            assert "\n" not in str(told.value)


def test_each_flag_is_a_knob_that_knows_its_servers() -> None:
    assert {one.id for one in FLAG_KNOBS} == {flag.id for flag in TABLE}
    here = Frame(0.0, 0.0, server=ServerInfo(engine="llamacpp"))
    assert knob("threads").fits(here)
    assert not knob("max-num-seqs").fits(here)
    assert knob("server-flags").fits(here)


def test_switches_are_written_as_the_server_wants_them() -> None:
    server = ServerInfo(engine="vllm")
    frame = Frame(0.0, 0.0, server=server, settings=SettingsView({"x": (Setting("enforce_eager", "on", "x"),)}))
    one = next(each for each in FLAG_KNOBS if each.id == "enforce-eager")
    written = {value: one.asked(frame, server, value)[1][0].text for value in ("on", "off", "default")}
    assert written == {
        "on": "--enforce-eager",
        "off": "--no-enforce-eager",
        "default": "--enforce-eager=default",
    }
    assert one.asked(frame, server, None)[0] == "off"
