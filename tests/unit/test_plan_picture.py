"""What the plan's screen draws agrees with the plan: the map with its arithmetic, the curves with its speeds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.cli import main
from qtop.errors import EXIT_USAGE
from qtop.model.gpus import GPUS
from qtop.model.presets import PRESETS, preset_decoder
from qtop.plan.making import BATCHES, Wish, make
from qtop.plan.picture import COMFORTABLE, curves, first_tokens, fit, grid, lengths, place
from qtop.plan.serving import Model, card
from qtop.plan.speed import decode, prefill
from qtop.plan.vram import at_once
from qtop.ui.panels.plan_memory import thinned
from qtop.ui.widgets.curves import UP, Plane

ORDER = ("easy", "just", "waits", "never")
WISHES = st.builds(
    lambda preset, gpu, context, seqs: Wish(
        model=Model(preset.name, preset_decoder(preset.name), ""), gpu=card(gpu), context=context, seqs=seqs
    ),
    st.sampled_from(PRESETS),
    st.sampled_from(GPUS),
    st.integers(1, 1 << 17),
    st.integers(1, 2048),
)


@settings(max_examples=60, deadline=None)
@given(WISHES)
def test_the_map_agrees_with_the_plan_and_more_never_fits_better(wish: Wish) -> None:
    plan = make(wish)
    found = grid(plan)
    row, column = found.at
    assert (found.seqs[row], found.contexts[column]) == (plan.serving.seqs, plan.serving.context)
    if plan.serving.context <= wish.model.shape.positions:
        assert (found.cells[row][column] == "never") is not plan.fits
    for line in found.cells:
        places = [ORDER.index(cell) for cell in line]
        assert places == sorted(places), "more tokens each"
    for at in range(len(found.contexts)):
        places = [ORDER.index(line[at]) for line in found.cells]
        assert places == sorted(places), "more at once"


def test_the_marks_of_the_map() -> None:
    assert fit(COMFORTABLE, 0.1) == "easy" and fit(COMFORTABLE + 0.01, 0.1) == "just"
    assert fit(1.0, 1.0) == "just" and fit(1.01, 0.5) == "waits"
    assert fit(1.01, 1.01) == "never" and fit(float("inf"), float("inf")) == "never"


@settings(max_examples=30, deadline=None)
@given(WISHES)
def test_the_curves_are_the_plans_own_speeds(wish: Wish) -> None:
    plan = make(wish)
    for curve in curves(plan, BATCHES, 20):
        for point in curve.points:
            assert at_once(wish.model, plan.serving, plan.memory.pool, point.context) >= curve.batch
            assert point == decode(wish.model, wish.gpu, plan.serving, curve.batch, point.context)
            assert point.expected.low <= point.expected.high <= point.bound
    for one in first_tokens(plan, 20):
        assert one == prefill(wish.model, wish.gpu, plan.serving, one.tokens)
        assert one.floor <= one.expected.low <= one.expected.high


def test_lengths_and_places_are_on_a_scale_of_ratios() -> None:
    found = lengths(262_144, 9)
    assert found == [1024 << power for power in range(9)]
    assert lengths(100, 3) == [100, 100, 100]
    assert place(16, 4, 64) == pytest.approx(0.5) and place(4, 4, 64) == 0 and place(64, 4, 64) == pytest.approx(1)


@given(st.integers(3, 30), st.integers(3, 30), st.data())
def test_what_is_left_out_of_the_map(count: int, most: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, count - 1))
    found = thinned(count, most, keep)
    assert len(found) == min(count, most) and found == sorted(set(found))
    assert {0, keep, count - 1} <= set(found) or most < 3


def test_dots_of_a_plane() -> None:
    plane = Plane(2, 1)
    plane.dot(0, 0.0, "chart", "#")
    plane.dot(3, 1.0, "roofline", "-")
    plane.dot(4, 0.5, "chart", "#")
    plane.dot(0, 1.2, "chart", "#")
    assert plane.row(0, False) == [("⡀", "chart"), ("⠈", "roofline")]
    assert plane.row(0, True) == [("#", "chart"), ("-", "roofline")]
    full = Plane(1, 2)
    for column in (0, 1):
        full.band(column, 0.0, 1.0, "chart", "#")
    assert [full.row(at, False) for at in (0, 1)] == [[("⣿", "chart")], [("⣿", "chart")]]


@given(st.integers(1, 6), st.integers(-3, 6), st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_a_band_is_all_of_its_dots(height: int, column: int, low: float, high: float) -> None:
    """And nothing that was there is lost."""
    band, dots = Plane(2, height), Plane(2, height)
    top = height * UP - 1
    for plane in (band, dots):
        plane.dot(1, 0.5, "roofline", "-")
    band.band(column, low, high, "chart", "#")
    for level in range(round(low * top), round(high * top) + 1):
        dots.dot(column, level / top, "chart", "#")
    for ascii in (False, True):
        assert [band.row(at, ascii) for at in range(height)] == [dots.row(at, ascii) for at in range(height)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--json"], "--json is not for --screen"),
        (["--write", "yaml"], "--write is not for --screen"),
        ([], "the dashboard needs a terminal. `qtop plan` without --screen works without one"),
    ],
)
def test_the_screen_wants_a_terminal_and_nothing_else(
    more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--screen", "--model", "qwen3-4b", "--gpu", "H100", "--vllm", "0.25.1", *more]) == EXIT_USAGE
    assert told in capsys.readouterr().err
