"""The server's processes on made-up /proc trees: threads come and go, numbers are given to others, kernels differ."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest
from tests.fakes.proctree import ProcTree, stat_line

from qtop.collect import discover
from qtop.collect.kept import KeptFiles
from qtop.collect.procs import ProcsCollector
from qtop.collect.threads import SLOW_TICKS, ThreadReader
from qtop.model.sched import sched_view
from qtop.sample import Absent, ServerProcs, ThreadSample, Why


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def of(sample: ServerProcs | Absent) -> ServerProcs:
    assert isinstance(sample, ServerProcs), sample
    return sample


def threads(sample: ServerProcs | Absent, at: int = 0) -> dict[int, ThreadSample]:
    found = of(sample).processes[at].threads
    assert not isinstance(found, Absent), found
    return {thread.tid: thread for thread in found}


def test_a_process_with_its_threads(tree: ProcTree) -> None:
    tree.process(10, "llama-server", ticks=55, start=7, threads={10: (100, 20, 3), 11: (5, 6, 7)}, cpus="0-1,4")
    sample = ProcsCollector(lambda: [10], tree.root).read()
    (process,) = of(sample).processes
    assert (process.pid, process.start_ticks, process.comm, process.cpu_ticks) == (10, 7, "llama-server", 55)
    assert (process.allowed, process.voluntary, process.involuntary) == ("0-1,4", 5, 7)
    assert threads(sample) == {
        10: ThreadSample(10, "worker", 100, 20, 3, "0-1,4", 0),
        11: ThreadSample(11, "worker", 5, 6, 7, "0-1,4", 0),
    }


@pytest.mark.parametrize("comm", ["a b", "a) R 1 (b", "(", ")", "VLLM::EngineCor", "x) S 9 9"])
def test_any_comm(tree: ProcTree, comm: str) -> None:
    tree.process(10, comm, ppid=3, ticks=9)
    (process,) = of(ProcsCollector(lambda: [10], tree.root).read()).processes
    assert (process.comm, process.ppid, process.cpu_ticks) == (comm, 3, 9)


def test_a_thread_that_ends_between_listing_and_reading_is_left_out(
    tree: ProcTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.process(10, threads={10: (1, 1, 1), 11: (2, 2, 2), 12: (3, 3, 3)})
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*real(path), "99"])  # 99 has ended by the time it is read
    assert set(threads(ProcsCollector(lambda: [10], tree.root).read())) == {10, 11, 12}


def test_threads_come_and_go(tree: ProcTree) -> None:
    tree.process(10, threads={10: (1, 0, 1), 11: (2, 0, 1)})
    collector = ProcsCollector(lambda: [10], tree.root)
    assert set(threads(collector.read())) == {10, 11}
    tree.gone("10/task/11")
    tree.thread(10, 12, (9, 9, 9), comm="new one")
    seen = threads(collector.read())
    assert set(seen) == {10, 12} and seen[12].comm == "new one"
    for _ in range(SLOW_TICKS):
        collector.read()
    assert set(collector._readers[10]._known) == {10, 12}, "what has ended is forgotten"


def test_the_process_vanishes_between_stat_and_threads(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.process(10)
    real = KeptFiles.read

    def vanish(self: KeptFiles, path: str, size: int = 65536) -> bytes | Absent:
        if path.endswith("/status") and (tree.root / "10").exists():
            tree.gone("10")
        return real(self, path, size)

    monkeypatch.setattr(KeptFiles, "read", vanish)
    (process,) = of(ProcsCollector(lambda: [10], tree.root).read()).processes
    assert isinstance(process.threads, Absent)
    assert "kernel" not in process.threads.detail, "a process that ended says nothing of the kernel"


def test_a_kernel_without_schedstat(tree: ProcTree) -> None:
    tree.process(10)
    (tree.root / "10/task/10/schedstat").unlink()
    (process,) = of(ProcsCollector(lambda: [10], tree.root).read()).processes
    assert isinstance(process.threads, Absent) and process.threads.why is Why.UNSUPPORTED
    assert "schedstat" in process.threads.detail


def test_a_kernel_that_does_not_count_waiting_is_no_server_that_does_not_wait(tree: ProcTree) -> None:
    tree.process(10, threads={10: (0, 0, 0), 11: (0, 0, 0)}, ticks=500)
    (process,) = of(ProcsCollector(lambda: [10], tree.root).read()).processes
    assert isinstance(process.threads, Absent) and process.threads.why is Why.UNSUPPORTED
    assert "task_delayacct" in process.threads.detail


@pytest.mark.parametrize("text", ["", "1 2\n", "a b c\n", "1 2 3 4\n"])
def test_a_schedstat_that_is_none_leaves_out_the_thread(tree: ProcTree, text: str) -> None:
    tree.process(10, threads={10: (1, 0, 1), 11: (1, 0, 1)})
    tree.file("10/task/11/schedstat", text)
    assert set(threads(ProcsCollector(lambda: [10], tree.root).read())) == {10}


def test_a_number_given_to_another_process_is_not_read_as_the_server(tree: ProcTree) -> None:
    tree.process(10, start=100, threads={10: (5_000, 5_000, 5)})
    collector = ProcsCollector(lambda: [10], tree.root)
    assert of(collector.read()).processes[0].start_ticks == 100
    tree.process(10, "somebody", start=999, threads={10: (9_000_000_000, 9_000_000_000, 5)})
    for _ in range(SLOW_TICKS + 2):
        sample = collector.read()
        assert isinstance(sample, Absent) and sample.why is Why.LOST
        assert "another" in sample.detail


def test_a_number_that_was_given_away_before_the_first_reading(tree: ProcTree) -> None:
    tree.process(10, "somebody", start=999)
    sample = ProcsCollector(lambda: [10], tree.root, start_ticks=100).read()
    assert isinstance(sample, Absent) and sample.why is Why.LOST


def test_a_child_s_number_given_to_another_waits_for_the_next_look_at_the_tree(tree: ProcTree) -> None:
    tree.process(10)
    tree.process(20, "child", ppid=10, start=200)
    listed = [10, 20]
    collector = ProcsCollector(lambda: listed, tree.root)
    assert [process.pid for process in of(collector.read()).processes] == [10, 20]
    tree.process(20, "stranger", ppid=1, start=900)
    listed = [10]
    for _ in range(SLOW_TICKS * 2):
        assert [process.pid for process in of(collector.read()).processes] == [10]


def test_no_rate_is_made_of_two_processes_with_one_number(tree: ProcTree) -> None:
    tree.process(10)
    tree.process(20, "child", ppid=10, start=200, threads={20: (10, 10, 1)})
    collector = ProcsCollector(lambda: [10, 20], tree.root, clock=itertools.count(1.0).__next__)
    first = of(collector.read())
    tree.process(20, "child", ppid=10, start=900, threads={20: (9_000_000_000, 9_000_000_000, 9)}, ticks=900)
    samples = [of(collector.read()) for _ in range(SLOW_TICKS + 1)]
    assert [process.start_ticks for process in samples[-1].processes] == [100, 900]
    old = first
    for new in samples:
        view = sched_view(old, new, "llamacpp", (None, None))
        if not isinstance(view, Absent):
            assert all(thread.wait == 0.0 and thread.run == 0.0 for thread in view.threads)
            assert view.cpu == 0.0
        old = new


def test_a_zombie_and_a_vanished_root_are_lost(tree: ProcTree) -> None:
    tree.process(10)
    collector = ProcsCollector(lambda: [10], tree.root)
    of(collector.read())
    tree.file("10/stat", stat_line(10, "server", state="Z"))
    zombie = collector.read()
    tree.gone("10")
    gone = ProcsCollector(lambda: [10], tree.root).read()
    nobody = ProcsCollector(lambda: [], tree.root).read()
    for sample in (zombie, gone, nobody):
        assert isinstance(sample, Absent) and sample.why is Why.LOST


def test_a_cut_stat_is_absent(tree: ProcTree) -> None:
    tree.process(10)
    tree.file("10/stat", "10 (server) S 1 2")
    assert isinstance(ProcsCollector(lambda: [10], tree.root).read(), Absent)


def test_a_process_that_may_not_be_read(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.process(10)
    real = os.open

    def refuse(path: str, *more: int) -> int:
        if str(path).startswith(f"{tree.root}/10/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    sample = ProcsCollector(lambda: [10], tree.root).read()
    assert isinstance(sample, Absent) and sample.why is Why.DENIED
    assert "no permission to read process 10" in sample.detail


def test_threads_that_may_not_be_read_leave_the_process(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.process(10, ticks=3)
    real = os.open

    def refuse(path: str, *more: int) -> int:
        if str(path).endswith("/schedstat"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    (process,) = of(ProcsCollector(lambda: [10], tree.root).read()).processes
    assert process.cpu_ticks == 3
    assert isinstance(process.threads, Absent) and process.threads.why is Why.DENIED


def test_of_very_many_threads_the_busiest_are_kept(tree: ProcTree) -> None:
    tree.process(10, threads={10: (1, 0, 1)} | {100 + n: (n * 1000, 0, 1) for n in range(30)})
    reader = ThreadReader(str(tree.root), 10, real=False, most=8)
    first, second = reader.read("0", 0), reader.read("0", 0)
    assert not isinstance(first, Absent) and not isinstance(second, Absent)
    assert len(first) == 31, "the first look sees all"
    assert {thread.tid for thread in second} == {10, *range(123, 130)}
    reader.close()


def test_it_reads_this_very_process() -> None:
    done = threading.Event()
    helper = threading.Thread(target=done.wait)
    helper.start()
    try:
        collector = ProcsCollector(
            lambda: discover.server_tree(os.getpid()), start_ticks=discover.start_ticks(os.getpid())
        )
        sample = of(collector.read())
    finally:
        done.set()
        helper.join()
    assert sample.processes[0].pid == os.getpid()
    assert {os.getpid(), helper.native_id} <= set(threads(sample))
    collector.close()
