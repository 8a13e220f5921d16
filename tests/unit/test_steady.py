"""Figures on the screen that only noise moves: they stand still, and a real change is shown within seconds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from qtop.ui.steady import HOLD_S, Steady


def shown(readings: Iterable[float], step: float = 1.0, dt: float = 1.0) -> list[float]:
    figure = Steady(step)
    return [figure.show(1000.0 + number * dt, value) for number, value in enumerate(readings)]


def test_noise_between_two_values_changes_nothing() -> None:
    assert set(shown([3.4, 3.6, 3.4, 3.6] * 20)) == {3.0}


def test_a_large_change_is_shown_at_once() -> None:
    assert shown([3, 3, 30, 90, 3]) == [3, 3, 30, 90, 3]


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
def test_a_drift_is_never_left_behind_by_more_than_the_slack(slope: float) -> None:
    readings = [slope * number for number in range(200)]
    for real, drawn in zip(readings, shown(readings), strict=True):
        assert abs(real - drawn) <= 2.0 + 0.5


def test_the_same_moment_twice_is_one_reading() -> None:
    figure = Steady(1.0)
    assert [figure.show(5.0, 3), figure.show(5.0, 90), figure.show(6.0, 90)] == [3, 3, 90]


def test_a_time_that_goes_back_begins_anew() -> None:
    figure = Steady(1.0)
    assert [figure.show(1000.0, 3), figure.show(10.0, 4.2)] == [3, 4]


def test_steps_are_in_the_figures_unit() -> None:
    assert shown([0.312], step=0.01) == [pytest.approx(0.31)]
    assert shown([149, 151, 149, 151], step=100.0) == [100, 100, 100, 100]
