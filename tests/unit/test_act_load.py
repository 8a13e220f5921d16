"""Whether two measurements were made under the same load of others."""

from __future__ import annotations

from itertools import count

import pytest
from tests.fakes.sse_server import SseServer
from tests.unit.test_probe_compare import result

from qtop.act import meter
from qtop.act.load import Load, LoadWatch, mean_of, spoils
from qtop.act.meter import Block, ProbeMeter
from qtop.model.frame import EngineView, Frame
from qtop.probe.compare import NEEDS
from qtop.probe.messages import ProbeRequest
from qtop.probe.prompts import ENGLISH
from qtop.sample import NOT_YET, Reading

NONE, FEW, MANY = Load(0.0, 0.0), Load(3.0, 90.0), Load(160.0, 4000.0)


def engine(running: Reading[float], tok_s: Reading[float] = NOT_YET, waiting: Reading[float] = 0.0) -> EngineView:
    return EngineView(running, waiting, NOT_YET, NOT_YET, tok_s, NOT_YET, NOT_YET, NOT_YET, NOT_YET, 1.0)


@pytest.mark.parametrize(
    ("before", "after", "spoilt"),
    [
        (MANY, NONE, "improved, no effect"),  # its clients went away with the old server
        (NONE, MANY, "worse, no effect"),
        (FEW, NONE, "improved, no effect"),
        (FEW, Load(2.0, 60.0), ""),
        (NONE, Load(1.0, 40.0), ""),  # one stream more or less comes and goes
        (Load(20.0, 900.0), Load(2.0, 900.0), ""),  # the same arrivals, served faster
        (Load(20.0, 900.0), Load(20.0, 100.0), ""),  # the same clients, served slower
        (Load(20.0, None), Load(2.0, None), "improved, no effect"),
        (None, NONE, ""),
        (MANY, None, ""),
    ],
)
def test_figures_under_two_loads_compare_nothing(before: Load | None, after: Load | None, spoilt: str) -> None:
    assert ", ".join(one for one in ("improved", "worse", "no effect") if spoils(one, before, after)) == spoilt


def test_the_load_is_that_of_others() -> None:
    clock = count()
    told = [engine(161, 4100, 2), engine(161, 4100, 2), engine(159, 3900)]
    frames = iter([Frame(float(next(clock)), 1.0, engine=one) for one in told])
    now = [next(frames)]
    watch = LoadWatch(lambda: now[0])
    for _ in range(3):
        watch.look()  # the frame from before the block does not count
    now[0] = next(frames)
    watch.look()
    now[0] = next(frames)
    watch.look()
    watch.look()
    results = [result(100.0, 10.0) for _ in range(4)]
    own = sum(one.completion_tokens or 0 for one in results)
    assert own > 0
    assert watch.load(results, 2.0) == Load((162 + 158) / 2, 4000 - own / 2)


def test_a_block_between_two_readings_has_the_one_before_and_a_server_that_tells_nothing_none() -> None:
    now = Frame(0.0, 0.0, engine=engine(4, 100.0))
    assert LoadWatch(lambda: now).load([], 1.0) == Load(3.0, 100.0)
    dumb = Frame(0.0, 0.0, engine=engine(NOT_YET))
    assert LoadWatch(lambda: dumb).load([], 1.0) is None
    assert LoadWatch(lambda: Frame(0.0, 0.0)).load([], 1.0) is None
    assert mean_of([FEW, None]) is None
    assert mean_of([FEW, NONE]) == Load(1.5, 45.0)


def test_a_judgement_says_what_the_loads_were() -> None:
    slow, fast = [[result(ttft, 10.0) for _ in range(8)] for ttft in (400.0, 100.0)]
    told = ProbeMeter.compared([Block(slow, MANY)], [Block(fast, NONE)])
    assert told.verdict == "cannot tell"
    assert told.text.startswith("cannot tell: others had 160 requests in flight before and 0 after; TTFT 400 → 100 ms")
    assert told.data["others"] == [{"in_flight": 160.0, "tok_s": 4000.0}, {"in_flight": 0.0, "tok_s": 0.0}]
    assert ProbeMeter.compared([Block(slow, MANY)], [Block(fast, MANY)]).verdict == "improved"
    assert ProbeMeter.compared([Block(fast, MANY)], [Block(slow, NONE)]).verdict == "worse"


def test_where_one_request_takes_long_as_few_as_can_be_compared_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "BLOCK_S", 0.0)
    with SseServer() as server:
        asked = ProbeRequest(server.url("ok"), "m", ENGLISH, max_tokens=6, requests=meter.REQUESTS, warmup=1)
        all_of_them = ProbeMeter(lambda: asked, lambda: Frame(0.0, 0.0)).before()
        monkeypatch.setattr(meter, "LONG_S", 0.0)
        few = ProbeMeter(lambda: asked, lambda: Frame(0.0, 0.0)).before()
    assert [len(all_of_them.results), len(few.results)] == [meter.REQUESTS, NEEDS]
    assert all(one.ok for one in few.results)
