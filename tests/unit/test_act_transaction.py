"""The transaction around real threads: what is kept, what is put back, what undo does and does not touch."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.apply_driver import Said
from tests.fakes.crash import Masks, ThreadedProcess, as_nobody, environment, frame_of, masks, pin

from qtop.act.change import Plan, Work
from qtop.act.journal import Journal, Part
from qtop.act.knobs.cpu_affinity import CpuAffinity
from qtop.act.proof import Judgement
from qtop.act.transaction import Keep, Outcome, Policy, run
from qtop.act.undo import undo, undo_all
from qtop.errors import QtopError, Refused
from qtop.sample import cpulist

CPUS = sorted(os.sched_getaffinity(0))
ALL = frozenset(CPUS)
LOW, HIGH = frozenset(CPUS[:1]), frozenset(CPUS[-1:])
WIDE, NARROW, OTHER = cpulist.show(ALL), cpulist.show(LOW), cpulist.show(HIGH)

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs to move threads between")
affinity = CpuAffinity()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "qtop").mkdir()
    return Journal(tmp_path / "qtop/journal.jsonl")


@pytest.fixture
def server() -> Iterator[ThreadedProcess]:
    """Main thread and three workers; the last was put on a CPU of its own."""
    with ThreadedProcess(3) as process:
        pin(process.pid, LOW)
        os.sched_setaffinity(process.workers[-1], HIGH)
        yield process


def quiet(step: str, text: str) -> None:
    pass


def change(
    server: ThreadedProcess,
    journal: Journal,
    verdict: str | None = None,
    say: Callable[[str, str], None] = quiet,
    keep: Keep = Keep.IMPROVED,
) -> Outcome:
    frame = frame_of(server.pid)
    meter = Said(verdict) if verdict is not None else None
    return run([(affinity, lambda: affinity.plan(frame, WIDE))], meter, say, Policy(keep), journal)


def widened(before: Masks, server: ThreadedProcess) -> Masks:
    return dict.fromkeys(before, ALL) | {server.workers[-1]: HIGH}


def rewrite(journal: Journal, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the records in the journal, as another boot or another container would find them."""
    entries = [json.loads(line) for line in journal.path.read_text().splitlines()]
    for entry in entries:
        for part in entry.get("parts", ()):
            edit(part["record"])
    journal.path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize(
    ("verdict", "keep", "kept"),
    [
        (None, Keep.IMPROVED, True),
        ("improved", Keep.IMPROVED, True),
        ("no effect", Keep.IMPROVED, False),
        ("worse", Keep.IMPROVED, False),
        ("cannot tell", Keep.IMPROVED, False),
        ("no effect", Keep.UNLESS_WORSE, True),
        ("cannot tell", Keep.UNLESS_WORSE, True),
        ("worse", Keep.UNLESS_WORSE, False),
        ("worse", Keep.ALWAYS, True),
    ],
)
def test_kept_only_if_better_or_asked_for(
    server: ThreadedProcess, journal: Journal, verdict: str | None, keep: Keep, kept: bool
) -> None:
    before = masks(server.pid)
    outcome = change(server, journal, verdict, keep=keep)
    assert (outcome.kept, outcome.exit_code) == (kept, 0 if kept else 1)
    assert masks(server.pid) == (widened(before, server) if kept else before)
    (told,) = journal.changes()
    assert told.state == ("kept" if kept else "closed")
    assert (undo(journal).restored, masks(server.pid)) == (3 if kept else 0, before)


def test_the_old_values_are_on_disk_before_the_first_is_changed(
    server: ThreadedProcess, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = masks(server.pid)
    real = os.sched_setaffinity
    found: list[dict[str, list[Any]]] = []

    def look(tid: int, cpus: frozenset[int]) -> None:
        (told,) = Journal(journal.path).changes()
        found.append(told.parts[0].record["processes"][0]["threads"])
        real(tid, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", look)
    change(server, journal)
    assert len(found) == 3
    for threads in found:
        assert {int(tid): cpulist.parse(mask) for tid, (_, mask) in threads.items()} == {
            tid: mask for tid, mask in before.items() if mask == LOW
        }


def test_a_change_that_does_not_take_is_put_back(
    server: ThreadedProcess, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = masks(server.pid)
    real = os.sched_setaffinity

    def deaf(tid: int, cpus: frozenset[int]) -> None:
        if tid != server.workers[0]:
            real(tid, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", deaf)
    with pytest.raises(Refused):
        change(server, journal)
    assert masks(server.pid) == before
    assert journal.in_force() == []


def test_a_measurement_that_fails_puts_everything_back(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    with pytest.raises(Refused, match="the test prompt failed"):
        change(server, journal, "raise")
    assert masks(server.pid) == before
    (told,) = journal.changes()
    assert told.notes["reverted"]["why"] == "the test prompt failed"


def test_what_cannot_be_measured_before_is_not_changed(server: ThreadedProcess, journal: Journal) -> None:
    class Broken(Said):
        def before(self) -> str:
            raise Refused("cannot measure")

    before = masks(server.pid)
    frame = frame_of(server.pid)
    with pytest.raises(Refused, match="cannot measure"):
        run([(affinity, lambda: affinity.plan(frame, WIDE))], Broken("improved"), quiet, journal=journal)
    assert masks(server.pid) == before
    assert not journal.path.exists()


def test_a_terminal_that_has_gone_keeps_no_old_value_from_coming_back(
    server: ThreadedProcess, journal: Journal
) -> None:
    def gone(step: str, text: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    before = masks(server.pid)
    with pytest.raises(Refused, match="the test prompt failed"):
        change(server, journal, "raise", say=gone)
    assert masks(server.pid) == before
    assert change(server, journal, "improved", say=gone).kept


def test_a_server_that_ends_meanwhile_leaves_nothing_open(server: ThreadedProcess, journal: Journal) -> None:
    class Ends(Said):
        def after(self, settle_s: float) -> str:
            server.stop()
            return "after"

    frame = frame_of(server.pid)
    outcome = run([(affinity, lambda: affinity.plan(frame, WIDE))], Ends("worse"), quiet, journal=journal)
    assert not outcome.kept
    assert journal.in_force() == []


def test_only_one_change_at_a_time(server: ThreadedProcess, journal: Journal) -> None:
    with journal.lock():
        with pytest.raises(Refused, match="another qtop"):
            change(server, Journal(journal.path))
        with pytest.raises(Refused, match="another qtop"):
            undo(Journal(journal.path))


def test_undo_of_nothing_is_no_error(journal: Journal) -> None:
    assert undo(journal).text == "nothing to undo"


def test_somebody_elses_value_stops_undo_and_all_three_are_shown(server: ThreadedProcess, journal: Journal) -> None:
    change(server, journal)
    os.sched_setaffinity(server.workers[0], HIGH)
    before = masks(server.pid)
    with pytest.raises(Refused, match="somebody else changed this since") as told:
        undo(journal)
    assert f"before qtop {NARROW}, qtop wrote {WIDE}, now {OTHER}" in told.value.message
    assert "Nothing was touched" in told.value.hint
    assert masks(server.pid) == before
    assert [one.state for one in journal.in_force()] == ["kept"]


def test_many_values_of_somebody_elses_are_counted(journal: Journal) -> None:
    with ThreadedProcess(5) as server:
        pin(server.pid, LOW)
        change(server, journal)
        pin(server.pid, HIGH)
        with pytest.raises(Refused, match="and 3 more"):
            undo(journal)


def _reborn(record: dict[str, Any]) -> None:
    record["processes"][0]["start"] += 1


def _rebooted(record: dict[str, Any]) -> None:
    record["boot"] = "another"


@pytest.mark.parametrize("edit", [_reborn, _rebooted])
def test_a_number_given_to_another_process_is_closed_untouched(
    server: ThreadedProcess, journal: Journal, edit: Callable[[dict[str, Any]], None]
) -> None:
    change(server, journal)
    before = masks(server.pid)
    rewrite(journal, edit)
    assert undo(journal).text == "nothing to put back: what was changed is gone"
    assert masks(server.pid) == before
    assert journal.in_force() == []


def test_undo_goes_past_a_server_that_has_ended(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    change(server, journal)
    with ThreadedProcess(1) as second:
        pin(second.pid, LOW)
        change(second, journal)
    done = undo(journal)
    assert (done.restored, masks(server.pid)) == (3, before)


def test_undo_from_another_container_closes_nothing(server: ThreadedProcess, journal: Journal) -> None:
    change(server, journal)
    before = masks(server.pid)
    rewrite(journal, lambda record: record.update(pidns="pid:[1]"))
    with pytest.raises(Refused, match="another container"):
        undo(journal)
    assert masks(server.pid) == before
    assert len(journal.in_force()) == 1


def test_a_record_of_another_version_is_neither_touched_nor_in_the_way(
    server: ThreadedProcess, journal: Journal
) -> None:
    before = masks(server.pid)
    change(server, journal)
    journal.begin([Part("fan-speed", {"rpm": 900})])
    journal.begin([Part("cpu-affinity", {"boot": "x"})])
    assert undo(journal).restored == 3
    assert masks(server.pid) == before
    with pytest.raises(Refused, match="another version of qtop"):
        undo(journal)
    assert len(journal.in_force()) == 2


def test_undo_says_what_else_is_in_force(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    change(server, journal)
    with ThreadedProcess(1) as second:
        pin(second.pid, LOW)
        change(second, journal)
        assert (
            undo(journal).text
            == "undone: cpu-affinity, 2 values put back; 1 earlier still in force (`qtop undo` again)"
        )
        assert undo(journal).text == "undone: cpu-affinity, 3 values put back"
    assert masks(server.pid) == before


def test_undo_by_name_leaves_the_later_one(server: ThreadedProcess, journal: Journal) -> None:
    first = change(server, journal).txn
    with ThreadedProcess(1) as second:
        pin(second.pid, LOW)
        change(second, journal)
        assert undo(journal, first).txn == first
        assert set(masks(second.pid).values()) == {ALL}
    with pytest.raises(QtopError, match="no change nonesuch is in force"):
        undo(journal, "nonesuch")


def test_all_goes_past_a_server_that_has_ended(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    change(server, journal)
    with ThreadedProcess(1) as second:
        pin(second.pid, LOW)
        gone = change(second, journal).txn
    assert [one.restored for one in undo_all(journal)] == [0, 3]
    assert masks(server.pid) == before
    assert journal.in_force() == []
    with pytest.raises(QtopError, match=f"no change {gone} is in force"):
        undo(journal, gone)


def begun(server: ThreadedProcess, journal: Journal) -> Plan:
    """A change as a killed qtop leaves it: in the journal, nothing changed yet."""
    made = affinity.plan(frame_of(server.pid), WIDE)
    journal.begin([Part(affinity.id, made.record)])
    return made


def test_nothing_is_built_on_half_a_change(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    begun(server, journal)
    os.sched_setaffinity(server.workers[0], ALL)
    half = masks(server.pid)
    with pytest.raises(Refused, match=r"was left unfinished\. Run `qtop undo` first"):
        change(server, journal)
    assert masks(server.pid) == half
    undo(journal)
    assert masks(server.pid) == before
    assert change(server, journal).kept


def test_a_change_that_never_began_is_closed_by_the_next(server: ThreadedProcess, journal: Journal) -> None:
    begun(server, journal)
    assert change(server, journal).kept
    assert [one.state for one in journal.changes()] == ["closed", "kept"]


@pytest.mark.root
def test_undo_without_permission_leaves_the_journal_open(server: ThreadedProcess, journal: Journal) -> None:
    before = masks(server.pid)
    txn = change(server, journal).txn
    (kept,) = journal.changes()
    told = as_nobody(lambda: affinity.restore(kept.parts[0].record, Work()))
    assert "no permission" in told
    assert [one.txn for one in journal.in_force()] == [txn]
    undo(journal)
    assert masks(server.pid) == before


def test_judgements_go_to_the_journal(server: ThreadedProcess, journal: Journal) -> None:
    outcome = change(server, journal, "improved")
    assert outcome.judgement == Judgement("improved", "improved: made up")
    (told,) = journal.changes()
    assert (told.notes["measured"]["verdict"], told.notes["measured"]["text"]) == ("improved", "improved: made up")


# In a process of its own: signals, limits


def driver(server: ThreadedProcess, state: Path, verdict: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.apply_driver", str(server.pid), verdict]
    return subprocess.Popen(command, env=environment(state), stdout=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGINT],
    ],
    ids=lambda signals: "+".join(one.name for one in signals),
)
def test_a_signal_while_measuring_puts_the_masks_back(
    signals: list[signal.Signals], server: ThreadedProcess, journal: Journal, tmp_path: Path
) -> None:
    before = masks(server.pid)
    with driver(server, tmp_path, "wait") as child:
        assert child.stdout is not None
        while "measuring after" not in child.stdout.readline():
            pass
        assert masks(server.pid) == widened(before, server)
        for number in signals:
            child.send_signal(number)
        try:
            child.communicate(timeout=30)
        finally:
            child.kill()  # or leaving the block would wait for one that does not end
    assert child.returncode == 130
    assert masks(server.pid) == before
    assert [one.state for one in journal.changes()] == ["closed"]


def test_a_journal_that_fills_up_at_any_byte_leaves_the_old_masks(
    server: ThreadedProcess, journal: Journal, tmp_path: Path
) -> None:
    """Written to by a process whose files may not grow past a limit, which cuts lines as a full disk does."""
    before = masks(server.pid)
    change(server, journal, "improved")
    undo(journal)
    sizes = [len(line) + 1 for line in journal.path.read_bytes().split(b"\n")[:5]]
    limits = [0, 20, *(sum(sizes[:steps]) + 10 for steps in range(1, 5))]
    for limit in limits:
        journal.path.unlink()
        enough = (resource.RLIMIT_FSIZE, (limit, limit))
        with driver(
            server, tmp_path, "improved", preexec_fn=lambda limits=enough: resource.setrlimit(*limits)
        ) as child:
            said, _ = child.communicate(timeout=30)
        assert child.returncode == 2, (limit, said)
        assert "error: cannot write the journal" in said
        assert "Traceback" not in said
        assert masks(server.pid) == before, (limit, said)
        undo(journal)
        assert journal.in_force() == []
        assert masks(server.pid) == before
