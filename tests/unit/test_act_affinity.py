"""The knob cpu-affinity on real threads: which it moves, which it leaves, which it knows again."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.fakes.crash import ThreadedProcess, as_nobody, frame_of, masks, pin
from tests.fakes.load import cpuset

from qtop.act.change import Plan, Reading, Work
from qtop.act.knobs import knob
from qtop.act.knobs.cpu_affinity import CpuAffinity
from qtop.act.knobs.processes import start_ticks
from qtop.errors import QtopError, Refused, Unreachable
from qtop.sample import NOT_YET, Absent, Why, cpulist

CPUS = sorted(os.sched_getaffinity(0))
ALL = frozenset(CPUS)
LOW, HIGH = frozenset(CPUS[:1]), frozenset(CPUS[-1:])
WIDE, NARROW, OTHER = cpulist.show(ALL), cpulist.show(LOW), cpulist.show(HIGH)

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs to move threads between")
affinity = CpuAffinity()


@pytest.fixture
def server() -> Iterator[ThreadedProcess]:
    """Main thread and three workers, all on one CPU."""
    with ThreadedProcess(3) as process:
        pin(process.pid, LOW)
        yield process


def plan(*servers: ThreadedProcess, value: str | None = WIDE) -> Plan:
    return affinity.plan(frame_of(*(server.pid for server in servers)), value)


def test_without_a_value_it_widens_to_all_that_the_cgroup_allows(server: ThreadedProcess) -> None:
    frame = frame_of(server.pid)
    assert not isinstance(frame.sched, Absent)
    made = affinity.plan(frame, None)
    assert made.value == frame.sched.cpuset
    assert "4 threads" in made.summary
    assert f"4 threads: CPUs {NARROW} → {made.value}" in made.preview


def test_planning_changes_nothing(server: ThreadedProcess) -> None:
    before = masks(server.pid)
    plan(server)
    assert masks(server.pid) == before


def test_it_moves_every_thread_and_puts_every_mask_back(server: ThreadedProcess) -> None:
    before = masks(server.pid)
    record = plan(server).record
    assert affinity.read(record) == Reading(targets=4, old=4)
    affinity.apply(record, Work())
    assert set(masks(server.pid).values()) == {ALL}
    assert affinity.read(record) == Reading(targets=4, new=4)
    affinity.restore(record, Work())
    assert masks(server.pid) == before
    assert affinity.read(record) == Reading(targets=4, old=4)


def test_it_can_move_as_well_as_widen(server: ThreadedProcess) -> None:
    record = plan(server, value=OTHER).record
    affinity.apply(record, Work())
    assert set(masks(server.pid).values()) == {HIGH}
    affinity.restore(record, Work())
    assert set(masks(server.pid).values()) == {LOW}


def test_threads_with_a_mask_of_their_own_stay(server: ThreadedProcess) -> None:
    own = server.workers[1]
    os.sched_setaffinity(own, HIGH)
    before = masks(server.pid)
    made = plan(server)
    assert f"1 with CPUs {OTHER} of their own: stay" in made.preview
    affinity.apply(made.record, Work())
    assert masks(server.pid) == dict.fromkeys(before, ALL) | {own: HIGH}
    affinity.restore(made.record, Work())
    assert masks(server.pid) == before


def test_all_processes_of_the_server_move(server: ThreadedProcess) -> None:
    with ThreadedProcess(1) as second:
        pin(second.pid, HIGH)
        record = plan(server, second).record
        affinity.apply(record, Work())
        assert set(masks(server.pid).values()) == set(masks(second.pid).values()) == {ALL}
        affinity.restore(record, Work())
        assert set(masks(server.pid).values()) == {LOW}
        assert set(masks(second.pid).values()) == {HIGH}


def test_a_thread_born_since_the_plan_is_in_the_journal_before_it_moves(server: ThreadedProcess) -> None:
    record = plan(server).record
    born = server.born()
    seen: list[tuple[list[Any], frozenset[int]]] = []

    def save() -> None:
        seen.append((record["processes"][0]["threads"][str(born)], masks(server.pid)[born]))

    affinity.apply(record, Work(save))
    assert seen == [([start_ticks(server.pid, born), NARROW], LOW)]
    assert masks(server.pid)[born] == ALL
    affinity.restore(record, Work())
    assert set(masks(server.pid).values()) == {LOW}


def test_a_thread_born_after_the_change_goes_back_with_the_rest(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    born = server.born()
    assert masks(server.pid)[born] == ALL
    affinity.restore(record, Work())
    assert masks(server.pid)[born] == LOW


def test_a_thread_born_after_the_change_and_pinned_since_stays(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    born = server.born()
    os.sched_setaffinity(born, HIGH)
    affinity.restore(record, Work())
    assert masks(server.pid)[born] == HIGH


def test_where_some_threads_were_wide_before_one_born_since_stays_wide(server: ThreadedProcess) -> None:
    """It may be a child of those that were wide all along; narrowing it would do what nobody asked for."""
    wide = server.workers[0]
    os.sched_setaffinity(wide, ALL)
    before = masks(server.pid)
    record = plan(server).record
    affinity.apply(record, Work())
    born = server.born()
    affinity.restore(record, Work())
    assert masks(server.pid) == before | {born: ALL}


def test_a_main_thread_that_has_ended_hides_none_of_the_others(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    server.leave_main()
    reading = affinity.read(record)
    assert (reading.new, reading.gone) == (3, 1)
    affinity.restore(record, Work())
    assert {masks(server.pid)[tid] for tid in server.workers} == {LOW}


def test_a_process_that_has_ended_is_gone(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    server.stop()
    assert affinity.read(record).all_gone
    affinity.restore(record, Work())


def _reborn(record: dict[str, Any]) -> None:
    record["processes"][0]["start"] -= 1


def _rebooted(record: dict[str, Any]) -> None:
    record["boot"] = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("altered", [_reborn, _rebooted])
def test_another_process_of_the_same_number_is_left_alone(server: ThreadedProcess, altered: Any) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    altered(record)
    assert affinity.read(record).all_gone
    affinity.restore(record, Work())
    affinity.apply(record, Work())
    assert set(masks(server.pid).values()) == {ALL}


def test_another_thread_of_the_same_number_is_none_of_the_record(server: ThreadedProcess) -> None:
    record = plan(server).record
    threads = record["processes"][0]["threads"]
    threads[str(server.workers[0])][0] -= 1
    reading = affinity.read(record)
    assert (reading.old, reading.gone) == (3, 1)


def test_another_container_sees_nothing_and_says_so(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    reading = affinity.read(record | {"pidns": "pid:[1]"})
    assert "container" in reading.elsewhere
    assert not reading.all_gone


def test_a_value_that_is_neither_is_somebody_elses(server: ThreadedProcess) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    os.sched_setaffinity(server.workers[0], HIGH)
    (drift,) = affinity.read(record).drifted
    assert (drift.old, drift.written, drift.now) == (NARROW, WIDE, OTHER)
    assert str(server.workers[0]) in drift.what
    affinity.restore(record, Work())
    assert masks(server.pid)[server.workers[0]] == HIGH


def test_nothing_to_widen_is_refused(server: ThreadedProcess) -> None:
    pin(server.pid, ALL)
    with pytest.raises(Refused, match=r"may already use CPUs .*: move or stop what runs beside it"):
        plan(server, value=None)
    with pytest.raises(Refused, match=f"may use CPUs {WIDE} already"):
        plan(server)


WRONG = ["", " ", "x", "3-1", "-1", "0-", "0,,1", "0_1", "0 1", "+0", "٠", "0-9999999999", "99999999999", "0;1", "0\n"]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_list_of_cpus_is_an_input_error(server: ThreadedProcess, value: str) -> None:
    with pytest.raises(QtopError, match="not a list of CPUs") as told:
        plan(server, value=value)
    assert told.value.exit_code == 2


def test_a_cpu_that_is_not_there_is_named(server: ThreadedProcess) -> None:
    with pytest.raises(QtopError, match="CPU 99999 is not among those that its cgroup allows") as told:
        plan(server, value="0,99999")
    assert told.value.exit_code == 2


def test_an_unknown_knob_names_those_there_are() -> None:
    with pytest.raises(QtopError, match=r"no knob is called 'x'.*cpu-affinity"):
        knob("x")


def test_without_a_server_or_its_threads_it_cannot_be_reached(server: ThreadedProcess) -> None:
    frame = frame_of(server.pid)
    with pytest.raises(Unreachable, match="no server listens"):
        affinity.plan(replace(frame, server=Absent(Why.NOT_HERE, "no server listens")), None)
    with pytest.raises(Unreachable, match="threads cannot be read"):
        affinity.plan(replace(frame, sched=NOT_YET), None)


@pytest.mark.root
def test_somebody_elses_process_takes_root_and_the_preview_says_so(server: ThreadedProcess) -> None:
    frame = frame_of(server.pid)
    assert not affinity.plan(frame, WIDE).root

    def told() -> None:
        made = affinity.plan(frame, WIDE)
        raise Refused(f"{made.root}, {made.right}")

    assert as_nobody(told) == "Refused: True, root: the server belongs to another user"


@pytest.mark.parametrize(
    "edit",
    [
        lambda process: process.update(new="0; reboot"),
        lambda process: process.update(pid=1),
        lambda process: process.update(pid="../1"),
        lambda process: process["threads"].update({"1": [0, "x"]}),
    ],
)
def test_the_helper_takes_no_record_that_this_knob_could_not_have_made(
    edit: Callable[[dict[str, Any]], None], server: ThreadedProcess
) -> None:
    record = plan(server).record
    affinity.check(record)
    edit(record["processes"][0])
    with pytest.raises(Refused):
        affinity.check(record)


@pytest.mark.root
def test_no_permission_is_one_clear_line(server: ThreadedProcess) -> None:
    record = plan(server).record
    told = as_nobody(lambda: affinity.apply(copy.deepcopy(record), Work()))
    assert told.startswith("Refused: no permission to change the CPUs of thread")
    assert set(masks(server.pid).values()) == {LOW}
    affinity.apply(record, Work())
    told = as_nobody(lambda: affinity.restore(record, Work()))
    assert told.startswith("Refused: no permission to change the CPUs of thread")


@pytest.mark.root
def test_one_thread_that_cannot_be_put_back_keeps_none_of_the_others(
    server: ThreadedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = plan(server).record
    affinity.apply(record, Work())
    real = os.sched_setaffinity

    def denied(tid: int, cpus: frozenset[int]) -> None:
        if tid == server.pid:
            raise PermissionError(1, "Operation not permitted")
        real(tid, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", denied)
    with pytest.raises(Refused, match=f"thread {server.pid}"):
        affinity.restore(record, Work())
    assert masks(server.pid) == dict.fromkeys(server.workers, LOW) | {server.pid: ALL}


@pytest.mark.root
def test_a_part_of_the_server_in_a_smaller_cgroup_gets_what_that_allows(server: ThreadedProcess) -> None:
    with ThreadedProcess(1) as second, cpuset(second.pid, OTHER) as limited:
        if not limited:
            pytest.skip("needs a cgroup cpuset controller in which a group can be made")
        pin(server.pid, LOW)
        record = plan(server, second).record
        affinity.apply(record, Work())
        assert set(masks(server.pid).values()) == {ALL}
        assert set(masks(second.pid).values()) == {HIGH}
        assert affinity.read(record) == Reading(targets=4, new=4)


@pytest.mark.root
def test_a_mask_that_the_kernel_cuts_is_taken_back_at_once(server: ThreadedProcess) -> None:
    """The cgroup was made smaller after the plan: what it would hold then is neither the old mask nor the new one."""
    if len(CPUS) < 3:
        cut, told = LOW, NARROW
        pin(server.pid, LOW)
    else:
        cut, told = frozenset(CPUS[:2]), cpulist.show(CPUS[:2])
    record = plan(server).record
    with cpuset(server.pid, cpulist.show(cut)) as limited:
        if not limited:
            pytest.skip("needs a cgroup cpuset controller in which a group can be made")
        with pytest.raises(Refused, match=f"use CPUs {told} instead of {WIDE}"):
            affinity.apply(record, Work())
        assert set(masks(server.pid).values()) == {LOW}
