"""The server while a test runs: scrapes from before its first request to after its last, joined to the client's view;
and the client's stage of the overview's waterfall."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from tests.fakes.stub_source import BEGIN, Machine
from tests.unit.test_probe_summary import result

from qtop.diagnose.engine import Diagnosis
from qtop.diagnose.registry import RULES
from qtop.model.derive import Deriver
from qtop.model.frame import Waterfall
from qtop.sample import Absent, ClientSample, EngineSample, Sample
from qtop.watch import ServerWindow, Watch

QUEUE, PREFILL, DECODE, TTFT = 2.0, 30.0, 400.0, 40.0
"""Milliseconds of each request."""


def scrape(at: float, finished: float) -> EngineSample:
    """A vLLM that has finished so many requests of the same kind."""
    times = {"request_queue_time": QUEUE, "request_prefill_time": PREFILL, "request_decode_time": DECODE}
    series = {"vllm:request_success_total": finished, "vllm:generation_tokens_total": finished * 10}
    for name, ms in {**times, "time_to_first_token": TTFT}.items():
        series[f"vllm:{name}_seconds_sum"] = finished * ms / 1000
        series[f"vllm:{name}_seconds_count"] = finished
    return EngineSample(at=at, scrape_ms=10.0, series=series)


def ticks(finished: dict[float, float], wait: float = 0.0) -> list[Sample]:
    """A sample a second, of what the server had finished by then."""
    machine = Machine(engine="vllm", wait=wait)
    return [replace(machine.sample(t), engine=scrape(t, done)) for t, done in finished.items()]


def watched(samples: list[Sample], begin: float, end: float, ours: int) -> ServerWindow:
    watch, deriver, diagnosis = Watch(), Deriver(), Diagnosis(RULES)
    for sample in samples:
        at = sample.t - BEGIN
        if at > begin:
            watch.begin(begin)
        if at > end:
            watch.end(end)
        frame = deriver.push(sample)
        watch.push(sample, frame, diagnosis.push(frame))
    return watch.result([result(ttft_ms=41.5, i=k) for k in range(ours)])


def stages(window: ServerWindow) -> dict[str, object]:
    assert isinstance(window.waterfall, Waterfall)
    return {stage.name: stage.ms for stage in window.waterfall.stages}


def test_the_window_is_exactly_the_tests() -> None:
    # 100 of others before, 7 after: neither is in it.
    done = {0.0: 90.0, 1.0: 100.0, 2.0: 103.0, 3.0: 106.0, 4.0: 110.0, 5.0: 117.0}
    window = watched(ticks(done), 1.2, 3.6, 10)
    assert window.others == 0.0 and window.seconds == 3.0
    assert isinstance(window.waterfall, Waterfall)
    assert window.waterfall.finished == 10.0 and window.waterfall.trusted
    assert stages(window) == {
        "client": 10.0,
        "network": pytest.approx(41.5 - TTFT),
        "frontend": pytest.approx(TTFT - QUEUE - PREFILL),
        "queue": pytest.approx(QUEUE),
        "prefill": pytest.approx(PREFILL),
        "decode": pytest.approx(DECODE),
    }


def test_a_scrape_that_began_before_the_end_is_not_the_last() -> None:
    window = watched(ticks({0.0: 0.0, 1.0: 5.0, 2.0: 9.0, 3.0: 10.0}), 0.5, 1.995, 10)
    assert isinstance(window.waterfall, Waterfall) and window.waterfall.finished == 10.0


def test_requests_of_others_are_told() -> None:
    window = watched(ticks({0.0: 0.0, 1.0: 0.0, 2.0: 15.0, 3.0: 15.0}), 1.1, 1.9, 10)
    assert window.others == 5.0
    assert isinstance(window.waterfall, Waterfall) and not window.waterfall.trusted
    assert window.waterfall.why == "5 requests of other clients are in these means"


def test_what_fired_meanwhile_and_how_long_threads_waited() -> None:
    done = {float(t): float(t) for t in range(40)}
    window = watched(ticks(done, wait=0.8), 1.5, 38.2, 37)
    (fired,) = [one for one in window.fired if one.rule == "QT201"]
    assert "WAITS FOR CPU" in fired.headline and 0.5 < fired.share <= 1.0
    assert max(window.cpu_wait.values()) == pytest.approx(0.8, abs=0.05)
    assert watched(ticks(done), 1.5, 38.2, 37).fired == ()


def test_a_test_that_nobody_could_watch_says_so() -> None:
    window = watched(ticks({0.0: 0.0, 1.0: 1.0}), 0.5, 0.9, 1)  # the last scrape comes, but began …
    assert isinstance(window.waterfall, Waterfall)
    lost = watched(ticks({0.0: 0.0}), 0.5, 0.9, 1)
    assert isinstance(lost.waterfall, Absent) and "not read" in str(lost.waterfall)
    restarted = watched(ticks({0.0: 50.0, 1.0: 3.0}), 0.5, 0.9, 1)
    assert isinstance(restarted.others, Absent)


def test_llamacpp_counts_no_requests_so_the_tests_own_are_taken() -> None:
    def one(t: float, ms: float) -> Sample:
        series = {"llamacpp:prompt_seconds_total": ms / 1000, "llamacpp:tokens_predicted_seconds_total": ms / 100}
        return replace(Machine().sample(t), engine=EngineSample(at=t, scrape_ms=1.0, series=series))

    window = watched([one(0.0, 0.0), one(1.0, 0.0), one(2.0, 500.0)], 1.1, 1.8, 5)
    assert stages(window)["prefill"] == pytest.approx(100.0)
    assert stages(window)["decode"] == pytest.approx(1000.0)
    assert isinstance(window.waterfall, Waterfall) and "no single requests" in window.waterfall.why


# The overview's waterfall


def falls(clients: Sequence[ClientSample | None]) -> list[object]:
    """The client's stage of each tick."""
    deriver = Deriver()
    found: list[object] = []
    for t, client in enumerate(clients):
        sample = replace(Machine(engine="vllm").sample(float(t)), engine=scrape(float(t), float(t)))
        frame = deriver.push(sample if client is None else replace(sample, client=client))
        fall = frame.waterfall
        found.append(fall.stages[0].ms if isinstance(fall, Waterfall) else None)
    return found


def test_the_clients_stage_is_the_mean_of_the_windows_test_prompts() -> None:
    def client(n: int, ms: float) -> ClientSample:
        return ClientSample(at=0.0, requests=n, queue_ms=ms, ttft_ms=n * 50.0)

    seen = falls([client(0, 0.0), client(0, 0.0), client(2, 3.0), client(3, 9.0)])
    assert isinstance(seen[1], Absent)
    assert seen[2:] == [1.5, 3.0]
    # Half a minute later they have left the window.
    assert isinstance(falls([client(0, 0.0)] + [client(3, 9.0)] * 35)[-1], Absent)
    assert isinstance(falls([None, None])[-1], Absent)


def test_word_of_the_beginning_comes_late() -> None:
    watch, deriver, diagnosis = Watch(), Deriver(), Diagnosis(RULES)
    samples = ticks({0.0: 5.0, 1.0: 6.0, 2.0: 12.0, 3.0: 16.0})
    for sample in samples[:2]:
        frame = deriver.push(sample)
        watch.push(sample, frame, diagnosis.push(frame))
    watch.begin(0.5)  # the scrape at second 1 has the first requests in it already
    for sample in samples[2:]:
        frame = deriver.push(sample)
        watch.push(sample, frame, diagnosis.push(frame))
        watch.end(2.5)
    fall = watch.result([result(i=k) for k in range(11)]).waterfall
    assert isinstance(fall, Waterfall) and fall.finished == 11.0
