"""The knobs neighbours-nice and neighbours-cpus on real processes: whom they take, what they leave, what goes back."""

from __future__ import annotations

import copy
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.fakes.crash import ThreadedProcess, as_nobody, masks
from tests.fakes.family import Family
from tests.fakes.live_sweep import rival_frame
from tests.fakes.load import quota

from qtop.act.change import Plan, Reading, Record, Work
from qtop.act.knobs import cpu_groups, knob, neighbours
from qtop.act.knobs.cpu_groups import autogroup
from qtop.act.knobs.kin import descendants
from qtop.act.knobs.neighbours_cpus import NeighboursCpus
from qtop.act.knobs.neighbours_nice import NeighboursNice
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, SchedView
from qtop.sample import NOT_YET, cpulist

CPUS = sorted(os.sched_getaffinity(0))
NOBODY = 65534
nice, cpus = NeighboursNice(), NeighboursCpus()
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and os.getpriority(os.PRIO_PROCESS, 0) != 0, reason="needs a nice value of 0, or root to have one"
)
needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs to move processes between")


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests start are no children of qtop's, and no session has a group of its own."""
    monkeypatch.setattr(neighbours, "descendants", frozenset)
    monkeypatch.setattr(cpu_groups, "ENABLED", Path("/nonexistent"))  # whatever this kernel has switched on


@pytest.fixture
def server() -> Iterator[ThreadedProcess]:
    with ThreadedProcess(1) as process:
        for tid in masks(process.pid):
            os.setpriority(os.PRIO_PROCESS, tid, 0)
        yield process


@pytest.fixture
def rival() -> Iterator[Family]:
    with Family(2) as family:
        yield family


def all_nices(*pids: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids]


def test_the_rivals_that_are_seen_go_to_19_and_back(server: ThreadedProcess, rival: Family) -> None:
    with Family(0) as second:
        made = nice.plan(rival_frame(server.pid, rival.pid, second.pid), None)
        assert made.value == f"19:{rival.pid},{second.pid}"
        assert any("3 threads 0 → 19" in line and f"({rival.pid})" in line for line in made.preview)
        assert nice.read(made.record) == Reading(targets=4, old=4)
        nice.apply(made.record, Work())
        assert set(rival.nices().values()) == set(second.nices().values()) == {19}
        assert set(all_nices(server.pid)) == {0}
        assert nice.read(made.record) == Reading(targets=4, new=4)
        nice.restore(made.record, Work())
        assert set(rival.nices().values()) == set(second.nices().values()) == {0}


def test_what_was_shown_is_what_is_done(server: ThreadedProcess, rival: Family) -> None:
    """A rival that turns up after the preview is not taken along."""
    shown = nice.plan(rival_frame(server.pid, rival.pid), None)
    with Family(0) as late:
        again = nice.plan(rival_frame(server.pid, rival.pid, late.pid), shown.value)
        assert [one["pid"] for one in again.record["processes"]] == [rival.pid]
        # And one that has ended meanwhile, too, is still the one that was meant.
        gone = nice.plan(rival_frame(server.pid), shown.value)
        assert gone.record["processes"][0]["threads"] == shown.record["processes"][0]["threads"]


def test_threads_that_are_nicer_already_stay(server: ThreadedProcess, rival: Family) -> None:
    kept = max(rival.nices())
    os.setpriority(os.PRIO_PROCESS, kept, 15)
    before = rival.nices()
    made = nice.plan(rival_frame(server.pid, rival.pid), "10")
    nice.apply(made.record, Work())
    assert rival.nices() == dict.fromkeys(before, 10) | {kept: 15}
    nice.restore(made.record, Work())
    assert rival.nices() == before
    os.setpriority(os.PRIO_PROCESS, rival.pid, 19)
    with Family(0) as only:
        os.setpriority(os.PRIO_PROCESS, only.pid, 19)
        with pytest.raises(Refused, match="nice 19 or higher already"):
            nice.plan(rival_frame(server.pid, only.pid), None)


def test_children_born_later_go_back_with_their_parent(server: ThreadedProcess, rival: Family) -> None:
    before = rival.born()
    time.sleep(0.05)
    record = nice.plan(rival_frame(server.pid, rival.pid), None).record
    between = rival.born()
    saved: list[Record] = []
    nice.apply(record, Work(lambda: saved.append(copy.deepcopy(record))))
    assert [one["pid"] for one in saved[0]["processes"]] == [rival.pid, between], "in the journal before it is touched"
    after = rival.born()
    assert all_nices(before, between, after) == [0, 19, 19]
    nice.restore(record, Work())
    assert all_nices(before, between, after) == [0, 0, 0]


def test_an_orphan_of_its_group_goes_back_too(server: ThreadedProcess, rival: Family) -> None:
    record = nice.plan(rival_frame(server.pid, rival.pid), None).record
    nice.apply(record, Work())
    orphan = rival.born()
    with Family(0) as stranger:
        os.setpriority(os.PRIO_PROCESS, stranger.pid, 19)
        rival.leave()
        nice.restore(record, Work())
        assert all_nices(orphan, stranger.pid) == [0, 19], "another group's is its own matter"
    assert nice.read(record).all_gone


def test_a_value_that_somebody_else_set_is_shown_and_left(server: ThreadedProcess, rival: Family) -> None:
    record = nice.plan(rival_frame(server.pid, rival.pid), None).record
    nice.apply(record, Work())
    os.setpriority(os.PRIO_PROCESS, rival.pid, 7)
    reading = nice.read(record)
    assert [str(one) for one in reading.drifted] == [
        f"nice of thread {rival.pid} of {record['processes'][0]['comm']}: before qtop 0, qtop wrote 19, now 7"
    ]
    nice.restore(record, Work())
    assert rival.nices()[rival.pid] == 7


def test_a_rival_that_ended_and_whose_number_is_somebody_elses(server: ThreadedProcess, rival: Family) -> None:
    record = nice.plan(rival_frame(server.pid, rival.pid), None).record
    record["processes"][0]["start"] -= 1  # as if it had ended, and this were another one
    nice.apply(record, Work())
    assert set(rival.nices().values()) == {0}
    assert nice.read(record).all_gone


def test_in_another_cgroup_a_nice_value_counts_for_nothing(server: ThreadedProcess, rival: Family) -> None:
    with quota(rival.pid, 0.9) as made:
        if not made:
            pytest.skip("no cgroup with a CPU controller can be made here")
        with pytest.raises(Refused, match=rf"\({rival.pid}\): in another CPU cgroup than the server"):
            nice.plan(rival_frame(server.pid, rival.pid), None)
        with Family(0) as second:
            plan = nice.plan(rival_frame(server.pid, rival.pid, second.pid), None)
            assert [one["pid"] for one in plan.record["processes"]] == [second.pid]
            assert any("in another CPU cgroup" in line for line in plan.preview)


@pytest.fixture
def autogroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that has them switched on; each session has one in either case."""
    if autogroup(os.getpid()) is None:
        pytest.skip("this kernel has no autogroups")
    (tmp_path / "enabled").write_text("1\n")
    monkeypatch.setattr(cpu_groups, "ENABLED", tmp_path / "enabled")


def session_nice(pid: int) -> int:
    found = autogroup(pid)
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("autogroups")
@pytest.mark.parametrize("mine", [True, False])
def test_where_sessions_are_grouped_the_sessions_nice_counts(mine: bool, server: ThreadedProcess) -> None:
    uid = NOBODY if os.geteuid() == 0 and not mine else None
    with Family(1, uid) as rival:
        child = rival.born()
        record = nice.plan(rival_frame(server.pid, rival.pid, child), None).record
        assert record["processes"] == []
        (session,) = record["sessions"]
        assert sorted(session["pids"]) == sorted([rival.pid, child])
        nice.check(record)
        nice.apply(record, Work())
        assert (session_nice(rival.pid), session_nice(server.pid)) == (19, 0)
        assert set(rival.nices().values()) == {0}
        assert nice.read(record).new == 1
        rival.leave()  # another of the session is left to find it by
        nice.restore(record, Work())
        assert session_nice(child) == 0
        assert nice.read(record) == Reading(targets=1, old=1)
        Path(f"/proc/{child}/autogroup").write_text("5")
        assert "now 5" in str(nice.read(record).drifted[0])


@pytest.mark.usefixtures("autogroups")
def test_within_the_servers_own_session_threads_are_taken(server: ThreadedProcess) -> None:
    with ThreadedProcess(1) as rival:
        os.setpriority(os.PRIO_PROCESS, rival.pid, 0)
        plan = nice.plan(rival_frame(server.pid, rival.pid), None)
        assert len(plan.record["processes"]) == 1
        assert plan.record["sessions"] == []


@pytest.mark.root
def test_what_an_ordinary_user_could_not_take_back_is_roots(
    server: ThreadedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rights(uid: int) -> Plan:
        with Family(0, uid) as rival:
            frame = rival_frame(server.pid, rival.pid)
            told = as_nobody(lambda: "|".join(_told(nice.plan(frame, None))))
            root, right, undone = told.split("|")
            return Plan("", "", "", (), {}, root=root == "True", right=right, undone=undone)

    own = rights(NOBODY)
    assert own.root
    assert "may raise a nice value but not take it back" in own.right
    assert own.undone.endswith("as root")
    assert "another user's" in rights(0).right
    # RLIMIT_NICE as limits.conf gives it; raising it takes a capability that not every root has.
    for limit, root in ((20, False), (19, True), (resource.RLIM_INFINITY, False)):
        monkeypatch.setattr(resource, "prlimit", lambda pid, which, limit=limit: (limit, limit))
        assert rights(NOBODY).root is root


def _told(plan: Plan) -> tuple[str, str, str]:
    return str(plan.root), plan.right, plan.undone


@pytest.mark.root
def test_who_may_not_take_it_back_is_told_so(server: ThreadedProcess) -> None:
    with Family(0, NOBODY) as rival:
        record = nice.plan(rival_frame(server.pid, rival.pid), None).record
        nice.apply(record, Work())
        assert "Refused: no permission to set thread" in as_nobody(lambda: nice.restore(record, Work()))
        assert set(rival.nices().values()) == {19}


@pytest.mark.parametrize("value", ["0", "20", "-5", "x", "", "19:", "19:x", "19:1,", ":", "9" * 400, "19:" + "1," * 99])
def test_a_value_that_cannot_be_meant(value: str, server: ThreadedProcess, rival: Family) -> None:
    frame = rival_frame(server.pid, rival.pid)
    with pytest.raises(QtopError) as error:
        nice.plan(frame, value)
    assert "\n" not in str(error.value)
    assert set(rival.nices().values()) == {0}


def test_whom_nobody_can_mean(server: ThreadedProcess) -> None:
    frame = rival_frame(server.pid)
    for pid, what in ((server.pid, "the server itself"), (os.getpid(), "qtop itself"), (1, "the system's own")):
        with pytest.raises(QtopError, match=what):
            nice.plan(frame, f"19:{pid}")
    with pytest.raises(Refused, match="have ended"):
        nice.plan(frame, "19:4194304")
    with pytest.raises(Refused, match="no other process is seen"):
        nice.plan(frame, None)
    # Not even where they are seen on its CPUs.
    with pytest.raises(Refused, match="no other process is seen"):
        nice.plan(rival_frame(server.pid, os.getpid(), 1, server.pid), None)
    assert isinstance(frame.sched, SchedView)
    unknown = replace(frame, sched=replace(frame.sched, competitors=NOT_YET))
    with pytest.raises(Refused, match="looked at only while it waits"):
        cpus.plan(unknown, CPUS_TEXT)


def test_what_qtop_started_is_qtops_own(
    server: ThreadedProcess, rival: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = rival.born()
    assert {os.getpid(), rival.pid, child} <= descendants([os.getpid()])
    assert {rival.pid, child} == descendants([rival.pid])
    monkeypatch.setattr(neighbours, "descendants", descendants)
    with pytest.raises(Refused, match="no other process is seen"):
        nice.plan(rival_frame(server.pid, rival.pid, child), None)


CPUS_TEXT = cpulist.show(CPUS)


def changed(record: Record, change: Callable[[Any], None]) -> Record:
    copied = copy.deepcopy(record)
    change(copied)
    return copied


def test_the_helper_believes_no_record(server: ThreadedProcess, rival: Family) -> None:
    record = nice.plan(rival_frame(server.pid, rival.pid), None).record
    nice.check(record)
    tid = str(rival.pid)

    def entry(old: object, new: object) -> Callable[[Any], None]:
        return lambda one: one["processes"][0]["threads"].update({tid: [1, old, new]})

    gifts = [entry("-20", "19"), entry("19", "0"), entry("0", "-20"), entry(0, 19), entry("0", "19; id")]
    gifts += [lambda one, pid=pid: one["processes"][0].update(pid=pid) for pid in (1, 0, -1, "1", None)]  # type: ignore[misc]
    gifts.append(lambda one: one.update(sessions=[{"name": "/../1", "old": "0", "new": "19", "pids": []}]))
    gifts.append(lambda one: one.update(sessions=[{"name": "/autogroup-1", "old": "-20", "new": "19", "pids": []}]))
    for gift in gifts:
        with pytest.raises(Refused):
            nice.check(changed(record, gift))


def test_both_are_offered() -> None:
    assert isinstance(knob("neighbours-nice"), NeighboursNice)
    assert isinstance(knob("neighbours-cpus"), NeighboursCpus)


def confined(frame: Frame, *cpu: int) -> Frame:
    """As if the server's threads might use only these."""
    assert isinstance(frame.sched, SchedView)
    critical = [replace(thread, allowed=cpulist.show(cpu)) for thread in frame.sched.critical]
    return replace(frame, sched=replace(frame.sched, critical=tuple(critical)))


@needs_two
def test_rivals_are_moved_to_the_cpus_that_the_server_may_not_use(server: ThreadedProcess, rival: Family) -> None:
    frame = confined(rival_frame(server.pid, rival.pid), CPUS[0])
    made = cpus.plan(frame, None)
    rest = cpulist.show(CPUS[1:])
    assert made.value == f"{rest}:{rival.pid}"
    cpus.apply(made.record, Work())
    child = rival.born()
    assert set(masks(rival.pid).values()) == {frozenset(CPUS[1:])} == {frozenset(os.sched_getaffinity(child))}
    cpus.restore(made.record, Work())
    assert set(masks(rival.pid).values()) == {frozenset(CPUS)} == {frozenset(os.sched_getaffinity(child))}


@needs_two
def test_a_server_that_may_use_all_keeps_what_it_needs(server: ThreadedProcess, rival: Family) -> None:
    made = cpus.plan(rival_frame(server.pid, rival.pid), None)
    assert made.value == f"{cpulist.show(CPUS[1:])}:{rival.pid}"
    assert f"CPUs {CPUS[0]} are left to the server" in made.preview
    os.sched_setaffinity(rival.pid, {CPUS[0]})
    pinned = cpus.plan(rival_frame(server.pid, rival.pid), None)
    cpus.apply(pinned.record, Work())
    assert set(masks(rival.pid).values()) == {frozenset(CPUS[1:])}
    os.sched_setaffinity(rival.pid, set(CPUS))
    assert len(cpus.read(pinned.record).drifted) == (1 if len(CPUS[1:]) < len(CPUS) else 0)
    cpus.restore(pinned.record, Work())
    assert masks(rival.pid)[rival.pid] == set(CPUS), "somebody else's"


@needs_two
@pytest.mark.parametrize("value", ["", "x", "0-99999", "99998", f"{CPUS[0]}:x", "3-1"])
def test_cpus_that_cannot_be_meant(value: str, server: ThreadedProcess, rival: Family) -> None:
    if value == "":
        return
    with pytest.raises(QtopError):
        cpus.plan(rival_frame(server.pid, rival.pid), value)
    assert set(masks(rival.pid).values()) == {frozenset(CPUS)}


def test_the_helper_takes_only_lists_of_cpus(server: ThreadedProcess, rival: Family) -> None:
    threads = {str(rival.pid): [1, "0", "0;id"]}
    process = {"pid": rival.pid, "start": 1, "comm": "x", "group": 1, "goal": "0", "threads": threads, "others": {}}
    record = {"boot": "", "pidns": "", "at": 1, "new": "0", "processes": [process]}
    with pytest.raises(Refused, match="does not put"):
        cpus.check(record)
    threads[str(rival.pid)][2] = "1"
    cpus.check(record)
