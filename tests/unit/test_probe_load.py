"""Several streams, schedules, warming up, giving up, and how the prober judges itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.sse_server import SseServer
from tests.unit.test_probe_client import request

from qtop.probe.client import ProbeClient
from qtop.probe.load import Load
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.runner import ProbeRun
from qtop.probe.schedule import arrivals
from qtop.probe.selfcheck import SelfCheck, judge
from qtop.probe.timing import ProbeResult, Reading, Stamps, Usage, measure


@pytest.fixture
def server() -> Iterator[SseServer]:
    with SseServer() as running:
        yield running


def run(asked: ProbeRequest) -> list[ProbeEvent]:
    events: list[ProbeEvent] = []
    with ProbeClient(asked) as client:
        Load(client, asked, events.append).run()
    return events


def results_of(events: list[ProbeEvent]) -> list[ProbeResult]:
    return [event.result for event in events if event.result is not None]


# Schedules


@given(st.integers(1, 500), st.floats(0.01, 1000), st.integers(0, 2**31))
def test_a_schedule_is_ascending_begins_at_once_and_is_the_same_anew(requests: int, rate: float, seed: int) -> None:
    due = arrivals(requests, rate, seed)
    assert len(due) == requests and due[0] == 0.0
    assert all(a <= b for a, b in pairwise(due))
    assert due == arrivals(requests, rate, seed)


def test_arrivals_are_poisson() -> None:
    gaps = [b - a for a, b in pairwise(arrivals(20_000, 50.0, 7))]
    mean = math.fsum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.03)
    # Exponential: the standard deviation is the mean, and a share of 1/e lasts longer than it.
    assert math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.03)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, abs=0.01)
    assert arrivals(10, 5.0, 1) != arrivals(10, 5.0, 2)


@pytest.mark.parametrize(("requests", "rate"), [(0, 1.0), (1, 0.0), (5, -1.0)])
def test_a_schedule_that_cannot_be(requests: int, rate: float) -> None:
    with pytest.raises(ValueError, match="schedule"):
        arrivals(requests, rate)


# Streams


def test_so_many_streams_run_at_a_time_and_no_more(server: SseServer) -> None:
    events = run(request(server, "ok", requests=12, concurrency=4))
    results = results_of(events)
    assert len(results) == 12 and all(result.ok for result in results)
    assert server.most in (4, 5)  # on a busy machine it notices an end after the next has begun
    assert sorted(result.i for result in results) == list(range(12))
    assert [event.kind for event in events].count("started") == 12
    followed = {event.i for event in events if event.kind == "delta"}
    assert 0 < len(followed) < 12  # one stream at a time is followed, whichever it is
    gaps = sum(len(event.gaps) for event in events if event.kind == "gaps")
    assert gaps == sum(len(result.gaps_ms) for result in results) == 60
    assert events[-1].kind == "report" and events[-1].check is not None


def test_requests_come_when_they_are_due_however_slow_the_server(server: SseServer) -> None:
    asked = request(server, "mute", requests=5, rate=50.0, concurrency=0, timeout_s=0.8)
    begin = time.monotonic()
    results = results_of(run(asked))
    assert len(results) == 5 and all(result.timed_out for result in results)
    assert server.most == 5  # one by one this would take four seconds
    assert time.monotonic() - begin < 5 * 0.8 / 1.5


def test_a_cap_on_streams_shows_as_the_clients_queue(server: SseServer) -> None:
    results = results_of(run(request(server, "ok", requests=8, rate=1000.0, concurrency=1)))
    assert server.most == 1 and all(result.ok for result in results)
    last = max(results, key=lambda result: result.i)
    assert last.ttft_ms is not None and last.ttft_due_ms is not None
    assert last.client_queue_ms > 5 * 6 * 5  # five requests of six tokens, 5 ms each, went before
    assert last.ttft_due_ms == pytest.approx(last.client_queue_ms + last.ttft_ms, abs=0.01)


def test_what_warms_up_does_not_count(server: SseServer) -> None:
    events = run(request(server, "ok", requests=3, warmup=5, concurrency=2))
    assert len(server.seen) == 8
    assert len(results_of(events)) == 3
    assert sum(event.warmup for event in events) == 5


def test_after_so_many_seconds_nothing_new_is_sent(server: SseServer) -> None:
    results = results_of(run(request(server, "ok", requests=5000, concurrency=2, seconds=0.5)))
    assert 0 < len(results) < 1000
    assert all(result.ok for result in results)  # those under way are not cut off
    few = results_of(run(request(server, "ok", requests=1000, rate=20.0, concurrency=0, seconds=0.4)))
    assert len(few) == sum(at < 0.4 for at in arrivals(1000, 20.0))


def test_a_server_that_only_fails_is_left_alone(server: SseServer) -> None:
    assert len(results_of(run(request(server, "html", requests=100)))) == 2
    assert len(results_of(run(request(server, "html", requests=500, concurrency=4)))) < 250
    assert len(results_of(run(request(server, "html", requests=10_000, rate=500.0, concurrency=0)))) < 5000


def test_what_a_server_refuses_is_dropped_once_for_all_streams(server: SseServer) -> None:
    results = results_of(run(request(server, "no_chat", requests=12, concurrency=4)))
    assert all(result.ok for result in results)
    assert sum(seen.chat for seen in server.seen) <= 4


def test_a_cancelled_load_leaves_no_request_on_the_server(server: SseServer) -> None:
    run = ProbeRun()
    run.start(request(server, "forever", requests=8, concurrency=8))
    deadline = time.monotonic() + 15
    while server.now < 8:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.cancel()
    while server.now:
        assert time.monotonic() < deadline, "streams go on"
        time.sleep(0.02)
    assert not run.wait(5.0)


# The prober's own share


def result(ttft_ms: float, gap_ms: float, **more: object) -> ProbeResult:
    times = tuple(10 + (ttft_ms + gap_ms * k) / 1000 for k in range(20))
    stamps = Stamps(t_due=10.0, t_send=10.0, t_end=times[-1], events=times, t_first_output=times[0])
    reading = Reading(by_kernel=bool(more.pop("kernel", True)), lag_s=0.001)
    one = measure(stamps, usage=Usage(5, 20), finish_reason="length", reading=reading)
    return msgspec.structs.replace(one, **more)


def check(results: list[ProbeResult], **more: object) -> SelfCheck:
    fields = {"send_lag_ms": [0.1] * 5, "late_ms": [0.05] * 50, "seconds": 10.0, "cpu_s": 0.5, "wait_s": 0.1, **more}
    return judge(results, **fields)  # type: ignore[arg-type]


def test_a_quiet_prober_has_no_marks() -> None:
    seen = check([result(100.0, 20.0)] * 5)
    assert seen.marks == ()
    assert (seen.stamps, seen.cpu_share, seen.wait_share) == ("kernel", 0.05, 0.01)
    assert seen.loop_lag_p99_ms == 0.05 and seen.read_lag_max_ms == 1.0


def test_requests_that_leave_late_are_a_mark() -> None:
    (mark,) = check([result(100.0, 20.0)] * 5, send_lag_ms=[3.0] * 5, scheduled=True).marks
    assert mark == "requests left 3.0 ms late on the median, more than 1 % of TTFT (100 ms)"
    # One after the other, a late one only leaves its stream idle: that is 3 of 480 ms here, and fine.
    assert check([result(100.0, 20.0)] * 5, send_lag_ms=[3.0] * 5).marks == ()


def test_a_lagging_loop_is_a_mark_only_where_it_stamps() -> None:
    late = {"late_ms": [2.0] * 50}
    (mark,) = check([result(100.0, 20.0, kernel=False)] * 5, **late).marks
    assert mark.startswith("the prober's own loop lags 2.00 ms, more than 1 % of TTFT")
    assert check([result(100.0, 20.0)] * 5, **late).marks == ()


def test_reading_that_falls_behind_is_a_mark() -> None:
    (mark,) = check([result(100.0, 20.0, merged=2)] * 5).marks
    assert mark == "10 of 105 gaps were not seen: reading fell behind, fewer streams would be truer"
    assert check([result(100.0, 20.0, merged=1)] + [result(100.0, 20.0)] * 9).marks == ()


def test_nothing_measured_is_no_mark() -> None:
    seen = check([], late_ms=[], send_lag_ms=[], wait_s=None)
    assert seen.marks == () and seen.loop_lag_p50_ms is None and seen.wait_share is None
