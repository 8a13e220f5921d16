"""Run-queue delay: share of wall time, less the quota's part, of the threads that matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.build import T0, host, process, server, thread, vllm

from qtop.model.derive import Deriver
from qtop.model.frame import Frame, QuotaView, SchedView
from qtop.model.host import host_view
from qtop.model.roles import roles_of
from qtop.sample import NOT_RECORDED, Absent, CpuTimes, HostSample, Sample, ServerProcs, TaskSample, Why


def derive(*samples: Sample) -> Frame:
    deriver = Deriver()
    frames = [deriver.push(sample) for sample in samples]
    return frames[-1]


def sched(frame: Frame) -> SchedView:
    assert isinstance(frame.sched, SchedView), frame.sched
    return frame.sched


def test_wait_is_a_share_of_wall_time_not_of_run_plus_wait() -> None:
    view = sched(derive(vllm(1.0, 0.0), vllm(3.0, engine_wait=0.010, engine_run=0.001)))
    engine = next(one for one in view.critical if one.role == "engine")
    assert engine.wait == pytest.approx(0.005)
    assert engine.contended == pytest.approx(0.005)


def test_the_first_sample_gives_no_rate() -> None:
    frame = derive(vllm(1.0, 5.0))
    assert isinstance(frame.sched, Absent)
    assert frame.sched.why is Why.NOT_YET


def test_the_main_threads_of_engine_and_api_are_critical_for_vllm() -> None:
    view = sched(derive(vllm(1.0, 0.0), vllm(2.0, 0.3, 0.2, api_wait=0.6)))
    assert [one.role for one in view.critical] == ["api", "engine"]


def test_what_the_quota_throttled_is_not_contention() -> None:
    view = sched(derive(vllm(1.0, 0.0, throttled_s=0.0), vllm(2.0, 0.8, 0.2, throttled_s=0.8)))
    engine = view.critical[0]
    assert engine.wait == pytest.approx(0.8)
    assert engine.throttled == pytest.approx(0.8)
    assert engine.contended == pytest.approx(0.0)
    assert isinstance(view.quota, QuotaView)
    assert view.quota.cores == pytest.approx(0.2)


def test_a_small_throttle_leaves_the_rest_as_contention() -> None:
    view = sched(derive(vllm(1.0, 0.0, throttled_s=0.0), vllm(2.0, 0.8, 0.2, throttled_s=0.1)))
    assert view.critical[0].contended == pytest.approx(0.7)


def test_what_two_threads_were_stopped_for_adds_up_in_the_counter() -> None:
    """Each on a CPU of its own, each stopped for 0.8 s a second: the counter says 1.6, and both are explained."""
    view = sched(derive(vllm(1.0, 0.0, throttled_s=0.0), vllm(2.0, 0.8, 0.2, api_wait=0.8, throttled_s=1.6)))
    assert [one.contended for one in view.critical] == pytest.approx([0.0, 0.0])


def test_nothing_is_stopped_for_longer_than_the_periods_that_ended_throttled() -> None:
    """Many CPUs stopped in one period of ten: the counter is large, but one thread was stopped for 0.1 s at most."""
    view = sched(derive(vllm(1.0, 0.0, throttled_s=0.0, periods=0), vllm(2.0, 0.8, 0.2, throttled_s=0.8, periods=1)))
    assert view.critical[0].contended == pytest.approx(0.7)


def test_a_reused_pid_shares_no_counters() -> None:
    old = vllm(1.0, 50.0)
    new = vllm(2.0, 51.0)
    assert isinstance(new.procs, ServerProcs)
    reborn = process(200, "VLLM::EngineCor", (thread(200, "VLLM::EngineCor", 1.0, 51.0),), 100)
    changed = ServerProcs(
        at=2.0,
        processes=(
            new.procs.processes[0],
            type(reborn)(**{**{f: getattr(reborn, f) for f in reborn.__struct_fields__}, "start_ticks": 999}),
        ),
    )
    view = sched(derive(old, Sample(t=T0 + 2, server=server(), procs=changed, host=host(2.0))))
    assert [one.pid for one in view.threads] == [100]


def test_a_gap_in_the_readings_breaks_the_chain() -> None:
    lost = Sample(t=T0 + 2, server=server(), procs=Absent(Why.STALE, "late"), host=host(2.0))
    frame = derive(vllm(1.0, 0.0), lost, vllm(60.0, 30.0))
    assert isinstance(frame.sched, Absent)


def test_competitors_are_those_on_the_threads_cpus() -> None:
    def tasks(ticks: int) -> tuple[TaskSample, ...]:
        return (
            TaskSample(7, 1, "hog", ticks, "3"),
            TaskSample(8, 1, "elsewhere", ticks, "1"),
            TaskSample(9, 1, "idle", 5, "3"),
        )

    view = sched(
        derive(
            vllm(1.0, 0.0, allowed="3", tasks=tasks(0)),
            vllm(2.0, 0.8, allowed="3", tasks=tasks(90)),
        )
    )
    assert not isinstance(view.competitors, Absent)
    assert [(one.comm, round(one.share, 2)) for one in view.competitors] == [("hog", 0.9)]


def test_without_a_scan_the_competitors_are_absent_not_none() -> None:
    assert isinstance(sched(derive(vllm(1.0, 0.0), vllm(2.0, 0.8))).competitors, Absent)


def test_threads_that_cannot_be_read_say_why() -> None:
    why = Absent(Why.UNSUPPORTED, "no schedstat")

    def sample(at: float) -> Sample:
        one = process(100, "python3", why)
        return Sample(t=T0 + at, server=server(), procs=ServerProcs(at=at, processes=(one,)), host=host(at))

    assert derive(sample(1.0), sample(2.0)).sched == why


def test_for_llamacpp_the_busiest_thread_is_critical() -> None:
    def sample(at: float, run: float, wait: float) -> Sample:
        one = process(100, "llama-server", (thread(100, "llama-server", 0, 0), thread(101, "llama-server", run, wait)))
        procs = ServerProcs(at=at, processes=(one,))
        return Sample(t=T0 + at, server=server("llamacpp"), procs=procs, host=host(at))

    assert [one.tid for one in sched(derive(sample(1.0, 0, 0), sample(2.0, 0.2, 0.7))).critical] == [101]


def test_an_untitled_engine_process_is_found_by_its_work() -> None:
    def sample(at: float, wait: float) -> Sample:
        api = process(100, "vllm", (thread(100, "vllm", 0.0, 0.0),))
        engine = process(200, "python3", (thread(200, "python3", 0.0, wait),), 100)
        return Sample(t=T0 + at, server=server(), procs=ServerProcs(at=at, processes=(api, engine)), host=host(at))

    assert sched(derive(sample(1.0, 0.0), sample(2.0, 0.7))).critical[0].pid == 200


@pytest.mark.parametrize(
    ("comm", "role"),
    [("VLLM::EngineCor", "engine"), ("VLLM::APIServer", "api"), ("VLLM::Worker_TP", "worker"), ("resource", "")],
)
def test_roles_by_title(comm: str, role: str) -> None:
    members = [process(100, "vllm", NOT_RECORDED), process(300, comm, NOT_RECORDED)]
    assert roles_of(members, "vllm")[300][0] == role


@given(
    st.lists(st.tuples(*[st.integers(0, 10_000)] * 8), min_size=2, max_size=2),
    st.floats(0.1, 10.0),
)
def test_host_shares_stay_between_0_and_1(ticks: list[tuple[int, ...]], seconds: float) -> None:
    """Also when idle runs backwards by some ticks, as it does on tickless kernels."""
    old, new = (
        HostSample(at=at, cpus={"all": CpuTimes(*row), "0": CpuTimes(*row)})
        for at, row in zip((0.0, seconds), ticks, strict=True)
    )
    view = host_view(old, new)
    for value in (view.busy, view.steal, view.iowait, *view.per_cpu.values()):
        assert isinstance(value, Absent) or 0.0 <= value <= 1.0
