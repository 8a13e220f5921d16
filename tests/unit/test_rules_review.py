"""What rules must not say: after a gap or a clock that was set back, of a symptom beside its cause, in odd figures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.unit.test_rules_engine import RUNS, SERVER, fall, gpu, sched, thread

from qtop.diagnose import engine as engine_module
from qtop.diagnose.engine import Tracker
from qtop.diagnose.hysteresis import Hysteresis
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import CannotTell, Clear, Enter, Observed, Severity, State
from qtop.diagnose.verdict import leading, verdict
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame, GpuView, VramSplit, Waterfall
from qtop.model.gpu_view import OtherProcess
from qtop.model.requests import RequestsView, ServedView
from qtop.model.settings import SettingsView
from qtop.record.reader import Recording
from qtop.sample import NOT_YET, Absent, PromptEnds, Reading, Setting, Why

UNTOLD = ServedView(NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET)

ENTER = (Enter(Severity.WARNING, at=1.0, seconds=8.0, of=10.0),)


def test_a_clock_that_is_set_back_holds_no_finding_up() -> None:
    """Ten minutes back: what was seen before must not stand for ten minutes more."""
    over_time = Hysteresis(ENTER, Clear(below=0.5, seconds=10.0))
    for second in range(1, 11):
        over_time.push(1000.0 + second, 1.0, 1.0)
    assert over_time.severity is Severity.WARNING
    over_time.push(410.0, 0.0, 0.0)
    for second in range(1, 11):
        over_time.push(410.0 + second, 1.0, 0.0)
    assert over_time.severity is None


@pytest.mark.parametrize("rule", ["QT303", "QT305", "QT310"])
def test_one_reading_after_a_long_gap_is_no_finding(rule: str) -> None:
    """A laptop wakes up and its network is not there yet: one failed request is not five seconds of silence."""
    over_time = Hysteresis(BY_ID[rule].enter, BY_ID[rule].clear)
    for second in range(1, 11):
        over_time.push(float(second), 1.0, 0.0)
    over_time.push(3610.0, 3600.0, 1.0)
    assert over_time.severity is None
    for second in range(1, 12):
        over_time.push(3610.0 + second, 1.0, 1.0)
    assert over_time.severity is not None


def test_a_longer_interval_is_taken_from_its_second_frame_on() -> None:
    over_time = Hysteresis(ENTER, Clear(below=0.5, seconds=10.0))
    over_time.push(1.0, 1.0, 0.0)
    over_time.push(31.0, 30.0, 1.0)
    assert over_time.severity is None
    over_time.push(61.0, 30.0, 1.0)
    assert over_time.severity is Severity.WARNING


def test_that_clients_hang_up_gives_way_to_the_full_cache_that_they_wait_for() -> None:
    """As recorded of a real vLLM: every request was given up because its queue did not move."""
    served = ServedView(finished=0.0, cut=0.0, answered=20.0, refused=0.0, given_up=20.0)
    view = RequestsView(120.0, PromptEnds(), False, served)
    engine = replace(RUNS, running=16.0, waiting=8.0, kv_use=0.97, waiting_by_reason={"capacity": 8.0})
    frame = Frame(1.0, 1.0, SERVER, engine, requests=view, server_before=SERVER)
    assert leads(frame, "QT301", "QT505") == "QT301"


def test_an_uncorrected_memory_error_leads_over_an_answer_in_one_piece() -> None:
    """Neither slows anything; one makes answers wrong and is critical."""
    gpu = a_gpu(ecc_uncorrected=1, ecc_uncorrected_min=12.0)
    view = RequestsView(120.0, PromptEnds(ended=1, unstreamed=1), True, UNTOLD)
    frame = Frame(1.0, 1.0, SERVER, RUNS, gpus=(gpu,), requests=view, server_before=SERVER)
    assert leads(frame, "QT115", "QT501") == "QT115"


def test_figures_are_grouped_by_spaces() -> None:
    """In one line of the screen 1 234 and 1,234 would be two kinds of number."""
    for path in Path(engine_module.__file__).parent.glob("rules/*.py"):
        assert ":," not in path.read_text(), path.name


def test_a_gpu_that_tells_no_size_of_its_memory_divides_nothing() -> None:
    gpu = a_gpu(mem_total=0, mem_used=0, vram=VramSplit(0, 0, 0, 0))
    settings = SettingsView({"x": (Setting("gpu_memory_utilization", "0.9", "command line"),)}, {})
    frame = Frame(1.0, 1.0, SERVER, RUNS, gpus=(gpu,), settings=settings, server_before=SERVER)
    for rule in BY_ID.values():
        answer = rule.look(frame)
        if isinstance(answer, Observed):
            assert answer.told.evidence is not None


QUEUE: dict[str, Any] = {"waiting": 64.0, "waiting_by_reason": {"capacity": 64.0}}


@pytest.mark.parametrize(
    ("rule", "engine", "waterfall"),
    [
        ("QT303", replace(RUNS, running=16.0, **QUEUE), NOT_YET),
        ("QT301", replace(RUNS, running=8.0, kv_use=0.95, **QUEUE), NOT_YET),
        ("QT304", replace(RUNS, running=8.0, **QUEUE), fall(queue=900.0, prefill=300.0)),
    ],
)
def test_a_queue_gives_way_to_what_keeps_the_engine_from_working(rule: str, engine: EngineView, waterfall: Any) -> None:
    """An engine that gets its CPU, or its GPU, for a third of the time has a queue for it, whatever limit that meets;
    without that the queue is the finding."""
    plain = Frame(1.0, 1.0, SERVER, engine, sched(thread(0.9)), waterfall=waterfall, server_before=SERVER)
    starved = replace(plain, sched=sched(thread(0.2, wait=0.7)))
    hog = OtherProcess(7, "python3", "compute", 1 << 30, 0.6)
    shared = replace(plain, gpus=(a_gpu(server_sm=0.3, others=(hog,)),))
    assert leads(starved, rule, "QT201") == "QT201"
    assert leads(shared, rule, "QT121") == "QT121"
    assert leads(plain, rule) == rule
    a_little = replace(plain, sched=sched(thread(0.8, wait=0.12)))
    assert leads(a_little, rule, "QT201") == rule


def a_gpu(**told: Any) -> GpuView:
    return replace(gpu(0.5), held={}, **told)


def leads(frame: Frame, *rules: str) -> str | None:
    """Of these rules the one that the verdict is about, once each has seen enough of this frame."""
    trackers = [Tracker(BY_ID[one]) for one in rules]
    for second in range(30):
        findings = [one.push(replace(frame, t=float(second), dt=1.0 if second else 0.0)) for one in trackers]
    assert all(one.state is State.FIRING for one in findings), findings
    first = leading(findings)
    return None if first is None else first.rule


def test_what_the_cpu_explained_a_moment_ago_is_not_laid_on_the_tokenizer() -> None:
    """The gap is a mean of 30 s: it outlives the wait that made it by as long."""
    waterfall = fall(frontend=400.0)
    frame = Frame(1.0, 1.0, SERVER, RUNS, sched(thread(0.4, "api")), waterfall=waterfall, server_before=SERVER)
    before = BY_ID["QT309"].look(frame)
    assert isinstance(before, Observed) and before.value > 0.3
    after = BY_ID["QT309"].look(replace(frame, cpu_wait={"frontend": 0.2}))
    assert isinstance(after, Observed) and after.value == 0.0


def test_on_a_real_one_nothing_stands_for_long_after_the_engine_got_its_cpu_back() -> None:
    path = Path(__file__).parents[1] / "data/recordings/h100-affinity.qtop"
    deriver, trackers = Deriver(), [Tracker(BY_ID[one]) for one in ("QT208", "QT309")]
    begin, starved, quiet = 0.0, 0.0, 0
    for sample in Recording(path).samples():
        frame = deriver.push(sample)
        begin = begin or frame.t
        states = [one.push(frame).state for one in trackers]
        waits = 1.0 if isinstance(frame.sched, Absent) else max(one.wait for one in frame.sched.critical)
        starved = frame.t if waits >= 0.05 else starved
        if frame.t - starved > 16.0:
            quiet += 1
            assert State.FIRING not in states, frame.t - begin
    assert quiet >= 3


def test_the_gpu_of_another_tenant_is_not_laid_on_this_server() -> None:
    """In a container the driver lists no processes: of several GPUs which are the server's is not known."""
    untold = Absent(Why.UNSUPPORTED, "no processes are listed")
    heat: dict[int, dict[str, Reading[float]]] = {0: {"sw_thermal": 0.0}, 1: {"sw_thermal": 8.0}}
    own, other = (
        replace(a_gpu(mem_total=80 << 30, vram=VramSplit(untold, untold, free, 0)), index=index, held=heat[index])
        for index, free in ((0, 8 << 30), (1, 50 << 20))
    )
    frame = Frame(1.0, 1.0, SERVER, RUNS, gpus=(own, other), server_before=SERVER)
    assert isinstance(BY_ID["QT120"].look(frame), CannotTell)
    hot = BY_ID["QT101"].look(replace(frame, gpus=(own, replace(other, sm_mhz=900, sm_max_mhz=1980))))
    assert isinstance(hot, Observed) and hot.value == 0.8 and hot.impact == 0.0
    assert "()" not in hot.told.headline
    assert "()" not in _observed("QT101", frame).told.headline
    both = SettingsView({"x": (Setting("tensor_parallel_size", "2", "command line"),)}, {})
    assert _observed("QT120", replace(frame, settings=both)).value > 0


def _observed(rule: str, frame: Frame) -> Observed:
    answer = BY_ID[rule].look(frame)
    assert isinstance(answer, Observed), answer
    return answer


def test_a_link_that_the_server_fills_itself_is_not_hidden_by_a_small_neighbour() -> None:
    hog = OtherProcess(7, "python3", "compute", 1 << 30, 0.15)
    busy = a_gpu(pcie_share=0.95, server_sm=0.5, others=(hog,))
    offload = SettingsView({"x": (Setting("cpu_offload_gb", "8", "command line"),)}, {})
    frame = Frame(1.0, 1.0, SERVER, RUNS, gpus=(busy,), settings=offload, server_before=SERVER)
    assert leads(frame, "QT112", "QT121") == "QT112"


def test_a_copy_of_another_process_is_not_laid_on_tensor_parallelism() -> None:
    """Whether the GPUs have NVLink is not known: then their exchange is not shown to be what fills the link."""
    hog = OtherProcess(7, "python3", "compute", 1 << 30, 0.15)
    busy = a_gpu(pcie_share=0.95, server_sm=0.5, others=(hog,))
    pair = SettingsView({"x": (Setting("tensor_parallel_size", "2", "command line"),)}, {})
    frame = Frame(1.0, 1.0, SERVER, RUNS, gpus=(busy,), settings=pair, server_before=SERVER)
    assert leads(frame, "QT112", "QT121") == "QT121"


def test_one_answer_that_does_not_come_costs_no_window() -> None:
    """A server under load misses a scrape now and then: what the histograms tell of 30 s is there again at once, and
    nothing is told of the moment itself."""
    deriver, falls = Deriver(), []
    samples = Recording(Path(__file__).parents[1] / "data/recordings/h100-steady16.qtop").samples()
    for number, sample in enumerate(islice(samples, 36)):
        missed = msgspec.structs.replace(sample, engine=Absent(Why.STALE, "no answer within 2 s"))
        falls.append(deriver.push(missed if number == 33 else sample).waterfall)
    assert isinstance(falls[33], Absent)
    for one in (falls[32], falls[34]):
        assert isinstance(one, Waterfall)
        assert one.seconds > 25.0


@pytest.mark.parametrize("why", [Absent(Why.LOST, "refused"), Absent(Why.FAILED, "did not answer within 2 s")])
def test_a_server_that_gives_no_answer_is_not_called_well(why: Absent) -> None:
    said = verdict(Frame(1.0, 1.0, SERVER, why, server_before=SERVER), ())
    assert said.headline.startswith("The server does not answer")
