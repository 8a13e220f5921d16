"""Several API servers count steps more than once; several engines run more requests than one's cap."""

from __future__ import annotations

import msgspec
import pytest
from tests.build import T0, process, server, thread
from tests.fakes.behaved import capture

from qtop.collect.engine.exposition import parse
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of
from qtop.sample import NOT_RECORDED, Absent, EngineSample, ProcessSample, Sample, ServerProcs, Setting
from qtop.sample.settings import COMMAND_LINE

STEPS = "vllm:iteration_tokens_total_count"
FILE = "vllm-0.32-two-api-servers.metrics.txt"


def titled(pid: int, title: str, ppid: int = 100) -> ProcessSample:
    return msgspec.structs.replace(process(pid, title[:15], (thread(pid, title[:15], 0.0, 0.0),), ppid), title=title)


def procs(at: float, api_servers: int) -> ServerProcs:
    """A launcher with so many API servers, or an API server that is the root."""
    children = [
        titled(110 + number, f"VLLM::APIServer_{number}") for number in range(api_servers if api_servers > 1 else 0)
    ]
    return ServerProcs(at, (titled(100, "vllm serve", 1), *children, titled(200, "VLLM::EngineCore")), {})


def frame(api_servers: int = 1, *settings: Setting, engines: int = 1, seen: bool = True) -> Frame:
    """Two scrapes 10 s apart, between which 160 requests of 120 tokens were answered."""
    deriver = Deriver()
    made = Frame(0.0, 0.0)
    info = msgspec.structs.replace(server(), settings=settings or NOT_RECORDED, max_running=128)
    for number, share in enumerate((0.0, 1.0)):
        at = 10.0 * number
        series = {
            key.replace('engine="0"', f'engine="{rank}"'): value * share
            for key, value in parse(capture(FILE).decode(), ("vllm:",)).items()
            for rank in range(engines)
        }
        tree = procs(at, api_servers) if seen else NOT_RECORDED
        made = deriver.push(Sample(t=T0 + at, server=info, engine=EngineSample(at, 1.0, series), procs=tree))
    return made


def engine(made: Frame) -> EngineView:
    assert isinstance(made.engine, EngineView)
    return made.engine


def test_one_api_server_counts_each_step_once() -> None:
    told = engine(frame(1))
    assert told.steps_s == pytest.approx(484.2) and told.sources["steps_s"] == f"rate of {STEPS}"
    assert told.engines[0].steps_s == told.steps_s


@pytest.mark.parametrize(
    ("made", "servers"),
    [
        (frame(2), 2),
        (frame(3), 3),
        (frame(1, Setting("api_server_count", "2", COMMAND_LINE), seen=False), 2),
        (frame(1, Setting("api_server_count", "4", COMMAND_LINE)), 4),
    ],
)
def test_with_several_the_number_of_steps_is_not_known(made: Frame, servers: int) -> None:
    told = engine(made)
    for reading in (told.steps_s, told.tokens_step, told.engines[0].steps_s):
        assert isinstance(reading, Absent) and reading.detail.startswith(f"each of {servers} API servers counts")
    assert "steps_s" not in told.sources and "tokens_step" not in told.sources


def test_what_is_of_requests_and_tokens_holds() -> None:
    told = engine(frame(2))
    assert told.gen_tok_s == pytest.approx(160 * 120 / 10) and told.finished_s == pytest.approx(16.0)
    assert told.running == 0.0 and told.kv_capacity_tokens == 262144


def test_gauges_come_with_the_first_request() -> None:
    series = {key: x for key, x in parse(capture(FILE).decode(), ("vllm:",)).items() if "num_requests" not in key}
    made = Deriver().push(Sample(t=T0, server=server(), engine=EngineSample(0.0, 1.0, series)))
    running = engine(made).running
    assert isinstance(running, Absent) and "from the first request on" in running.detail


def test_each_engine_has_the_cap() -> None:
    assert cap_of(frame(1)) == 128
    assert cap_of(frame(2, engines=2)) == 256
    assert isinstance(cap_of(Frame(0.0, 0.0)), Absent)
