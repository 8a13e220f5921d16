"""Bars, sparklines, areas and the chart over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Region

from qtop.ui.widgets.chart import TimeChart
from qtop.ui.widgets.marks import area, bar, nice_top, peak, spark

VALUES = st.lists(st.none() | st.floats(), max_size=40)
TOPS = st.none() | st.floats(0, 1e12)


@pytest.mark.parametrize(
    ("value", "drawn"),
    [
        (0.0, "    "),
        (0.5, "██  "),
        (0.53, "██▏ "),
        (1.0, "████"),
        (7.0, "████"),
        (-1.0, "    "),
        (math.nan, "    "),
        (math.inf, "████"),
    ],
)
def test_a_bar_fills_in_eighths(value: float, drawn: str) -> None:
    assert bar(value, 4) == drawn


def test_a_bar_in_ascii_fills_in_halves() -> None:
    assert [bar(value / 8, 4, ascii=True) for value in (0, 1, 2, 3, 8)] == ["    ", "-   ", "#   ", "#-  ", "####"]


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.integers(0, 30), st.booleans())
def test_a_larger_value_never_has_a_shorter_bar(a: float, b: float, width: int, ascii: bool) -> None:
    short, long = (bar(value, width, ascii=ascii) for value in sorted((a, b)))
    assert len(short) == len(long) == width
    assert short.rstrip() == long.rstrip() or len(short.rstrip()) <= len(long.rstrip())
    assert short.isascii() and long.isascii() if ascii else True


def test_a_spark_tells_zero_from_nothing() -> None:
    assert spark([0, None, 4, 8, math.nan, 99, -3], 8, 8) == " ▁ ▄█ █▁"
    assert spark([0, None, 4, 7], 4, 7, ascii=True) == "_ -#"


def test_a_spark_shows_the_newest_and_scales_to_what_it_shows() -> None:
    assert spark([1000, 1, 2, 4], 3, None) == "▂▄█"
    assert spark([], 3, None) == "   "
    assert spark([0, 0], 2, None) == "▁▁"


@given(VALUES, st.integers(0, 30), TOPS, st.booleans())
def test_a_spark_is_as_wide_as_asked_and_blank_only_without_a_value(
    values: list[float | None], width: int, top: float | None, ascii: bool
) -> None:
    drawn = spark(values, width, top, ascii=ascii)
    assert len(drawn) == width
    shown = values[-width:] if width else []
    blanks = [value is None or math.isnan(value) for value in shown]
    assert [mark == " " for mark in drawn] == [True] * (width - len(shown)) + blanks
    assert drawn.isascii() if ascii else True


def test_an_area_puts_two_values_in_a_cell() -> None:
    assert area([1, 2, 3, 4], 2, 1, 4) == ["⣠⣾"]
    assert area([0, 8, None, 5], 2, 2, 8) == ["⢸⢀", "⣸⢸"]
    assert area([1], 2, 1, 1) == [" ⢸"]
    assert area([0, 6, None, 4], 2, 2, 6, ascii=True) == ["#.", "##"]


@given(VALUES, st.integers(0, 20), st.integers(0, 5), TOPS, st.booleans())
def test_an_area_has_the_size_asked_for(
    values: list[float | None], width: int, height: int, top: float | None, ascii: bool
) -> None:
    rows = area(values, width, height, top, ascii=ascii)
    assert [len(row) for row in rows] == [width] * height
    if not height or not width:
        return
    shown = [None] * max(0, 2 * width - len(values)) + values[-2 * width :]
    empty = [all(value is None or math.isnan(value) for value in shown[i : i + 2]) for i in range(0, 2 * width, 2)]
    assert [mark == " " for mark in rows[-1]] == empty


@pytest.mark.parametrize(
    ("value", "top"), [(0.1, 0.1), (0.11, 0.2), (3, 5), (5, 5), (5.1, 10), (999, 1000), (0, 1), (-4, 1), (math.nan, 1)]
)
def test_a_nice_top(value: float, top: float) -> None:
    assert nice_top(value) == top


@given(st.floats(1e-290, 1e290))
def test_a_nice_top_is_close_above(value: float) -> None:
    assert value <= nice_top(value) < 2.6 * value


def test_the_peak_leaves_out_what_is_no_number() -> None:
    assert peak([1, None, math.nan, math.inf, 3]) == 3
    assert peak([None]) == 0
    assert peak([-5]) == 0


class ChartApp(App[None]):
    """One chart of 10 x 2 cells: 20 buckets of a second."""

    CSS = "TimeChart { width: 10; height: 2; }"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def compose(self) -> ComposeResult:
        yield TimeChart(**self.options)

    @property
    def rows(self) -> list[str]:
        chart = self.query_one(TimeChart)
        return [chart.render_line(y).text for y in range(chart.size.height)]


async def with_chart(check: Callable[[ChartApp, TimeChart], None], **options: Any) -> None:
    app = ChartApp(**options)
    async with app.run_test() as pilot:
        await pilot.pause()
        check(app, app.query_one(TimeChart))


async def test_a_chart_moves_left_and_changes_no_column_it_has_drawn() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, t % 7) for t in range(100, 120)])
        before = app.rows
        assert before[-1].strip() == before[-1]
        chart.add(120.4, 3)
        assert app.rows == before
        chart.add(121, 5)
        assert [row[:9] for row in app.rows] == [row[1:] for row in before]
        now = app.rows
        chart.add(121.9, 0)
        assert [row[:9] for row in app.rows] == [row[:9] for row in now]
        assert app.rows != now

    await with_chart(check, scale=7, jump=1)


async def test_a_jump_leaves_room_on_the_right() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, t * 5 % 7 + 1) for t in range(960, 1000)])
        ends = []
        for t in range(1000, 1016):
            chart.add(t, t * 5 % 7 + 1)
            ends.append(len(app.rows[-1].rstrip()))
        assert ends == [10, 9, 9, 10] * 4

    await with_chart(check, scale=8, jump=2)


async def test_a_constant_costs_nothing_once_the_chart_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        for t in range(1000, 1021):
            chart.add(t, 4)
        asked: list[Region] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions: asked.extend(regions))
        assert app.rows[-1].strip() == app.rows[-1]
        for t in range(1021, 1040):
            chart.add(t, 4)
        assert asked == []
        for t in range(1040, 1044):
            chart.add(t, 1)
        assert asked
        assert app.rows[0].rstrip() != app.rows[0]

    await with_chart(check, scale=4, jump=2)


async def test_what_is_drawn_does_not_depend_on_when() -> None:
    points = [(t / 3, (t * 7919) % 11) for t in range(3000, 3070)]

    def check(app: ChartApp, chart: TimeChart) -> None:
        for t, value in points:
            chart.add(t, value)
        one_by_one = app.rows
        chart.set_points(reversed(points))
        assert app.rows == one_by_one

    await with_chart(check, scale=11)


@pytest.mark.parametrize("options", [{"scale": 8}, {}, {"jump": 1}, {"scale": 8, "bucket": 3.0}])
async def test_a_value_that_is_passed_over_changes_nothing(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        (1000 + t * 0.4, None if t % 17 == 0 else (t * 7919) % 13 * (8.0 if 60 < t < 70 else 1)) for t in range(200)
    ]

    async def pictures() -> list[list[str]]:
        seen: list[list[str]] = []

        def check(app: ChartApp, chart: TimeChart) -> None:
            for t, value in points:
                chart.add(t, value)
                seen.append(app.rows)

        await with_chart(check, **options)
        return seen

    quick = await pictures()
    monkeypatch.setattr(TimeChart, "_unseen", lambda *_: False)
    assert quick == await pictures()


async def test_a_gap_is_blank_and_zero_is_not() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, None if 104 <= t < 108 else 0) for t in range(100, 120)])
        assert app.rows == [" " * 10, "⣀⣀  ⣀⣀⣀⣀⣀⣀"]
        chart.add(121, None)
        assert app.rows[-1] == "⣀  ⣀⣀⣀⣀⣀⣀ "
        chart.add(math.nan, 5)
        chart.add(121, math.nan)
        assert app.rows[-1] == "⣀  ⣀⣀⣀⣀⣀⣀ "

    await with_chart(check, scale=1, jump=1)


async def test_a_bucket_shows_the_mean() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.add(101.1, 2)
        chart.add(101.8, 6)
        mean = app.rows
        chart.set_points([(101, 4)])
        assert app.rows == mean

    await with_chart(check, scale=8)


async def test_a_clock_set_back_starts_the_chart_afresh() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, 1) for t in range(1000, 1020)])
        chart.add(1015, 1)
        assert len(app.rows[-1].strip()) == 10
        chart.add(401, 1)
        assert app.rows[-1].strip() == "⢸"

    await with_chart(check, scale=1, jump=1)


async def test_an_automatic_scale_follows_but_does_not_waver() -> None:
    def check(_: ChartApp, chart: TimeChart) -> None:
        tops = []
        for value in (3, 5, 7, 4, 3.2):
            chart.set_points([(100, value)])
            tops.append(chart.top)
        assert tops == [5, 5, 10, 10, 10]
        chart.set_points([(100, 2)])
        assert chart.top == 2
        chart.scale = 100
        assert (chart.scale, chart.top) == (100, 100)

    await with_chart(check)


async def test_only_the_changed_columns_are_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, t * 5 % 7) for t in range(980, 1010)])
        asked: list[Region] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions: asked.extend(regions))
        chart.add(1010, 4)
        assert asked == []
        chart.add(1011, 4)
        chart.add(1011.5, 4)
        assert sorted(region.size for region in asked)[-1] <= (1, 1)
        assert len({region.x for region in asked}) == 1
        asked.clear()
        chart.add(1012, None)
        assert asked == []

    await with_chart(check, scale=4, jump=2)


async def test_a_chart_in_ascii() -> None:
    def check(app: ChartApp, chart: TimeChart) -> None:
        chart.set_points([(t, t % 5) for t in range(100, 120)])
        assert "".join(app.rows).isascii()
        assert len(app.rows[-1].strip()) == 10

    await with_chart(check, ascii=True, scale=5)


@pytest.mark.parametrize("options", [{"bucket": 0}, {"bucket": math.nan}, {"jump": 0}])
def test_a_chart_needs_a_bucket_and_a_jump(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        TimeChart(**options)
