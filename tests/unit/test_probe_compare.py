"""Comparing two sets of test requests: what is called a difference, and what is not."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.probe.compare import _shift_half_width, compare, compare_in_turn
from qtop.probe.timing import ProbeResult, Stamps, Usage, measure


def result(ttft_ms: float, gap_ms: float, *, error: str = "", per_event: int = 1, n: int = 12) -> ProbeResult:
    events = tuple(10 + (ttft_ms + i * gap_ms) / 1000 for i in range(n))
    return measure(
        Stamps(t_due=10.0, t_send=10.0, t_end=events[-1], events=events, t_first_output=events[0]),
        usage=Usage(5, n * per_event),
        finish_reason="length",
        error=error,
    )


def side(ttft: list[float], gap: float = 20.0, spread: float = 0.0) -> list[ProbeResult]:
    return [result(t, gap * (1 + spread * (i % 3 - 1))) for i, t in enumerate(ttft)]


def test_a_clear_gain_is_better() -> None:
    comparison = compare(side([600, 610, 605], 60), side([200, 210, 205], 15))
    assert comparison.verdict == comparison.ttft.verdict == comparison.itl.verdict == "better"
    assert comparison.ttft.before_ms == 605
    assert comparison.ttft.after_ms == 205
    assert comparison.ttft.change_pct == pytest.approx(-66.1)
    assert comparison.itl.change_pct == pytest.approx(-75)
    assert "\n" not in comparison.text
    assert "605 → 205 ms" in comparison.text


def test_a_small_change_is_noise_even_where_every_request_agrees() -> None:
    comparison = compare(side([100, 100, 100]), side([104, 104, 104]))
    assert comparison.ttft.band_pct == 5
    assert comparison.verdict == "within noise"
    assert compare(side([100, 100, 100]), side([106, 106, 106])).verdict == "worse"


def test_the_band_is_as_wide_as_the_requests_differ() -> None:
    noisy = compare(side([80, 100, 120]), side([95, 115, 135]))
    assert noisy.ttft.band_pct == pytest.approx(40)
    assert noisy.ttft.verdict == "within noise"
    assert compare(side([99, 100, 101]), side([114, 115, 116])).ttft.verdict == "worse"


def test_one_outlier_among_many_does_not_hide_a_change() -> None:
    before = [100.0 + i % 3 for i in range(20)]
    after = [80.0 + i % 3 for i in range(19)] + [900.0]
    assert compare(side(before), side(after)).ttft.verdict == "better"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((3872.0, 4.9), (1951.0, 7.1), "better"),  # more run at once, none waits: measured on an H200
        ((100.0, 4.9), (80.0, 49.0), "worse"),
        ((100.0, 20.0), (150.0, 10.0), "better"),
        ((110.0, 10.0), (55.0, 15.0), "cannot tell"),  # it trades one for the other
    ],
)
def test_where_one_is_worse_and_the_other_better_the_whole_request_decides(
    before: tuple[float, float], after: tuple[float, float], verdict: str
) -> None:
    old, new = (side([ttft + i for i in range(8)], gap) for ttft, gap in (before, after))
    told = compare(old, new)
    assert {told.ttft.verdict, told.itl.verdict} == {"better", "worse"}
    assert told.verdict == verdict
    assert told.whole is not None
    assert "E2E" in told.text


@pytest.mark.parametrize(
    ("after", "gap", "anew", "expected"),
    [
        (22.6, 20.0, False, "worse"),  # the same server: it is
        (22.6, 20.0, True, "within noise"),  # as starts differ: 5 ms of a quarter of a second
        (13.0, 20.0, True, "within noise"),
        (400.0, 20.0, True, "worse"),  # of the whole request too
        (22.6, 26.0, True, "worse"),  # the gaps say so
        (17.5, 14.0, True, "better"),
    ],
)
def test_after_a_new_start_ttft_alone_does_not_decide(after: float, gap: float, anew: bool, expected: str) -> None:
    before = side([17.4, 17.5, 17.5, 17.6, 17.5, 17.4])
    told = compare(before, side([after] * 6, gap), anew=anew)
    assert told.verdict == expected
    assert (told.whole is not None) is (anew and gap == 20.0)


def test_a_band_wider_than_the_figure_is_said_in_words() -> None:
    told = compare(side([10, 20, 30, 40, 9000, 11, 12]), side([10] * 7))
    assert told.ttft.verdict == "within noise"
    assert "noise larger than the figure itself" in told.text


def test_too_few_good_requests_cannot_tell() -> None:
    bad = result(100, 20, error="no token for 30 s")
    comparison = compare(side([100, 100, 100]), side([50, 50]))
    assert comparison.verdict == "cannot tell"
    assert "3 and 2" in comparison.ttft.why
    assert compare([*side([100, 100]), bad], side([50, 50, 50])).verdict == "cannot tell"
    assert compare([], []).verdict == "cannot tell"


def test_requests_that_fail_after_and_not_before_are_worse_whatever_the_rest_says() -> None:
    bad = result(100, 20, error="connection refused")
    comparison = compare(side([100, 100, 100, 100]), [*side([50, 50, 50]), bad])
    assert comparison.ttft.verdict == "better"
    assert comparison.verdict == "worse"
    assert "1 of 4 requests failed after" in comparison.text
    assert compare([*side([100, 100, 100]), bad], [*side([50, 50, 50]), bad]).verdict == "better"


def test_gain_and_loss_together_are_worse() -> None:
    comparison = compare(side([100, 100, 100], 20), side([50, 50, 50], 30))
    assert (comparison.ttft.verdict, comparison.itl.verdict, comparison.verdict) == ("better", "worse", "worse")


def test_gaps_of_different_kinds_are_not_compared_but_the_time_a_token_is() -> None:
    """A vLLM that waits for a CPU sends several tokens an event (seen on an H100): its gaps are no ITL."""
    pairs = [result(100, 60, per_event=2) for _ in range(3)]
    comparison = compare(pairs, side([100, 100, 100], 10))
    assert comparison.itl.metric == "TPOT"
    assert comparison.itl.before_ms == pytest.approx(30, rel=0.1)
    assert (comparison.itl.verdict, comparison.verdict) == ("better", "better")


def test_answers_of_one_token_leave_the_gaps_unknown() -> None:
    short = [result(100, 20, n=1) for _ in range(3)]
    comparison = compare(short, short)
    assert comparison.ttft.verdict == "within noise"
    assert comparison.itl.verdict == "cannot tell"
    assert comparison.verdict == "cannot tell"


@pytest.mark.parametrize(("n", "at_most"), [(3, 0.18), (5, 0.09), (10, 0.05), (20, 0.08)])
def test_no_change_is_seldom_called_one(n: int, at_most: float) -> None:
    rng = random.Random(7)

    def draw() -> list[ProbeResult]:
        return [result(max(10.0, rng.gauss(100, 10)), 20, n=1) for _ in range(n)]

    called = sum(compare(draw(), draw()).ttft.verdict != "within noise" for _ in range(400))
    assert called <= at_most * 400


# In turn


def blocks(*ttfts: float, n: int = 6) -> list[list[ProbeResult]]:
    return [side([ttft * (1 + 0.01 * (i % 3)) for i in range(n)]) for ttft in ttfts]


def test_a_machine_that_drifts_is_no_effect_in_turn_and_one_without() -> None:
    before, after = blocks(100, 120, 140), blocks(110, 130, 150)
    assert compare(before[0], after[0]).verdict == "worse"
    assert compare_in_turn(before, after).verdict == "within noise"


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("factor", [0.2, 0.7, 1.5, 5.0])
def test_a_single_step_is_no_effect_whenever_it_comes(at: int, factor: float) -> None:
    course = [100.0 * (factor if place >= at else 1.0) for place in range(6)]
    for rounds in (2, 3):
        told = compare_in_turn(blocks(*course[: 2 * rounds : 2]), blocks(*course[1 : 2 * rounds : 2]))
        assert told.verdict == "within noise", (rounds, told.text)


def test_what_comes_and_goes_with_the_change_is_an_effect() -> None:
    told = compare_in_turn(blocks(100, 104, 98), blocks(80, 82, 79))
    assert told.verdict == "better"
    assert told.ttft.change_pct == pytest.approx(-20, abs=1)
    assert compare_in_turn(blocks(100, 104, 98), blocks(125, 120, 122)).verdict == "worse"


def test_a_large_effect_is_seen_through_large_noise() -> None:
    """A server that shares a CPU with others: blocks twice as slow as others, and a change of 80 %."""
    assert compare_in_turn(blocks(1500, 2300, 3100), blocks(400, 500, 620)).verdict == "better"
    assert compare_in_turn(blocks(400, 500, 620), blocks(1500, 2300, 3100)).verdict == "worse"


def test_the_halves_of_a_block_tell_of_a_drift() -> None:
    before, after = [100.0, 100, 101, 119, 120, 121], [120.0, 121, 120, 139, 140, 141]
    assert compare(side(before * 2), side(after * 2)).ttft.verdict == "worse"
    slow = compare(side(sorted(before * 3)), side(sorted(after * 3)), halves=True)
    assert slow.ttft.band_pct is not None
    assert slow.ttft.band_pct >= 18


def machine(rng: random.Random, kind: str) -> list[float]:
    """How slow a machine is in each of six blocks, by itself."""
    if kind == "still":
        return [1.0] * 6
    if kind == "drifts":
        return [1 + 0.05 * place for place in range(6)]
    if kind == "neighbour":
        slow, course = rng.random() < 0.5, []
        for _ in range(6):
            slow = slow != (rng.random() < 0.4)
            course.append(1.5 if slow else 1.0)
        return course
    level, course = rng.gauss(0, 0.1), []
    for _ in range(6):
        level = 0.5 * level + 0.0866 * rng.gauss(0, 1)
        course.append(math.exp(level))
    return course


def verdict(rng: random.Random, kind: str, effect: float) -> str:
    """As a change is measured: up to three rounds, the next only where there is a difference so far."""
    course = machine(rng, kind)
    sides: tuple[list[list[ProbeResult]], list[list[ProbeResult]]] = ([], [])
    told = "within noise"
    for place, slow in enumerate(course):
        factor = slow * (effect if place % 2 else 1.0)
        sides[place % 2].append(
            side([100 * factor * math.exp(rng.gauss(0, 0.05)) for _ in range(6)], 20 * factor, 0.03)
        )
        if place:
            told = compare_in_turn(*sides).verdict
            if told == "within noise":
                break
    return told


@pytest.mark.parametrize("kind", ["still", "drifts", "neighbour", "wanders"])
def test_simulated_no_effect_is_seldom_called_one_and_an_effect_is_seen(kind: str) -> None:
    rng = random.Random(11)
    called = sum(verdict(rng, kind, 1.0) != "within noise" for _ in range(200))
    assert called <= 0.05 * 200
    seen = sum(verdict(rng, kind, 0.8 if kind == "still" else 0.4) == "better" for _ in range(60))
    assert seen >= 0.9 * 60


@given(st.lists(st.integers(1, 400), min_size=6, max_size=14), st.lists(st.integers(1, 400), min_size=6, max_size=14))
def test_the_interval_of_a_shift_is_that_of_all_differences(befores: list[int], afters: list[int]) -> None:
    n, m = len(befores), len(afters)
    every = sorted(new - old for old in befores for new in afters)
    rank = max(1, round(n * m / 2 - 1.96 * (n * m * (n + m + 1) / 12) ** 0.5))
    assert _shift_half_width(befores, afters) == pytest.approx((every[-rank] - every[rank - 1]) / 2, abs=1e-6)
