"""The lines of the screens at every width, their texts, the charts and what they pick: pure functions of a frame."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import pytest
from msgspec.structs import replace
from tests.fakes.node import FELL, Node
from tests.fakes.stub_source import Machine

from qtop.model.derive import Deriver
from qtop.model.frame import Frame, SchedView
from qtop.model.serving import Quantile
from qtop.sample import NOT_YET, Absent, Reading, Why
from qtop.ui.cells import width_of
from qtop.ui.look import Line, choose
from qtop.ui.panels.gpus import gpu_blocks, gpu_table
from qtop.ui.panels.plot import AXIS, SPANS, Chart, chart_lines, figure, menu_lines, scale_of
from qtop.ui.panels.serving import quantile, serving_lines
from qtop.ui.panels.threads import host_lines, thread_lines
from qtop.ui.panels.waterfall import waterfall_lines
from qtop.ui.plots import BY_ID, PLOTS, busy_plot

LOOK = choose("truecolor", {"LANG": "C.UTF-8"})
ASCII = choose("truecolor", {"LANG": "C"})
MACHINES: dict[str, Machine] = {
    "node": Node(wait=0.8, allowed="3"),
    "bare": Machine(wait=0.8, gpus=1),
    "nobody": Machine(server=False),
    "lost": Machine(server=False, lost={"2": FELL, "10": FELL}),
    "long": Node(model="organisation/" + "very-long-" * 30, gpu_name="NVIDIA " + "long " * 20),
}


@cache
def frame(name: str) -> Frame:
    deriver = Deriver()
    for sample in MACHINES[name].samples(0, 12):
        found = deriver.push(sample)
    return found


def text(lines: list[Line]) -> list[str]:
    return ["".join(part.text for part in line).rstrip() for line in lines]


@pytest.mark.parametrize("look", [LOOK, ASCII], ids=["utf8", "ascii"])
@pytest.mark.parametrize("name", MACHINES)
def test_no_line_is_wider_than_the_screen_at_any_width(name: str, look: object) -> None:
    assert look in (LOOK, ASCII)
    drawn = LOOK if look is LOOK else ASCII
    now = frame(name)
    points = [(now.t - 60 + second, second / 60) for second in range(60)]
    for width in range(58, 200):
        lines = [
            *gpu_table(drawn, now, width),
            *gpu_blocks(drawn, now, width),
            *host_lines(drawn, now, width, "waiting"),
            *thread_lines(drawn, now.sched, width, "waiting"),
            *serving_lines(drawn, now, width),
            *waterfall_lines(drawn, now, width, 7),
            *chart_lines(drawn, Chart(BY_ID["ttft"], 300.0, now.t), points, width, 12),
        ]
        assert [line for line in text(lines) if width_of(line) > width] == [], width


# GPUs


def test_the_table_has_every_gpu_in_its_place_with_what_is_wrong_with_it() -> None:
    rows = text(gpu_table(LOOK, frame("node"), 118))[2:-1]
    assert [row.split()[0] for row in rows] == list("0123456")
    assert "gen3 x8" in rows[1]
    assert rows[2].endswith("the kernel log (Xid) says why")
    assert "MIG, power cap 3 %" in rows[3]
    assert "hw thermal 60 % +1" in rows[4], "the worst, and that there is more"
    assert "hw thermal 60 %, power cap 20 %" in "\n".join(text(gpu_table(LOOK, frame("node"), 158)))
    assert gpu_table(LOOK, frame("bare"), 118) == [], "one GPU needs no table"


def test_each_gpu_has_its_part_of_the_kv_pool_and_processes_with_whole_numbers() -> None:
    blocks = "\n".join(text(gpu_blocks(LOOK, frame("node"), 118)))
    assert blocks.count("KV cache 58.6 GiB, 30 % used") == 2, "two engines of 426 960 tokens × 147 456 B, a GPU each"
    assert "VLLM::EngineCore_DP0 (4000010)" in blocks
    assert "trainer (77)" in blocks and blocks.count("the server") >= 2


def test_lost_gpus_come_in_the_order_of_their_numbers() -> None:
    lines = [line for line in text(gpu_blocks(LOOK, frame("lost"), 80)) if line.startswith("GPU")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "10"]


# Threads


def test_what_the_server_may_use_and_who_its_threads_are() -> None:
    head = text(host_lines(LOOK, frame("node"), 158, "waiting"))
    assert any("may use 1 of 8 (limit: affinity)" in line for line in head), head
    rows = text(thread_lines(LOOK, frame("node").sched, 158, "waiting"))
    assert len(rows) == 54
    assert rows[0].startswith("EngineCore DP0") and "80 %" in rows[0]
    assert any(row.startswith("API server 1") for row in rows)


def test_threads_are_sorted_by_waiting_or_by_running() -> None:
    view = sched(frame("node"))
    one = msgspec.structs.replace(view.threads[0], run=0.1, wait=0.5)
    threads = replace(
        view, threads=(msgspec.structs.replace(one, tid=1, run=0.9, wait=0.0), msgspec.structs.replace(one, tid=2))
    )
    found = [
        [line.split()[3] for line in text(thread_lines(LOOK, threads, 100, sort))] for sort in ("waiting", "running")
    ]
    assert found == [["2", "1"], ["1", "2"]]


def test_threads_that_cannot_be_seen_say_why() -> None:
    lines = text(host_lines(LOOK, frame("nobody"), 100, "waiting"))
    assert lines[-1] == "server    cannot tell: No LLM server found on this host"
    assert thread_lines(LOOK, frame("nobody").sched, 100, "waiting") == []


# Server


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Quantile(280.0, "<", 0.0, 300.0), "< 300 ms"),
        (Quantile(60_000.0, ">", 60_000.0, math.inf), "> 60 s"),
        (Quantile(30.0, "=", 25.0, 50.0), "25–50 ms"),
        (Quantile(900.0, "=", 750.0, 1000.0), "0.75–1 s"),
        (Quantile(7_000.0, "=", 5_000.0, 10_000.0), "5–10 s"),
        (Absent(Why.NOT_YET, "needs 100 requests"), "–"),
    ],
)
def test_a_percentile_is_the_range_in_which_it_surely_lies(value: Reading[Quantile], shown: str) -> None:
    assert quantile(value) == shown


def test_the_server_s_engines_processes_and_what_it_does_not_tell() -> None:
    lines = text(serving_lines(LOOK, frame("node"), 78))
    assert "processes         1 launcher, 2 API servers, 2 EngineCores, 4 workers" in lines
    assert any(line.split() == ["1", "16", "3", "20", "%", "800", "tok/s", "–"] for line in lines)
    told = lines.index(next(line for line in lines if line.startswith("not told")))
    assert "scheduler idle" in "".join(lines[told : told + 3]), "wrapped, not cut"
    assert "KV cache holds    853 920 tokens    labels of vllm:cache_config_info" in lines
    assert text(serving_lines(LOOK, frame("nobody"), 78))[1] == "No LLM server found on this host"


# Plots


@pytest.mark.parametrize("name", [*MACHINES, "nothing"])
def test_every_plot_picks_a_number_or_why_there_is_none(name: str) -> None:
    now = Frame(0.0, 0.0) if name == "nothing" else frame(name)
    for plot in PLOTS:
        value = plot.pick(now)
        assert isinstance(value, (float, int, Absent)), plot.id
        assert plot.scale is None or isinstance(value, Absent) or 0.0 <= value <= plot.scale, plot.id
        if name == "nothing":
            assert isinstance(value, Absent), plot.id
    assert busy_plot(now).id == ("util" if name in ("nobody", "nothing") else "sm")


def test_a_plot_of_several_gpus_or_threads_is_of_the_worst() -> None:
    assert BY_ID["temp"].pick(frame("node")) == 88
    assert BY_ID["wait"].pick(frame("node")) == pytest.approx(0.8)
    assert BY_ID["util"].pick(frame("node")) == pytest.approx(0.37), "the one in MIG mode has none"
    idle = replace(frame("node"), sched=replace(sched(frame("node")), critical=()))
    assert BY_ID["wait"].pick(idle) == NOT_YET


def sched(now: Frame) -> SchedView:
    assert isinstance(now.sched, SchedView)
    return now.sched


def test_the_scale_stays_while_it_fits_and_is_fixed_for_shares() -> None:
    power, kv = BY_ID["power"], BY_ID["kv"]
    assert scale_of(kv, [(0.0, 0.01)], 0.0) == 1.0
    top = scale_of(power, [(0.0, 410.0)], 0.0)
    assert top >= 410.0
    assert scale_of(power, [(0.0, top * 0.4)], top) == top, "it does not jump about"
    assert scale_of(power, [(0.0, top * 1.1)], top) > top
    assert scale_of(power, [(0.0, top * 0.1)], top) < top


@pytest.mark.parametrize("span", SPANS)
def test_a_chart_moves_by_whole_cells_of_absolute_time(span: float) -> None:
    """What is drawn of a moment stays the same column's drawing while time goes on."""

    def drawn(until: float) -> list[str]:
        points = [(t, 0.5 + 0.5 * math.sin(t / 7)) for t in (until - span + s for s in range(int(span) + 1))]
        return text(chart_lines(LOOK, Chart(BY_ID["kv"], span, until), points, AXIS + 60, 12))[1:-3]

    base = 1_800_000_000.0
    begun = drawn(base)
    shifts = set()
    for second in range(1, 31):
        now = drawn(base + second)
        shift = next(
            shift
            for shift in range(60)
            if all(
                a.ljust(AXIS + 60)[AXIS + 20 + shift : AXIS + 50] == b.ljust(AXIS + 60)[AXIS + 20 : AXIS + 50 - shift]
                for a, b in zip(begun, now, strict=True)
            )
        )
        shifts.add(shift)
    assert max(shifts) <= math.ceil(30 / (span / 60)) + 1


def test_the_cursor_reads_the_figure_of_its_moment_and_the_last_line_says_now() -> None:
    plot = BY_ID["power"]
    points: list[tuple[float, float | None]] = [(1000.0 + s, 100.0 + s) for s in range(50)]
    lines = text(chart_lines(LOOK, Chart(plot, 60.0, 1049.0, cursor=1010.0), points, 80, 12))
    assert lines[-1].endswith("110 W") and all("│" in line for line in lines[1:9])
    last = text(chart_lines(LOOK, Chart(plot, 60.0, 1049.0), [*points, (1050.0, None)], 80, 12))[-1]
    assert last == "now –   least 100 W   mean 124 W   most 149 W   p95 146 W", "absent now is not the highest"
    none = Chart(plot, 60.0, 1049.0, why="needs GPM")
    assert text(chart_lines(LOOK, none, [(1000.0, None)], 80, 12))[-1] == "cannot tell: needs GPM"
    assert len(chart_lines(LOOK, none, [], 80, 12)) == 12


def test_the_list_keeps_the_chosen_plot_in_sight() -> None:
    for plot in PLOTS:
        lines = text(menu_lines(LOOK, frame("node"), plot, 8))
        assert len(lines) == 8 and sum(line.startswith("▸") for line in lines) == 1, plot.id
    assert figure(None, BY_ID["kv"]) == "–" and figure(0.314, BY_ID["kv"]) == "31 %"
