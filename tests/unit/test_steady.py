"""Figures on the screen that only noise moves: they stand still, and a real change is shown within seconds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from tests.build import T0, server

from qtop.model.frame import Frame, HostView, OwnView, Stage, Waterfall
from qtop.model.history import History
from qtop.sample import NOT_YET, Absent, Reading, Why
from qtop.ui.look import choose
from qtop.ui.panels.header import Status, header_line, key_line
from qtop.ui.panels.waterfall import waterfall_lines
from qtop.ui.steady import HOLD_S, Calm, Steady
from qtop.units import percent


def shown(readings: Iterable[float], step: float = 1.0, dt: float = 1.0) -> list[float]:
    figure = Steady(step)
    return [figure.show(1000.0 + number * dt, value) for number, value in enumerate(readings)]


def test_noise_between_two_values_changes_nothing() -> None:
    assert set(shown([3.4, 3.6, 3.4, 3.6] * 20)) == {3.0}


def test_a_large_change_is_shown_at_once_and_the_next_one_within_seconds() -> None:
    assert shown([3, 3, 30, 90, 60, 9, 9, 9, 9, 50]) == [3, 3, 30, 30, 30, 9, 9, 9, 9, 50]


def test_a_figure_that_never_rests_is_redrawn_every_few_seconds() -> None:
    values = shown([number * 7919 % 97 for number in range(60)])
    changes = sum(one != other for one, other in pairwise(values))
    assert 60 / HOLD_S / 2 <= changes <= 60 / HOLD_S


@pytest.mark.parametrize("dt", [0.25, 1.0, 5.0])
def test_a_small_change_that_stays_is_shown_within_seconds(dt: float) -> None:
    readings = [3.0] * 4 + [4.0] * 40
    values = shown(readings, dt=dt)
    changed = values.index(4.0)
    assert (changed - 4) * dt <= HOLD_S
    assert values == [3.0] * changed + [4.0] * (len(values) - changed)


def test_what_takes_its_place_is_the_mean_of_the_readings_since() -> None:
    assert shown([10, 11, 12, 11.2, 11])[-2:] == [11, 11]


@pytest.mark.parametrize("slope", [0.01, 0.3, 1.0, 7.0])
def test_a_drift_is_never_left_behind_by_more_than_the_slack_or_a_few_seconds(slope: float) -> None:
    readings = [slope * number for number in range(200)]
    for real, drawn in zip(readings, shown(readings), strict=True):
        assert abs(real - drawn) <= max(2.0, slope * HOLD_S) + 0.5


def test_the_same_moment_twice_is_one_reading() -> None:
    figure = Steady(1.0)
    assert [figure.show(5.0, 3), figure.show(5.0, 90), figure.show(6.0, 90)] == [3, 3, 90]


def test_a_time_that_goes_back_begins_anew() -> None:
    figure = Steady(1.0)
    assert [figure.show(1000.0, 3), figure.show(10.0, 4.2)] == [3, 4]


def test_steps_are_in_the_figures_unit() -> None:
    assert shown([0.312], step=0.01) == [pytest.approx(0.31)]
    assert shown([149, 151, 149, 151], step=100.0) == [100, 100, 100, 100]


def host(busy: Reading[float]) -> HostView:
    return HostView(4, busy, {}, 0.0, NOT_YET, 0.1, NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET)


def test_a_frame_is_drawn_with_its_noisy_figures_steadied() -> None:
    calm, history = Calm(), History()
    cpu, busy, tty = [], [], []
    for second in range(40):
        own = OwnView(0.012 + second % 2 / 250, 0, 140.0 + second % 3 * 20, 0.0)
        frame = Frame(float(second), 1.0, host=host(0.034 + second % 2 / 250), own=own)
        history.add(frame)
        drawn = calm.frame(frame, history)
        assert isinstance(drawn.own, OwnView) and isinstance(drawn.host, HostView)
        cpu.append(percent(drawn.own.cpu))
        busy.append(percent(drawn.host.busy))
        tty.append(drawn.own.tty_bytes_s)
        assert isinstance(frame.host, HostView) and frame.host.busy == pytest.approx(0.034 + second % 2 / 250)
    assert set(busy) == {"3 %"}
    assert len(set(cpu[5:])) == 1
    assert len(set(tty[5:])) == 1


def test_what_is_absent_stays_absent_and_comes_back_as_it_is() -> None:
    calm, history = Calm(), History()
    assert calm.frame(Frame(1.0, 1.0), history) == Frame(1.0, 1.0)
    shares = []
    readings: list[Reading[float]] = [0.5, Absent(Why.LOST, "gone"), 0.51]
    for t, value in enumerate(readings):
        drawn = calm.frame(Frame(float(t), 1.0, host=host(value)), history).host
        assert isinstance(drawn, HostView)
        shares.append(percent(drawn.busy))
    assert shares == ["50 %", "–", "51 %"]


@pytest.mark.parametrize(
    ("cpu", "sent", "text"),
    [
        (0.02, 20.0, "   2 % CPU <0.1 kB/s"),
        (0.02, 640.0, "   2 % CPU  0.6 kB/s"),
        (1.0, 12_340.0, " 100 % CPU 12.3 kB/s"),
        (NOT_YET, NOT_YET, "     – CPU         –"),
    ],
)
def test_own_cost_is_always_as_wide(cpu: Reading[float], sent: Reading[float], text: str) -> None:
    look, keys = choose("truecolor", {"LANG": "C.UTF-8"}), (("q", "quit", "app.quit"),)
    for width in (80, 120, 200):
        line = "".join(segment.text for segment in key_line(look, width, keys, own=OwnView(cpu, 0, sent, 0.0)))
        assert line.endswith(f"qtop{text} ") and len(line) == width
    narrow = "".join(segment.text for segment in key_line(look, 60, keys, own=OwnView(cpu, 0, sent, 0.0)))
    assert narrow.strip() == "q quit"  # keys matter more
    told = "".join(segment.text for segment in key_line(look, 120, keys, "recorded", OwnView(cpu, 0, sent, 0.0)))
    assert told.strip() == "recorded"


@pytest.mark.parametrize(
    ("age", "text"), [(0, "up < 2 min"), (119, "up < 2 min"), (120, "up 2 min"), (7260, "up 2h01m")]
)
def test_the_servers_age_is_in_minutes(age: float, text: str) -> None:
    frame = Frame(T0 + age, 1.0, server=msgspec.structs.replace(server(), started=T0))
    line = header_line(choose("truecolor", {"LANG": "C.UTF-8"}), frame, Status(interval=1.0), 120)
    assert f"{text} " in "".join(segment.text for segment in line)


@pytest.mark.parametrize(("seconds", "text"), [(17.2, "17"), (29.4, "29"), (30.0, "30"), (30.9, "30"), (41.0, "41")])
def test_the_window_of_the_waterfall_is_nominal_once_it_is_full(seconds: float, text: str) -> None:
    stages = (Stage("queue", 3.0, ""),)
    fall = Waterfall(seconds, 2.0, stages, NOT_YET, NOT_YET, NOT_YET, NOT_YET, True, "")
    lines = waterfall_lines(choose("truecolor", {"LANG": "C.UTF-8"}), Frame(1.0, 1.0, waterfall=fall), 100)
    assert f"(last {text} s)" in lines[0][0].text
