"""The rules about CPUs, scheduling and the host's memory: thresholds, what cannot be told, and what must not alarm."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from qtop.diagnose.engine import Finding, Tracker
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import CannotTell, NotApplicable, Observed, Severity, State
from qtop.model.cpu import Competitor, MemoryGroupView, MemoryView, UsableView
from qtop.model.frame import (
    EngineView,
    Frame,
    GpuView,
    HostView,
    SchedView,
    Stage,
    ThreadView,
    UtilView,
    VramSplit,
    Waterfall,
)
from qtop.sample import NOT_RECORDED, NOT_YET, Absent, ServerInfo, Why

ABSENT = Absent(Why.NOT_RECORDED)
MIB = float(1 << 20)


def thread(role: str = "engine", **changes: Any) -> ThreadView:
    one = ThreadView(200, 200, "VLLM::EngineCor", role, 0.5, 0.0, 0.0, 100.0, "0-15", 1, role)
    return msgspec.structs.replace(one, **changes)


def sched(*critical: ThreadView, **changes: Any) -> SchedView:
    threads = critical or (thread(), thread("api", pid=100, tid=100, processor=2))
    one = SchedView(
        threads=threads,
        critical=threads,
        processes=2,
        cpu=1.0,
        rss_bytes=1,
        allowed=threads[0].allowed,
        cpuset="0-15",
        quota=None,
        involuntary=0.0,
        competitors=(),
        usable=UsableView("0-15", 16.0, 16.0, "host"),
        nodes=(0,),
    )
    return replace(one, **changes)


def host(**changes: Any) -> HostView:
    one = HostView(
        cpus=16,
        busy=0.2,
        per_cpu=dict.fromkeys(range(16), 0.1),
        steal=0.0,
        iowait=0.0,
        psi_cpu=0.0,
        psi_memory=0.0,
        psi_io=0.0,
        mem_total=64 << 30,
        mem_available=32 << 30,
        runnable=1,
        nodes=1,
        governor="performance",
        swap_used=0,
        swap_in_s=0.0,
        swap_out_s=0.0,
        major_faults_s=0.0,
        migrations_mean_s=0.0,
        numa_balancing=0,
        psi_memory_full=0.0,
    )
    return replace(one, **changes)


def engine(**changes: Any) -> EngineView:
    one = EngineView(16.0, 2.0, 0.3, 0.0, 1000.0, 100.0, 50.0, 5.0, 20.0, 10.0)
    return replace(one, **changes)


def gpu(index: int = 0, **changes: Any) -> GpuView:
    needed: dict[str, Any] = dict.fromkeys(list(GpuView.__struct_fields__)[:19], NOT_YET)
    one = GpuView(**needed)
    held = VramSplit(60 << 30, 0, 1 << 30, 0)
    given: dict[str, Any] = {"index": index, "vram": held, "numa_node": 0, "local_cpus": "0-7"}
    return replace(one, **(given | changes))


def fall(frontend: float, trusted: bool = True) -> Waterfall:
    parts = {"frontend": frontend, "queue": 10.0, "prefill": 100.0, "decode": 900.0}
    stages = tuple(Stage(name, ms) for name, ms in parts.items())
    return Waterfall(30.0, 50.0, stages, 200.0, 20.0, 100.0, trusted=trusted)


def util(**changes: Any) -> UtilView:
    return replace(UtilView(10.0, 0, 0.6, 0.2, 50, 16.0, 0.0, 0.07), **changes)


def frame(**changes: Any) -> Frame:
    given: dict[str, Any] = {
        "server": ServerInfo(url="http://x", engine="vllm", version="0.25.1", pid=100, max_running=256),
        "engine": engine(),
        "sched": sched(),
        "host": host(),
        "gpus": (gpu(),),
        "util": util(mean=0.98, deviation=0.01),
    }
    return Frame(10.0, 1.0, **(given | changes))


def value(rule: str, **changes: Any) -> float:
    answer = BY_ID[rule].look(frame(**changes))
    assert isinstance(answer, Observed), answer
    assert answer.told.headline
    assert len(answer.told.headline) <= 120
    assert answer.told.evidence
    return answer.value


def cannot(rule: str, **changes: Any) -> str:
    answer = BY_ID[rule].look(frame(**changes))
    assert isinstance(answer, CannotTell), answer
    return answer.reason


def no_matter(rule: str, **changes: Any) -> str:
    answer = BY_ID[rule].look(frame(**changes))
    assert isinstance(answer, NotApplicable), answer
    return answer.reason


def play(rule: str, *spans: tuple[int, dict[str, Any]]) -> list[Finding]:
    """The last finding of each span of so many seconds."""
    tracker, t, found = Tracker(BY_ID[rule]), 0.0, []
    for seconds, changes in spans:
        for _ in range(seconds):
            t += 1.0
            finding = tracker.push(replace(frame(**changes), t=t))
        found.append(finding)
    return found


MINE = [one for one in BY_ID if one in {f"QT20{n}" for n in range(3, 10)} | {f"QT60{n}" for n in range(1, 6)}]


def test_they_are_all_there() -> None:
    assert len(MINE) == 12


@pytest.mark.parametrize("rule", MINE)
def test_nothing_known_is_never_clear(rule: str) -> None:
    assert isinstance(BY_ID[rule].look(Frame(1.0, 1.0)), (CannotTell, NotApplicable))


@pytest.mark.parametrize("rule", sorted(set(MINE) - {"QT605"}))
def test_a_healthy_server_is_clear_or_not_concerned(rule: str) -> None:
    answer = BY_ID[rule].look(frame())
    assert isinstance(answer, NotApplicable) or (isinstance(answer, Observed) and answer.value == 0.0)


# QT203


def api(run: float) -> SchedView:
    return sched(thread(), thread("api", pid=100, tid=100, run=run))


def reason_201(**changes: Any) -> str:
    answer = BY_ID["QT201"].look(frame(**changes))
    assert isinstance(answer, Observed)
    assert not answer.told.remedies
    return answer.told.reason


def test_a_narrow_cpuset_is_what_to_widen() -> None:
    """As docker update --cpuset-cpus leaves it: threads use all that their cgroup allows, and that is little."""
    waits = thread(wait=0.4, allowed="0")
    assert "--cpuset-cpus" in reason_201(sched=sched(waits, cpuset="0"))
    assert "only CPU 0 of 16" in reason_201(sched=sched(waits, cpuset="0"))
    everywhere = thread(wait=0.4)
    assert "--cpuset-cpus" not in reason_201(sched=sched(everywhere, cpuset="0-15"))
    assert "--cpuset-cpus" not in reason_201(sched=sched(everywhere, cpuset="?"))


def test_a_busy_api_server_is_saturated_only_where_its_answers_are_late() -> None:
    assert value("QT203", sched=api(0.97)) == 0.0
    assert value("QT203", sched=api(0.97), engine=engine(scrape_ms=49.9)) == 0.0
    assert value("QT203", sched=api(0.97), engine=engine(scrape_ms=50.0)) == 0.97
    assert value("QT203", sched=api(0.97), waterfall=fall(150.0)) == 0.97
    assert value("QT203", sched=api(0.97), waterfall=fall(110.0)) == 0.0  # no more than queue and prefill
    assert value("QT203", sched=api(0.97), waterfall=fall(150.0, trusted=False)) == 0.0


def test_slow_answers_of_an_api_server_with_time_are_not_its_doing() -> None:
    assert value("QT203", sched=api(0.3), engine=engine(scrape_ms=500.0)) < BY_ID["QT203"].enter[0].at


def test_of_several_api_servers_the_busiest() -> None:
    many = sched(thread(), thread("api", pid=101, rank="0", run=0.2), thread("api", pid=102, rank="1", run=0.95))
    answer = BY_ID["QT203"].look(frame(sched=many, engine=engine(scrape_ms=90.0)))
    assert isinstance(answer, Observed)
    assert answer.value == 0.95
    assert "SATURATED 1 95 %" in answer.told.headline
    assert sum("main thread" in one.signal for one in answer.told.evidence) == 2


def test_an_api_server_that_cannot_be_asked_or_seen() -> None:
    assert "late" in cannot("QT203", sched=api(0.97), engine=Absent(Why.LOST, "timed out"))
    assert value("QT203", sched=api(0.2), engine=ABSENT) == 0.0
    silent = Absent(Why.FAILED, "127.0.0.1:8000 accepted but did not answer within 2 s")
    assert value("QT203", sched=api(0.97), engine=silent) == 0.97
    assert value("QT203", sched=api(0.5), engine=silent) == 0.5
    assert "API server" in cannot("QT203", sched=sched(thread()))
    assert "vLLM" in no_matter("QT203", server=ServerInfo(engine="llamacpp"))


# QT204


def narrow(wait: float = 0.0, **changes: Any) -> SchedView:
    return sched(thread(allowed="3", wait=wait), **changes)


def test_a_narrow_mask_alone_is_information() -> None:
    (found,) = play("QT204", (12, {"sched": narrow()}))
    assert (found.state, found.severity) == (State.FIRING, Severity.INFO)
    assert found.impact == 0.0
    assert found.remedies == (), "it may be meant so"
    assert found.figure == "1 of 16 CPUs"
    (waiting,) = play("QT204", (12, {"sched": narrow(0.3)}))
    assert [one.knob for one in waiting.remedies] == ["cpu-affinity"]


def test_where_the_server_is_short_there_it_is_a_warning_and_information_again_when_it_is_not() -> None:
    spans = [(12, {"sched": narrow(0.3)}), (12, {"sched": narrow(0.0)}), (12, {"sched": sched()})]
    found = play("QT204", *spans)
    assert [one.severity for one in found[:2]] == [Severity.WARNING, Severity.INFO]
    assert [one.state for one in found] == [State.FIRING, State.FIRING, State.CLEAR]


def test_just_below_the_wait_it_stays_information() -> None:
    assert play("QT204", (20, {"sched": narrow(0.049)}))[0].severity is Severity.INFO
    assert play("QT204", (20, {"sched": narrow(0.051)}))[0].severity is Severity.WARNING


def test_widening_to_cpus_that_are_busy_too_is_no_warning() -> None:
    full = host(per_cpu=dict.fromkeys(range(16), 0.95))
    assert play("QT204", (20, {"sched": narrow(0.3), "host": full}))[0].severity is Severity.INFO


def test_bound_to_the_gpus_node_by_intent_is_no_finding() -> None:
    assert value("QT204", sched=sched(thread(allowed="0-7", wait=0.3))) == 0.0
    assert value("QT204", sched=sched(thread(allowed="0-6"))) > 0.0
    assert value("QT204", sched=sched(thread(allowed="8-15"))) > 0.0


def test_a_mask_read_before_the_cpuset_was_changed_tells_nothing() -> None:
    """Masks are read every five seconds, cpusets every second: docker update --cpuset-cpus lies between them."""
    assert value("QT204", sched=sched(thread(allowed="8-15", wait=0.3), cpuset="0-7")) == 0.0
    answer = BY_ID["QT201"].look(frame(sched=sched(thread(allowed="8-15", wait=0.3), cpuset="0-7")))
    assert isinstance(answer, Observed)
    assert not answer.told.remedies


def test_a_quota_is_no_shortage_of_cpus() -> None:
    throttled = sched(thread(allowed="3", wait=0.8, throttled=0.8))
    assert play("QT204", (20, {"sched": throttled}))[0].severity is Severity.INFO


def test_what_the_cgroup_allows_must_be_known() -> None:
    assert "cgroup" in cannot("QT204", sched=narrow(cpuset=NOT_RECORDED))
    assert "recorded" in cannot("QT204", sched=sched(thread(allowed="")))
    assert value("QT204", sched=narrow(cpuset="3")) == 0.0


# QT205


def two_nodes(processor: int, **changes: Any) -> dict[str, Any]:
    return {"host": host(nodes=2), "sched": sched(thread(processor=processor, **changes), nodes=(processor // 8,))}


def test_the_other_socket() -> None:
    assert value("QT205", **two_nodes(9)) == 1.0
    assert value("QT205", **two_nodes(7)) == 0.0
    found = play("QT205", (9, two_nodes(9)), (3, two_nodes(9)), (12, two_nodes(1)))
    assert [one.state for one in found] == [State.FIRING, State.FIRING, State.CLEAR]


def test_a_node_matters_by_what_ran_there() -> None:
    both = sched(thread(run=0.9, processor=1), thread("api", run=0.1, processor=9))
    assert value("QT205", host=host(nodes=2), sched=both) == pytest.approx(0.1)
    assert value("QT205", **two_nodes(9, run=0.0)) == 0.0  # idle: nothing runs anywhere


def test_near_any_of_its_gpus_is_near() -> None:
    several = (gpu(0), gpu(1, numa_node=1, local_cpus="8-15"))
    assert value("QT205", **two_nodes(9), gpus=several) == 0.0
    other = gpu(1, numa_node=1, local_cpus="8-15", vram=VramSplit(0, 60 << 30, 1 << 30, 0))
    assert value("QT205", **two_nodes(9), gpus=(gpu(0), other)) == 1.0  # that GPU is another's


def test_a_node_that_nobody_tells() -> None:
    unknown = Absent(Why.UNSUPPORTED, "-1")
    assert "GPU 0" in cannot("QT205", **two_nodes(9), gpus=(gpu(numa_node=unknown),))
    assert "recorded" in cannot("QT205", **two_nodes(-1))
    assert "nodes" in cannot("QT205", host=host(nodes=NOT_RECORDED))
    assert "one NUMA node" in no_matter("QT205")
    no_matter("QT205", gpus=Absent(Why.UNSUPPORTED, "no NVIDIA driver"))


def test_the_knob_is_offered_only_where_a_mask_keeps_it_away() -> None:
    free = BY_ID["QT205"].look(frame(**two_nodes(9)))
    kept = BY_ID["QT205"].look(frame(**two_nodes(9, allowed="8-15")))
    assert isinstance(free, Observed)
    assert isinstance(kept, Observed)
    assert (len(free.told.remedies), len(kept.told.remedies)) == (0, 1)
    assert "taskset" in kept.told.reason


def test_a_cpuset_far_from_the_gpu_is_what_to_change() -> None:
    """There taskset fails, and the knob as well."""
    views = two_nodes(9, allowed="8-15")
    views["sched"] = replace(views["sched"], cpuset="8-15")
    fixed = BY_ID["QT205"].look(frame(**views))
    assert isinstance(fixed, Observed)
    assert not fixed.told.remedies
    assert "--cpuset-cpus" in fixed.told.reason
    assert "taskset" not in fixed.told.reason


# QT206


def beside(wait: float, *shares: float) -> SchedView:
    others = tuple(Competitor(900 + n, "trainer", share, "3") for n, share in enumerate(shares))
    return sched(thread(wait=wait), competitors=others)


def test_nobody_waits_for_longer_than_others_run() -> None:
    assert value("QT206", sched=beside(0.8, 0.5, 0.1)) == pytest.approx(0.6)
    assert value("QT206", sched=beside(0.3, 0.9, 0.9)) == pytest.approx(0.3)
    assert value("QT206", sched=beside(0.3)) == 0.0  # its own threads are in the way


def test_competitors_do_not_matter_while_nothing_waits() -> None:
    assert value("QT206", sched=beside(0.04, 3.0)) == 0.0
    assert value("QT206", sched=sched(competitors=NOT_YET)) == 0.0
    assert "who" in cannot("QT206", sched=sched(thread(wait=0.3), competitors=NOT_YET))


def test_it_never_leads() -> None:
    assert all(one.severity is Severity.INFO for one in BY_ID["QT206"].enter)


# QT207


def test_steal_by_degrees() -> None:
    spans = [{"host": host(steal=share)} for share in (0.049, 0.05, 0.2)]
    found = [play("QT207", (12, span))[0] for span in spans]
    assert [one.state for one in found] == [State.CLEAR, State.FIRING, State.FIRING]
    assert [one.severity for one in found[1:]] == [Severity.WARNING, Severity.CRITICAL]


def test_what_stealing_costs_is_what_the_thread_did_not_get() -> None:
    answer = BY_ID["QT207"].look(frame(host=host(steal=0.1, busy=0.4), sched=sched(thread(run=0.8))))
    assert isinstance(answer, Observed)
    assert answer.impact == pytest.approx(0.8 * 0.25)
    idle = BY_ID["QT207"].look(frame(host=host(steal=0.1, busy=0.4), sched=sched(thread(run=0.0))))
    assert isinstance(idle, Observed)
    assert idle.impact == 0.0
    cannot("QT207", host=host(steal=ABSENT))


# QT208


def test_a_gpu_with_gaps_while_the_engine_waits() -> None:
    assert value("QT208", util=util()) == pytest.approx(0.4)
    assert value("QT208", util=util(wait=0.0), waterfall=fall(150.0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "healthy",
    [
        {"mean": 0.90},
        {"deviation": 0.079},  # a steady load is the engine's own pace
        {"running": 0.0},  # idle between requests
        {"running": 3.0, "waiting": 0.0},  # few clients
        {"wait": 0.049},  # the host is in time
        {"mean": 0.99, "deviation": 0.3},
    ],
)
def test_what_is_no_starvation(healthy: dict[str, float]) -> None:
    assert value("QT208", util=util(**healthy)) == 0.0


def test_few_requests_that_queue_are_not_the_clients_pace() -> None:
    assert value("QT208", util=util(running=3.0, waiting=2.0)) > 0.0
    small = ServerInfo(engine="llamacpp", max_running=4)
    assert value("QT208", util=util(running=2.0), server=small) > 0.0


def test_starvation_needs_all_its_inputs() -> None:
    assert cannot("QT208", util=Absent(Why.UNSUPPORTED, "MIG"))
    assert "requests" in cannot("QT208", util=util(running=ABSENT))
    assert "CPU" in cannot("QT208", util=util(wait=ABSENT))
    assert value("QT208", util=util(wait=ABSENT, mean=0.99)) == 0.0
    no_matter("QT208", gpus=Absent(Why.UNSUPPORTED, "no NVIDIA driver"))


def test_its_causes_come_first() -> None:
    assert all("QT208" in BY_ID[rule].explains for rule in ("QT201", "QT202", "QT203", "QT207"))


# QT209


def cores(number: float, logical: float, wait: float = 0.0) -> SchedView:
    return sched(thread(wait=wait), usable=UsableView("0-3", logical, number, "quota"))


def test_too_few_cores_is_a_warning_only_where_threads_wait() -> None:
    assert value("QT209", sched=cores(3, 6)) == 0.0
    assert play("QT209", (12, {"sched": cores(3, 5)}))[0].severity is Severity.INFO
    assert play("QT209", (12, {"sched": cores(3, 5, 0.3)}))[0].severity is Severity.INFO
    assert play("QT209", (12, {"sched": cores(2, 4)}))[0].severity is Severity.INFO
    found = play("QT209", (12, {"sched": cores(2, 4, 0.3)}), (12, {"sched": cores(2, 4)}))
    assert [one.severity for one in found] == [Severity.WARNING, Severity.INFO]


def test_each_gpu_of_the_server_counts() -> None:
    two = (gpu(0), gpu(1))
    assert value("QT209", sched=cores(4, 8), gpus=two) == 0.0
    assert value("QT209", sched=cores(3, 8), gpus=two) > 0.0
    unlisted = tuple(gpu(n, vram=NOT_YET) for n in range(8))
    assert "driver" in cannot("QT209", gpus=unlisted)
    assert "CPUs" in cannot("QT209", sched=sched(usable=NOT_RECORDED))
    no_matter("QT209", gpus=Absent(Why.UNSUPPORTED, "no NVIDIA driver"))


def test_without_cores_cpus_count() -> None:
    assert value("QT209", sched=sched(thread(), usable=UsableView("0-3", 2.0, ABSENT, "host"))) > 0.0


# QT601, QT602


def test_memory_pressure_by_degrees() -> None:
    for share, severity in ((0.099, None), (0.10, Severity.WARNING), (0.4, Severity.CRITICAL)):
        found = play("QT601", (12, {"host": host(psi_memory=share)}))[0]
        assert (found.severity if found.state is State.FIRING else None) is severity


def group(**changes: Any) -> SchedView:
    return sched(memory=replace(MemoryGroupView(1 << 30, 1 << 30, 900.0, 0.0, 0.0), **changes))


def test_the_pressure_of_its_own_cgroup_outweighs_that_of_others() -> None:
    assert value("QT601", sched=group(some=0.3), host=host(psi_memory=0.0)) == 0.3
    assert value("QT601", sched=group(), host=host(psi_memory=0.5)) == 0.0  # somebody else thrashes
    assert value("QT601", sched=group(), host=host(psi_memory=0.5, psi_memory_full=0.2)) == 0.2
    answer = BY_ID["QT601"].look(frame(sched=group(some=0.3)))
    assert isinstance(answer, Observed)
    assert "limit of 1.0 GiB is full" in answer.told.headline
    assert answer.impact == 0.3


def test_memory_that_is_all_but_gone() -> None:
    assert value("QT601", host=host(mem_available=900 << 20)) == 0.10
    assert value("QT601", host=host(mem_available=3 << 30)) == 0.0
    assert value("QT601", host=host(mem_total=8 << 30, mem_available=900 << 20)) == 0.0
    cannot("QT601", host=host(psi_memory=ABSENT))


def test_swapping_is_what_comes_back_and_is_waited_for() -> None:
    assert value("QT602", host=host(swap_in_s=5 * MIB, major_faults_s=500.0)) == 5.0
    assert value("QT602", host=host(swap_in_s=5 * MIB, major_faults_s=9.0)) == 0.0
    assert value("QT602", host=host(swap_out_s=50 * MIB, major_faults_s=500.0)) == 0.0
    assert value("QT602", host=host(swap_used=8 << 30)) == 0.0  # cold pages
    cannot("QT602", host=host(swap_in_s=ABSENT))
    assert "QT601" in BY_ID["QT602"].explains


# QT603 to QT605


@pytest.mark.parametrize(
    ("governor", "preference", "slow"),
    [
        ("performance", ABSENT, False),
        ("powersave", ABSENT, True),
        ("performance 0-3, schedutil 4-7", ABSENT, True),
        ("powersave", "performance", False),  # intel_pstate: the preference decides
        ("powersave", "balance_power", True),
        ("powersave", "performance 0-3, power 4-7", True),
    ],
)
def test_governors(governor: str, preference: str | Absent, slow: bool) -> None:
    assert value("QT603", host=host(governor=governor, preference=preference)) == float(slow)


def test_no_cpufreq_is_nobodys_fault() -> None:
    no_matter("QT603", host=host(governor=Absent(Why.UNSUPPORTED, "no cpufreq")))
    cannot("QT603", host=host(governor=NOT_RECORDED))


def test_pages_that_move() -> None:
    moving = {"nodes": 2, "numa_balancing": 1}
    assert play("QT604", (61, {"host": host(**moving, migrations_mean_s=499.0)}))[0].state is State.CLEAR
    much = {"host": host(**moving, migrations_mean_s=501.0)}
    found = play("QT604", (35, much), (11, much))
    assert [one.state for one in found] == [State.CANNOT_TELL, State.FIRING]
    assert value("QT604", host=host(nodes=2, migrations_mean_s=900.0)) == 0.0  # switched off
    no_matter("QT604", host=host(numa_balancing=1, migrations_mean_s=900.0))
    cannot("QT604", host=host(nodes=NOT_RECORDED))
    cannot("QT604", host=host(nodes=2, numa_balancing=ABSENT))
    cannot("QT604", host=host(nodes=2, numa_balancing=1, migrations_mean_s=ABSENT))


def test_pages_that_follow_a_process_once() -> None:
    """The mean of a burst lasts as long as its window and what it took; bursts that come again do not end."""
    moving = {"nodes": 2, "numa_balancing": 1}
    rests, moved = host(**moving, migrations_mean_s=0.0), host(**moving, migrations_mean_s=1000.0)
    once = play("QT604", (30, {"host": rests}), (30, {"host": moved}), (30, {"host": rests}))
    assert [one.state for one in once[1:]] == [State.CLEAR, State.CLEAR]
    again = play("QT604", (30, {"host": rests}), *[(24, {"host": moved}), (6, {"host": rests})] * 2)
    assert again[-1].state is State.FIRING


def modules(**changes: Any) -> dict[str, Any]:
    one = MemoryView(2, 4, "DDR5", 2, 6000, 6000, 96e9)
    return {"host": host(memory=replace(one, **changes))}


def test_memory_modules() -> None:
    assert value("QT605", **modules()) == 0.0
    assert value("QT605", **modules(configured_mts=4800)) == pytest.approx(0.2)
    assert value("QT605", **modules(configured_mts=5990)) == 0.0  # rounding
    assert value("QT605", **modules(channels=1)) == 0.5
    assert value("QT605", **modules(channels=1, slots=2)) == 0.0  # a board with one channel, full
    assert value("QT605", **modules(modules=1, channels=ABSENT, slots=2)) == 0.5
    assert value("QT605", **modules(channels=ABSENT)) == 0.0  # its speed is known
    assert "dmidecode" in cannot("QT605")
    assert "dmidecode" in cannot("QT605", **modules(channels=ABSENT, rated_mts=ABSENT))
