"""Who else runs: the scan of other processes on made-up /proc trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.proctree import ProcTree, stat_line

from qtop.collect import tasks
from qtop.collect.tasks import KEEP, TaskScanner
from qtop.sample import Absent, TaskSample


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def scan(scanner: TaskScanner, *exclude: int) -> list[TaskSample]:
    found = scanner.scan(frozenset(exclude))
    assert not isinstance(found, Absent)
    return list(found)


def test_the_busiest_since_the_last_scan_come_first(tree: ProcTree) -> None:
    for pid, ticks in ((10, 1000), (11, 500), (12, 0)):
        tree.process(pid, f"p {pid}", ticks=ticks)
    scanner = TaskScanner(tree.root)
    assert [task.pid for task in scan(scanner)] == [10, 11], "what never ran is no competitor"
    tree.process(11, "p 11", ticks=700)
    (first, second) = scan(scanner)
    assert (first.pid, first.cpu_ticks, first.comm) == (11, 700, "p 11")
    assert second.pid == 10


def test_the_server_is_left_out(tree: ProcTree) -> None:
    tree.process(10, ticks=5)
    tree.process(11, ticks=5)
    assert [task.pid for task in scan(TaskScanner(tree.root), 10)] == [11]


def test_a_reused_number_begins_anew(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((1000.0, 1001.0))
    monkeypatch.setattr(tasks, "mono", lambda: next(now))
    tree.process(10, ticks=1000, start=1)
    tree.process(11, ticks=10, start=1)
    scanner = TaskScanner(tree.root)
    scan(scanner)
    tree.process(10, ticks=50, start=2)
    tree.process(11, ticks=40, start=1)
    assert [(task.pid, task.start_ticks) for task in scan(scanner)] == [(10, 2), (11, 1)]


def test_the_cpus_of_its_running_threads(tree: ProcTree) -> None:
    tree.process(10, ticks=9, threads={10: (1, 0, 1), 11: (1, 0, 1), 12: (1, 0, 1)})
    for tid, state, cpu in ((10, "S", 0), (11, "R", 3), (12, "R", 5)):
        tree.file(f"10/task/{tid}/stat", stat_line(tid, "a) R 1", state=state, cpu=cpu))
    tree.process(20, ticks=8)
    tree.file("20/stat", stat_line(20, "one", ticks=8, cpu=2))
    assert {task.pid: task.cpus for task in scan(TaskScanner(tree.root))} == {10: "3,5", 20: "2"}


def test_between_two_passes_only_the_busiest_are_read(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(tasks, "mono", lambda: now[0])
    monkeypatch.setattr(tasks, "SHARE", 1e-9)  # a pass over all is as rare as can be
    tree.process(10, ticks=100)
    tree.process(11, ticks=100)
    scanner = TaskScanner(tree.root)
    for _ in range(2):
        scan(scanner)
        now[0] += 1.0
    tree.process(12, "late", ticks=5000)
    tree.process(11, ticks=190)
    tree.process(10, ticks=100)
    between = scan(scanner)
    assert [(task.pid, task.cpu_ticks) for task in between] == [(11, 190), (10, 100)]
    tree.gone("10")
    assert [task.pid for task in scan(scanner)] == [11]
    now[0] += tasks.LONGEST_S
    assert [task.pid for task in scan(scanner)] == [12, 11]


def test_at_most_so_many_are_kept(tree: ProcTree) -> None:
    for pid in range(100, 100 + KEEP + 9):
        tree.process(pid, ticks=pid)
    found = scan(TaskScanner(tree.root))
    assert len(found) == KEEP and found[0].pid == 100 + KEEP + 8


def test_what_vanished_or_is_broken_is_passed_over(tree: ProcTree) -> None:
    tree.process(10, ticks=9)
    (tree.root / "11").mkdir()
    tree.file("12/stat", "12 (cut")
    assert [task.pid for task in scan(TaskScanner(tree.root))] == [10]


def test_a_proc_that_cannot_be_listed(tmp_path: Path) -> None:
    assert isinstance(TaskScanner(tmp_path / "none").scan(frozenset()), Absent)
