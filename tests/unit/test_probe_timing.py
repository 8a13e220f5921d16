"""From stamps to figures, by the definitions that the module states."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.probe.answer import Answer
from qtop.probe.sse import SseEvent
from qtop.probe.timing import ProbeResult, Stamps, Usage, measure, quantile, summarise


def stamps(*events: float, silent: tuple[float, ...] = (), end: float = 20.0, output: float | None = None) -> Stamps:
    first = output if output is not None else (events[0] if events else None)
    return Stamps(t_due=9.0, t_send=10.0, t_end=end, events=events, silent=silent, t_first_output=first)


def test_the_definitions() -> None:
    result = measure(
        stamps(10.5, 10.6, 10.8, 11.1, end=11.25, output=10.8),
        usage=Usage(7, 4),
        finish_reason="length",
        text_chars=12,
        started=1.5e9,
        connect_ms=2.0,
        client_wait_ms=0.0,
    )
    assert result.ok
    assert result.client_queue_ms == 1000
    assert result.ttft_ms == 500
    assert result.ttfo_ms == 800
    assert result.gaps_ms == (100, 200, 300)
    assert result.gap_kind == "itl"
    assert result.tpot_ms == 200
    assert result.tokens_per_s == 5
    assert result.e2e_ms == 1250
    assert (result.prompt_tokens, result.completion_tokens, result.events) == (7, 4, 4)
    assert result.itl_ms is not None
    assert (result.itl_ms.n, result.itl_ms.mean, result.itl_ms.p50, result.itl_ms.max) == (3, 200, 200, 300)


def test_percentiles_only_where_the_samples_support_them() -> None:
    for n, p90, p99 in ((9, False, False), (10, True, False), (99, True, False), (100, True, True)):
        summary = summarise([float(i) for i in range(n)])
        assert summary is not None
        assert (summary.p90 is not None, summary.p99 is not None) == (p90, p99)
    assert summarise([]) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=60))
def test_quantiles_agree_with_the_inclusive_method(values: list[float]) -> None:
    ordered = sorted(values)
    expected = statistics.quantiles(ordered, n=10, method="inclusive")
    for q, value in enumerate(expected, start=1):
        assert math.isclose(quantile(ordered, q / 10), value, rel_tol=1e-9, abs_tol=1e-6)
    assert quantile(ordered, 0) == ordered[0]
    assert quantile(ordered, 1) == ordered[-1]


def test_more_tokens_than_events_makes_the_gaps_inter_chunk() -> None:
    pairs = measure(stamps(10.5, 10.6, 10.7), usage=Usage(5, 6), finish_reason="length")
    assert pairs.gap_kind == "icl"
    assert pairs.tpot_ms == 40


@pytest.mark.parametrize(("reason", "kind"), [("stop", "itl"), ("length", "icl")])
def test_the_token_that_stops_an_answer_needs_no_event(reason: str, kind: str) -> None:
    assert measure(stamps(10.5, 10.6, 10.7), usage=Usage(5, 4), finish_reason=reason).gap_kind == kind


def test_a_silent_delta_counts_where_usage_vouches_for_it() -> None:
    vouched = measure(stamps(10.5, 10.6, 10.8, silent=(10.7,)), usage=Usage(5, 4), finish_reason="length")
    assert vouched.gaps_ms == (100, 100, 100)
    assert vouched.gap_kind == "itl"
    assert vouched.events == 3
    keepalive = measure(stamps(10.5, 10.6, 10.8, silent=(10.7,)), usage=Usage(5, 3), finish_reason="length")
    assert keepalive.gaps_ms == (100, 200)
    unknown = measure(stamps(10.5, 10.6, 10.8, silent=(10.7,)))
    assert unknown.gaps_ms == (100, 200)
    assert "no usage" in unknown.notes["gap_kind"]


def test_a_silent_delta_before_the_first_text_is_not_the_first_token() -> None:
    result = measure(stamps(10.5, 10.6, silent=(10.1,)), usage=Usage(5, 3), finish_reason="length")
    assert result.ttft_ms == 500
    assert result.gaps_ms == (100,)
    assert result.gap_kind == "itl"


@pytest.mark.parametrize(
    ("events", "usage", "why"),
    [
        ((10.5,), Usage(5, 1), "two tokens"),
        ((10.5,), Usage(5, 0), "two tokens"),
        ((10.5, 10.6), None, "usage"),
        ((10.5, 10.6), Usage(5, None), "usage"),
        ((10.5,), Usage(5, 8), "one event"),
    ],
)
def test_tpot_is_not_invented(events: tuple[float, ...], usage: Usage | None, why: str) -> None:
    result = measure(stamps(*events), usage=usage)
    assert result.tpot_ms is None
    assert result.tokens_per_s is None
    assert why in result.notes["tpot_ms"]
    assert why in result.notes["tokens_per_s"]


def test_what_a_failed_request_lacks_says_why() -> None:
    result = measure(stamps(10.5, 10.6), error="no token for 30 s")
    assert not result.ok
    assert result.ttft_ms == 500
    assert result.e2e_ms is None
    assert result.notes["e2e_ms"] == "no token for 30 s"
    nothing = measure(stamps(), error="connection refused")
    for name in ("ttft_ms", "ttfo_ms", "e2e_ms", "itl_ms", "tpot_ms", "completion_tokens"):
        value = getattr(nothing, name)
        assert value is None
        assert nothing.notes[name]


def test_an_answer_of_thought_alone_has_no_first_output() -> None:
    result = measure(Stamps(t_due=9.0, t_send=10.0, t_end=12.0, events=(10.5, 11.0)), usage=Usage(5, 2))
    assert result.ttft_ms == 500
    assert result.ttfo_ms is None
    assert "reasoning" in result.notes["ttfo_ms"]


def test_the_probes_own_delay_is_owned_up_to() -> None:
    late = Stamps(t_due=9.99, t_send=10.0, t_end=12.0, events=(10.5,))
    assert "1 % of TTFT" in measure(late, connect_ms=1.0, client_wait_ms=0.0).notes["client_queue_ms"]
    assert "client_queue_ms" not in measure(late, connect_ms=9.0, client_wait_ms=0.0).notes
    assert "waited 30.0 ms" in measure(late, client_wait_ms=30.0).notes["client_wait_ms"]
    assert "client_wait_ms" not in measure(late, client_wait_ms=10.0).notes
    assert "schedstat" in measure(late).notes["client_wait_ms"]


def test_bunched_events_are_noted() -> None:
    assert "buffered" in measure(stamps(10.5, 10.5, 10.6, 10.6)).notes["gaps_ms"]
    assert "gaps_ms" not in measure(stamps(10.5, 10.6, 10.7)).notes


def test_a_result_survives_json() -> None:
    result = measure(stamps(10.5, 10.6, 10.8), usage=Usage(5, 3), finish_reason="stop")
    assert msgspec.json.decode(msgspec.json.encode(result), type=ProbeResult) == result


def test_an_answer_takes_reasoning_and_content_for_what_they_are() -> None:
    answer = Answer()

    def take(delta: str, t: float) -> None:
        answer.take([SseEvent('{"choices":[{"delta":%s,"finish_reason":null}]}' % delta)], t)  # noqa: UP031 - braces

    take('{"role":"assistant","content":""}', 1.0)
    take('{"role":"assistant","content":null}', 1.1)
    take('{"reasoning":"so"}', 2.0)
    take('{"reasoning_content":" then","content":null}', 3.0)
    take('{"content":""}', 3.5)
    take('{"content":"Red"}', 4.0)
    take('{"reasoning":"x","content":"y"}', 5.0)
    assert answer.events == [2.0, 3.0, 4.0, 5.0]
    assert answer.silent == [3.5]
    assert answer.t_first_output == 4.0


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "error", "text", "completion_tokens", "finish_reason", "index"]), inner, max_size=4), max_leaves=12))  # fmt: skip # noqa: E501
def test_no_event_however_odd_is_an_exception(value: object) -> None:
    answer = Answer()
    answer.take([SseEvent(msgspec.json.encode(value).decode()), SseEvent("not json"), SseEvent("{")], 1.0)
    answer.take([SseEvent("[DONE]")], 2.0)
    assert answer.whole or answer.error is not None


def test_gaps_of_tokens_that_were_read_late_and_together_are_left_out() -> None:
    # Tokens every 100 ms; those at 0.2 and 0.3 were read with the one at 0.4 and have its stamp.
    late = stamps(10.1, 10.4, 10.4, 10.4, 10.5, 10.6, end=10.6)
    seen = msgspec.structs.replace(late, merged=(10.4,))
    result = measure(seen, usage=Usage(1, 6), finish_reason="length")
    assert result.gaps_ms == (100, 100)
    assert result.merged == 3 and "3 of 5 gaps" in result.notes["merged"]
    assert result.tpot_ms == 100  # from first to last: what was lost in between does not matter
    # A server that sends several at once is another matter: that is how they came.
    together = measure(late, usage=Usage(1, 6), finish_reason="length")
    assert together.gaps_ms == (300, 0, 0, 100, 100) and together.merged == 0


def test_a_first_token_that_was_read_late_with_the_next_has_no_ttft() -> None:
    late = msgspec.structs.replace(stamps(10.4, 10.4, 10.5, 10.6, end=10.6), merged=(10.4,))
    result = measure(late, usage=Usage(1, 4), finish_reason="length")
    assert result.ttft_ms is None and result.ttft_due_ms is None and "lost" in result.notes["ttft_ms"]
    assert result.ok and result.e2e_ms == 600


def test_one_token_that_came_with_another_makes_no_chunks() -> None:
    # As a real vLLM sends them: 127 events for 128 tokens.
    times = tuple(10 + k / 100 for k in range(127))
    few = measure(stamps(*times, end=12), usage=Usage(1, 128), finish_reason="length")
    many = measure(stamps(*times, end=12), usage=Usage(1, 256), finish_reason="length")
    assert (few.gap_kind, many.gap_kind) == ("itl", "icl")


def test_without_an_instant_due_nothing_is_late() -> None:
    late = stamps(10.05, 10.06, end=10.06)
    assert "late" in measure(late, usage=Usage(1, 2)).notes["client_queue_ms"]
    assert "client_queue_ms" not in measure(late, usage=Usage(1, 2), scheduled=False).notes
