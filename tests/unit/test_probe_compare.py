"""Comparing two sets of test requests: what is called a difference, and what is not."""

from __future__ import annotations

import random

import pytest

from qtop.probe.compare import compare
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
