"""The waterfall as a staircase, what is laid over it, and the memory roofline: pure functions."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from tests.fakes.node import Node
from tests.fakes.stub_source import Machine

from qtop.model import roofline
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame, SchedView, Stage, ThreadView, VramSplit, Waterfall
from qtop.model.overlay import Waits, decode_floor_ms
from qtop.model.roofline import present
from qtop.model.settings import SettingsView
from qtop.sample import NOT_YET, Absent, Reading, ServerInfo, Setting, Why
from qtop.ui.cells import width_of
from qtop.ui.look import choose
from qtop.ui.panels.waterfall import FIGURE_CELLS, NAME_CELLS, ROWS, waterfall_lines

LOOK = choose("truecolor", {"LANG": "C.UTF-8"})
UNSEEN = Absent(Why.UNSUPPORTED, "the server cannot see it: the test prompt tells")
TIMES = {"frontend": 5.0, "queue": 0.001, "prefill": 95.0, "decode": 900.0}


def fall(times: dict[str, float], client: Reading[float] = UNSEEN) -> Frame:
    stages = (Stage("client", client), *(Stage(name, ms) for name, ms in times.items()))
    return Frame(0.0, 1.0, waterfall=Waterfall(30.0, 12.0, stages, 100.0, 9.0, 100.0))


def bars(frame: Frame, width: int) -> dict[str, tuple[int, int, str]]:
    """First cell, the one after the last, and the figure of each stage."""
    found = {}
    for line in waterfall_lines(LOOK, frame, width, ROWS)[1:-1]:
        text = "".join(part.text for part in line)
        area = text[NAME_CELLS : width - FIGURE_CELLS]
        begin = len(area) - len(area.lstrip())
        found[text[:NAME_CELLS].strip()] = (begin, len(area.rstrip()), text[width - FIGURE_CELLS :].strip())
    return found


@pytest.mark.parametrize("width", [40, 58, 78, 118, 158, 198])
def test_each_stage_begins_where_the_one_before_ended(width: int) -> None:
    room = width - NAME_CELLS - FIGURE_CELLS - 1
    found = bars(fall(TIMES), width)
    assert list(found) == ["client", *TIMES]
    begin = 0.0
    for name, ms in TIMES.items():
        first, end, figure = found[name]
        assert abs(first - begin / 1000.0 * room) <= 1, name
        begin += ms
        assert end - first >= 1, "a stage that takes any time has a cell"
        assert abs(end - begin / 1000.0 * room) <= 1.5, name
        assert figure.endswith(" ms")
    assert found["decode"][1] == room, "the places add up to the whole"
    assert found["client"][2] == "–"


def test_no_line_of_it_is_too_wide_and_there_are_as_many_whatever_is_known() -> None:
    frames = (
        fall(TIMES),
        fall({"prefill": 1e6, "decode": 1e-6}, 3.0),
        replace(fall(TIMES), cpu_wait={"decode": 0.8}, decode_floor_ms=400.0),
        fall({"decode": 0.0}),
        Frame(0.0, 1.0),
        Frame(0.0, 1.0, waterfall=Absent(Why.UNSUPPORTED, "no metrics " * 30)),
    )
    for frame in frames:
        for width in range(40, 200):
            lines = waterfall_lines(LOOK, frame, width, ROWS)
            assert all(sum(width_of(part.text) for part in line) <= width for line in lines), width
    assert [len(waterfall_lines(LOOK, frame, 100, ROWS)) for frame in frames] == [7, 5, 7, 7, 7, 7]


def test_waiting_is_hatched_in_proportion_and_the_roofline_stands_where_decoding_could_end() -> None:
    room = 118 - NAME_CELLS - FIGURE_CELLS - 1
    frame = replace(fall(TIMES), cpu_wait={"decode": 0.5, "prefill": 0.01}, decode_floor_ms=300.0)
    rows = {
        "".join(part.text for part in line)[:NAME_CELLS].strip(): "".join(part.text for part in line)
        for line in waterfall_lines(LOOK, frame, 118, ROWS)[1:-1]
    }
    hatch = LOOK.stage_char("cpu_wait")
    assert rows["decode"].count(hatch) == pytest.approx(0.45 * room, abs=1.5)
    assert hatch not in rows["prefill"], "one in a hundred is not drawn"
    begin = rows["decode"].index(LOOK.stage_char("decode"))
    assert rows["decode"].index("┃") - begin == pytest.approx(0.3 * room, abs=1)
    axis = "".join(part.text for part in waterfall_lines(LOOK, frame, 118, ROWS)[-1])
    assert "waits for a CPU 50 %" in axis and "roofline 300 ms" in axis
    slower = replace(frame, decode_floor_ms=5000.0)
    assert "┃" not in "".join(part.text for part in waterfall_lines(LOOK, slower, 118, ROWS)[-2])


# What is laid over it


def thread(role: str, wait: float) -> ThreadView:
    return ThreadView(1, 1, "x", role, 0.1, wait, 0.0, 10.0, "0-3")


def node_frame(machine: Machine | None = None, seconds: int = 5) -> Frame:
    deriver = Deriver()
    for sample in (machine or Node()).samples(0, seconds):
        found = deriver.push(sample)
    return found


def waiting(*threads: ThreadView) -> SchedView:
    sched = node_frame().sched
    assert isinstance(sched, SchedView)
    return replace(sched, critical=threads)


def test_waits_are_means_over_the_window_by_who_does_the_stage() -> None:
    waits = Waits(3.0)
    assert waits.push(1.0, waiting(thread("engine", 0.9), thread("engine", 0.3), thread("api", 0.1))) == {
        **dict.fromkeys(("queue", "prefill", "decode"), 0.9),
        "frontend": 0.1,
    }
    assert waits.push(2.0, waiting(thread("engine", 0.3)))["decode"] == pytest.approx(0.6)
    assert waits.push(2.5, waiting(thread("engine", 0.3)))["frontend"] == pytest.approx(0.1), "mean of what is known"
    assert waits.push(5.2, waiting(thread("engine", 0.3)))["decode"] == pytest.approx(0.3)
    assert waits.push(1.0, waiting(thread("engine", 0.5)))["decode"] == 0.5, "a replay went back"
    assert waits.push(2.0, NOT_YET) == {}


def test_sglang_s_scheduler_is_no_frontend_and_one_thread_without_a_role_is_all() -> None:
    assert set(Waits(3.0).push(1.0, waiting(thread("scheduler", 0.5)))) == {"queue", "prefill", "decode"}
    assert set(Waits(3.0).push(1.0, waiting(thread("", 0.5)))) == {"frontend", "queue", "prefill", "decode"}


def test_the_floor_of_decoding() -> None:
    frame = node_frame()
    engine, view = frame.engine, fall(TIMES).waterfall
    assert isinstance(engine, EngineView) and isinstance(view, Waterfall)
    assert decode_floor_ms(view, engine, 4000.0) == 100.0 * 40 / 4000.0 * 1000.0
    for args in ((NOT_YET, engine, 1.0), (view, NOT_YET, 1.0), (view, engine, UNSEEN), (view, engine, 0.0)):
        assert isinstance(decode_floor_ms(*args), Absent)
    assert isinstance(decode_floor_ms(replace(view, tokens=NOT_YET), engine, 1.0), Absent)
    assert isinstance(decode_floor_ms(view, replace(engine, running=0.0), 1.0), Absent)


# The roofline

WEIGHTS = 2 * 4_022_468_096
KV = 147_456
POOL = 2 * 426_960.0
"""Tokens, of both engines of the node."""


def bytes_a_step(held: float, copies: int = 1) -> float:
    return copies * WEIGHTS + held * KV


def peak(frame: Frame) -> float:
    assert not isinstance(frame.gpus, Absent)
    found = [roofline.bandwidth_of(gpu) for gpu in roofline.gpus_of_server(frame.gpus)]
    return sum(one or 0.0 for one in found)


def test_two_data_parallel_engines_on_two_gpus() -> None:
    """Each step reads the weights of its own engine; the pool is that of both, its use the fuller one's."""
    frame = node_frame()
    assert peak(frame) == pytest.approx(2 * 3.35e12, rel=0.01)
    found = present(frame)
    assert found.tok_s == pytest.approx(40 * peak(frame) / bytes_a_step(0.3 * POOL, 2))
    assert isinstance(found.dram, Absent) and "API servers" in found.dram.detail  # two of them count the steps
    assert isinstance(frame.engine, EngineView)
    found = present(replace(frame, engine=replace(frame.engine, steps_s=100.0)))
    assert found.dram == pytest.approx(100 * (WEIGHTS + 0.3 * POOL / 2 * KV) / peak(frame))


def one_engine(frame: Frame) -> Frame:
    assert isinstance(frame.engine, EngineView)
    return replace(frame, engine=replace(frame.engine, engines=frame.engine.engines[:1]))


def test_one_engine_over_two_gpus_reads_its_weights_once_with_the_bandwidth_of_both() -> None:
    frame = one_engine(node_frame())
    assert present(frame).tok_s == pytest.approx(40 * peak(frame) / bytes_a_step(0.3 * POOL))


def with_settings(frame: Frame, **values: str) -> Frame:
    settings = tuple(Setting(name, value, "command line") for name, value in values.items())
    return replace(frame, settings=SettingsView({"memory": settings}))


def test_an_fp8_cache_halves_what_a_token_takes_and_quantised_weights_are_unknown() -> None:
    frame = one_engine(node_frame())
    fp8 = present(with_settings(frame, kv_cache_dtype="fp8_e5m2"))
    assert fp8.tok_s == pytest.approx(40 * peak(frame) / bytes_a_step(0.15 * POOL))
    assert roofline.kv_pool_bytes(with_settings(frame, kv_cache_dtype="fp8")) == POOL * KV / 2
    assert roofline.kv_pool_bytes(frame) == POOL * KV
    for plain in ("none", "None", "auto"):
        assert present(with_settings(frame, quantization=plain)) == present(frame)
    found = present(with_settings(frame, quantization="awq"))
    assert isinstance(found.tok_s, Absent) and "quantised" in str(found.tok_s)
    assert isinstance(found.dram, Absent)


def test_the_peak_is_the_driver_s_else_the_data_sheet_s_by_name() -> None:
    frame = node_frame()
    assert not isinstance(frame.gpus, Absent)
    gpu = frame.gpus[0]
    assert roofline.bandwidth_of(gpu) == pytest.approx(2619e6 * 2 * 5120 / 8, rel=0.001)
    named = replace(gpu, bandwidth=NOT_YET)
    assert roofline.bandwidth_of(named) == 3.35e12
    assert roofline.bandwidth_of(replace(named, name="NVIDIA H100 PCIe")) == 2.0e12
    assert roofline.bandwidth_of(replace(named, name="NVIDIA T4")) is None
    unknown = replace(frame, gpus=(replace(named, name="NVIDIA T4"),))
    assert present(unknown).tok_s == roofline.UNKNOWN


def test_what_is_not_known_gives_no_roofline_and_an_idle_server_says_so() -> None:
    frame = node_frame()
    assert isinstance(frame.engine, EngineView) and isinstance(frame.server, ServerInfo)
    other = msgspec.structs.replace(frame.server, model="some/other-model")
    for lacking in (
        replace(frame, server=NOT_YET),
        replace(frame, server=other),
        replace(frame, engine=NOT_YET),
        replace(frame, gpus=NOT_YET),
        replace(frame, gpus=()),
    ):
        assert present(lacking).tok_s == roofline.UNKNOWN
    assert present(replace(frame, engine=replace(frame.engine, running=0.0))).tok_s == roofline.IDLE
    stepless = present(replace(frame, engine=replace(frame.engine, steps_s=NOT_YET)))
    assert isinstance(stepless.tok_s, float) and stepless.dram == NOT_YET


def test_gpus_without_memory_of_the_server_do_not_count() -> None:
    frame = node_frame()
    assert not isinstance(frame.gpus, Absent)
    assert [gpu.index for gpu in roofline.gpus_of_server(frame.gpus)] == [0, 1]
    unknown = tuple(replace(gpu, vram=VramSplit(NOT_YET, NOT_YET, 0, 0)) for gpu in frame.gpus)
    assert [gpu.index for gpu in roofline.gpus_of_server(unknown)] == [], "which of several is not known"
    assert roofline.gpus_of_server(unknown[:1]) == unknown[:1]


@pytest.mark.parametrize("width", range(8, 40))
def test_a_narrow_terminal_has_one_bar(width: int) -> None:
    lines = waterfall_lines(LOOK, fall(TIMES), width, ROWS)
    assert len(lines) >= 3


@pytest.mark.parametrize("name", ["Qwen3-4B-Instruct-FP8", "qwen3-4b-awq", "Qwen3-4B-GPTQ-Int4", "qwen3-4b-Q4_K_M"])
def test_a_checkpoint_that_is_quantised_by_its_name_has_no_roofline(name: str) -> None:
    frame = node_frame()
    assert not isinstance(frame.server, Absent)
    found = present(replace(frame, server=msgspec.structs.replace(frame.server, model=name)))
    assert found.tok_s == roofline.QUANTISED and found.dram == roofline.QUANTISED


def test_a_server_faster_than_its_weights_allow_is_not_held_against_them() -> None:
    frame = node_frame()
    bound = present(frame).tok_s
    assert isinstance(bound, float) and not isinstance(frame.engine, Absent)
    fast = present(replace(frame, engine=replace(frame.engine, gen_tok_s=bound * 1.5)))
    assert fast.tok_s == roofline.FASTER
