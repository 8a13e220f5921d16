"""Hysteresis, cannot tell, and the verdict: by seconds observed, whatever the interval."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from tests.build import T0, vllm

from qtop.diagnose.engine import Diagnosis, Finding
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Observed, Severity, State, Told
from qtop.diagnose.rules.cpu_wait import thread_name
from qtop.diagnose.rules.QT201_engine_waits_for_cpu import RULE
from qtop.diagnose.verdict import leading, verdict
from qtop.diagnose.whole import diagnose_all
from qtop.model.cpu import Competitor
from qtop.model.derive import Deriver
from qtop.model.frame import Frame, HostView, SchedView, ThreadView
from qtop.sample import Absent, CgroupSample, Sample, ServerProcs, Why


class Play:
    """Samples of a vLLM whose engine waits a given share of each second, at a given interval."""

    def __init__(self, interval: float = 1.0, **more: object) -> None:
        self.interval, self.more = interval, more
        self.at, self.waited, self.throttled = 1.0, 0.0, 0.0
        self.deriver, self.diagnosis = Deriver(), Diagnosis(RULES)
        self.frame = Frame(0.0, 0.0)
        self.findings: tuple[Finding, ...] = ()
        self.step(0.0)

    def step(self, share: float, throttled: float = 0.0) -> Finding:
        self.at += self.interval
        self.waited += share * self.interval
        self.throttled += throttled * self.interval
        extra = {"throttled_s": self.throttled} if throttled or self.throttled else {}
        return self.push(vllm(self.at, self.waited, **(self.more | extra)))  # type: ignore[arg-type]

    def push(self, sample: Sample) -> Finding:
        self.frame = self.deriver.push(sample)
        self.findings = self.diagnosis.push(self.frame)
        return self.of("QT201")

    def of(self, rule: str) -> Finding:
        return next(one for one in self.findings if one.rule == rule)

    def seconds(self, share: float, seconds: float, throttled: float = 0.0) -> Finding:
        finding = self.of("QT201")
        for _ in range(round(seconds / self.interval)):
            finding = self.step(share, throttled)
        return finding


@pytest.mark.parametrize("interval", [0.25, 0.5, 1.0])
def test_critical_after_three_seconds_and_not_before(interval: float) -> None:
    play = Play(interval)
    assert play.seconds(0.8, 2.0).state is not State.FIRING
    finding = play.seconds(0.8, 1.0)
    assert (finding.state, finding.severity) == (State.FIRING, "critical")


def test_a_slow_interval_still_fires() -> None:
    play = Play(5.0)
    assert play.seconds(0.8, 10.0).state is State.FIRING


def test_warning_needs_eight_of_ten_seconds() -> None:
    play = Play()
    assert play.seconds(0.12, 7.0).state is not State.FIRING
    finding = play.step(0.12)
    assert (finding.state, finding.severity) == (State.FIRING, "warning")


def test_two_quiet_seconds_among_ten_do_not_hide_it() -> None:
    play = Play()
    for share in (0.15, 0.15, 0.0, 0.15, 0.15, 0.15, 0.0, 0.15, 0.15):
        play.step(share)
    assert play.step(0.15).state is State.FIRING


def test_short_bursts_do_not_fire() -> None:
    play = Play()
    for _ in range(6):
        assert play.step(0.9).state is not State.FIRING
        assert play.step(0.0).state is not State.FIRING
        assert play.step(0.0).state is not State.FIRING


def test_it_clears_only_after_ten_seconds_below() -> None:
    play = Play()
    play.seconds(0.8, 5.0)
    assert play.seconds(0.01, 9.0).state is State.FIRING
    assert play.step(0.01).state is State.CLEAR


def test_while_it_clears_it_says_what_it_was_and_that_it_is_better() -> None:
    play = Play()
    play.seconds(0.8, 5.0)
    finding = play.seconds(0.0, 4.0)
    assert "80 %" in finding.headline
    assert finding.reason == "better for 4 s; clears after 10 s"


def test_between_clear_and_enter_it_stays() -> None:
    play = Play()
    play.seconds(0.8, 5.0)
    assert play.seconds(0.07, 30.0).state is State.FIRING


def test_idle_is_clear_after_three_seconds_and_before_that_nothing_is_claimed() -> None:
    play = Play()
    assert play.step(0.0).state is State.CANNOT_TELL
    assert play.seconds(0.0, 2.0).state is State.CLEAR


def test_absent_input_says_cannot_tell_at_once_and_how() -> None:
    play = Play()
    play.seconds(0.8, 5.0)
    gone = replace_procs(vllm(play.at + 1, 0.0), Absent(Why.DENIED, "no permission to read process 100"))
    finding = play.push(gone)
    assert finding.state is State.CANNOT_TELL
    assert "no permission" in finding.reason
    assert verdict(play.frame, play.findings).rule is None


def test_not_on_this_host() -> None:
    play = Play()
    finding = play.push(replace_procs(vllm(play.at + 1, 0.0), Absent(Why.NOT_HERE, "not on this host")))
    assert (finding.state, finding.reason) == (State.CANNOT_TELL, "not on this host")


def replace_procs(sample: Sample, procs: Absent) -> Sample:
    return Sample(t=sample.t, server=sample.server, host=sample.host, procs=procs)


def test_a_gap_speaks_for_ten_seconds_at_most() -> None:
    """A minute asleep with a mean of 0.5 must not look like a minute of waiting, nor may it fire for ever."""
    play = Play()
    play.at += 59.0
    play.step(0.5)
    assert play.seconds(0.0, 11.0).state is State.CLEAR


def test_the_quota_explains_the_wait_and_no_affinity_is_offered() -> None:
    play = Play(throttled_s=0.0, allowed="3")
    play.seconds(0.8, 5.0, throttled=0.8)
    assert play.of("QT201").state is not State.FIRING
    assert "QT202" in play.of("QT201").reason
    quota = play.of("QT202")
    assert (quota.state, quota.severity) == (State.FIRING, "critical")
    assert not quota.remedies
    assert verdict(play.frame, play.findings).rule == "QT202"


def test_without_a_quota_qt202_does_not_apply() -> None:
    play = Play()
    play.seconds(0.0, 5.0)
    assert play.of("QT202").state is State.NOT_APPLICABLE


def test_with_cgroups_above_those_in_sight_qt202_cannot_tell() -> None:
    """In a container: an outer cgroup's quota would stop the server just as well."""
    play = Play()
    for at in (3.0, 4.0, 5.0):
        sample = vllm(at, 0.0)
        assert isinstance(sample.procs, ServerProcs)
        group = sample.procs.cgroups["g"]
        assert isinstance(group, CgroupSample)
        above = msgspec.structs.replace(group, above=True)
        procs = msgspec.structs.replace(sample.procs, cgroups={"g": above})
        play.push(msgspec.structs.replace(sample, procs=procs))
    found = play.of("QT202")
    assert found.state is State.CANNOT_TELL
    assert "cgroups above may have one" in found.reason


def test_the_threads_that_matter_are_called_by_their_roles() -> None:
    def name(role: str) -> str:
        return thread_name(ThreadView(1, 2, "comm", role, 0.0, 0.0, 0.0, 0.0, "0"))

    assert [name(role) for role in ("engine", "scheduler", "api", "")] == [
        "EngineCore's main thread",
        "the scheduler's main thread",
        "the API server's main thread",
        "thread comm (2)",
    ]


def test_affinity_is_offered_only_where_it_can_help() -> None:
    pinned, free = Play(allowed="3"), Play(allowed="0-3")
    assert [one.knob for one in pinned.seconds(0.8, 5.0).remedies] == ["cpu-affinity"]
    finding = free.seconds(0.8, 5.0)
    assert not finding.remedies
    assert "every CPU" in finding.reason


def test_evidence_has_signal_unit_threshold_and_source() -> None:
    play = Play(allowed="3")
    first = play.seconds(0.8, 5.0).evidence[0]
    assert (first.unit, first.threshold) == ("of wall time", 0.10)
    assert first.source
    assert isinstance(first.value, float)


def test_a_whole_recording_keeps_what_fired_and_its_share() -> None:
    waited, samples = 0.0, []
    for second in range(60):
        waited += 0.8 if 10 <= second < 20 else 0.0
        samples.append(vllm(float(second), waited))
    whole = diagnose_all(samples)
    assert whole is not None
    finding = whole.findings[0]
    assert (finding.rule, finding.state) == ("QT201", State.FIRING)
    assert finding.value == pytest.approx(8.0 / 59.0, rel=0.05)
    assert whole.verdict.rule == "QT201"
    states = [turn.state for turn in whole.timeline if turn.rule == "QT201"]
    assert states == [State.CANNOT_TELL, State.CLEAR, State.FIRING, State.CLEAR]
    fired = next(turn.t for turn in whole.timeline if turn.state is State.FIRING)
    assert fired == pytest.approx(T0 + 12.0)


def test_no_samples_no_diagnosis() -> None:
    assert diagnose_all([]) is None


def test_a_rule_that_judged_once_is_clear_even_if_its_input_went() -> None:
    samples = [vllm(float(second), 0.0) for second in range(20)]
    samples.append(replace_procs(samples[-1], Absent(Why.LOST, "gone")))
    samples[-1] = Sample(t=T0 + 20.0, server=samples[-1].server, procs=samples[-1].procs, host=samples[-1].host)
    whole = diagnose_all(samples)
    assert whole is not None
    assert next(one for one in whole.findings if one.rule == "QT201").state is State.CLEAR


def test_without_a_server_the_verdict_says_so() -> None:
    frame = Deriver().push(Sample(t=T0, server=Absent(Why.LOST, "No LLM server found on this host")))
    assert verdict(frame, Diagnosis(RULES).push(frame)).headline == "No LLM server found on this host"


def test_a_rule_never_raises_on_an_empty_frame() -> None:
    frame = Frame(T0, 1.0)
    RULE.look(frame)
    RULE.look(replace(frame, dt=0.0))


# ---- who is in the way


def crowded(own_run: float, others: float, busy: float = 0.95, hosts_cpus: int = 4, allowed: str = "0-3") -> Frame:
    """An engine that waits 60 % of the time; so many CPUs of its own threads and of one other process beside it."""
    play = Play()
    play.seconds(0.6, 4.0)
    sched, host = play.frame.sched, play.frame.host
    assert isinstance(sched, SchedView) and isinstance(host, HostView)
    engine = msgspec.structs.replace(max(sched.critical, key=lambda thread: thread.contended), allowed=allowed)
    worker = msgspec.structs.replace(engine, tid=300, role="worker", run=own_run, wait=0.0)
    sched = replace(
        sched,
        threads=(engine, worker),
        critical=(engine,),
        cpu=own_run + engine.run,
        competitors=(Competitor(900, "make", others, "0"),) if others else (),
    )
    return replace(play.frame, sched=sched, host=replace(host, cpus=hosts_cpus, busy=busy))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (crowded(3.7, 0.05), "the server's own threads fill cores 0-3"),
        (crowded(3.7, 0.0), "the server's own threads fill cores 0-3"),
        (crowded(1.0, 0.9), "make on cores 0-3 too"),
        (crowded(2.0, 0.05), "make on cores 0-3 too"),  # somebody too short-lived to be listed took 1.8 CPUs
        (crowded(0.1, 0.05, busy=0.05), "make on cores 0-3 too"),
        (crowded(3.7, 0.05, hosts_cpus=8, allowed="0-3"), "make on cores 0-3 too"),
    ],
)
def test_another_process_is_named_only_where_it_explains_the_wait(frame: Frame, says: str) -> None:
    answer = RULE.look(frame)
    assert isinstance(answer, Observed) and answer.told.headline.endswith(f"— {says}")


def test_a_server_that_fills_its_own_cpus_is_not_told_to_move_its_neighbours() -> None:
    answer = RULE.look(crowded(3.7, 0.05))
    assert isinstance(answer, Observed) and "it needs more CPUs" in answer.told.reason
    beside = RULE.look(crowded(1.0, 0.9))
    assert isinstance(beside, Observed) and "beside it" in beside.told.reason


# ---- the verdict


def of_size(rule: str, impact: float, severity: Severity = Severity.WARNING) -> Finding:
    seen = Observed(1.0, lambda: Told(rule, ()), impact=impact)
    return Finding(rule, rule, State.FIRING, severity, 1.0, 0.0, seen)


def test_the_verdict_is_what_explains_most_and_does_not_flap_between_two_of_a_size() -> None:
    steal, memory = of_size("QT207", 0.07), of_size("QT601", 0.08)

    def rule(*findings: Finding, held: str | None = None) -> str | None:
        first = leading(findings, held)
        return first.rule if first is not None else None

    assert rule(steal, memory) == "QT601"
    assert rule(steal, memory, held="QT207") == "QT207"
    assert rule(steal, of_size("QT601", 0.30), held="QT207") == "QT601"
    assert rule(memory, held="QT207") == "QT601", "what has cleared holds nothing"
    assert rule(steal, of_size("QT601", 0.08, Severity.CRITICAL), held="QT207") == "QT601"
    assert rule() is None


def test_a_cause_is_told_before_what_follows_from_it_and_an_info_never() -> None:
    starved, waits = of_size("QT208", 0.9), of_size("QT201", 0.3)
    first = leading([starved, waits], "QT208")
    assert first is not None and first.rule == "QT201"
    assert leading([of_size("QT110", 1.0, Severity.INFO)]) is None
