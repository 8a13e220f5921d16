"""The threads of one process: what is read of those that ran and of those that sleep, and what is kept open."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fakes.proctree import ProcTree, stat_line

from qtop.collect import kept
from qtop.collect.kept import Allowance
from qtop.collect.procs import ProcsCollector, title_of
from qtop.collect.stat import parse_stat, processor_of
from qtop.collect.threads import NAME_TICKS, SLOW_TICKS, ThreadReader
from qtop.sample import Absent, ServerProcs, ThreadSample


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def by_tid(found: tuple[ThreadSample, ...] | Absent) -> dict[int, ThreadSample]:
    assert not isinstance(found, Absent), found
    return {thread.tid: thread for thread in found}


def test_the_cpu_a_thread_is_on_is_read_when_it_ran(tree: ProcTree) -> None:
    tree.process(10, threads={10: (1, 0, 1)})
    tree.thread(10, 11, (1, 0, 1), comm="a) R 1 (b", cpu=3)
    reader = ThreadReader(str(tree.root), 10, real=False)
    assert {tid: one.processor for tid, one in by_tid(reader.read("0", 2)).items()} == {10: 2, 11: 3}
    tree.file("10/task/11/stat", stat_line(11, "x", cpu=5))
    assert by_tid(reader.read("0", 2))[11].processor == 3, "it slept: nothing is read"
    tree.thread(10, 11, (9, 0, 2), cpu=7)
    assert by_tid(reader.read("0", 4))[11].processor == 7
    assert by_tid(reader.read("0", 6))[10].processor == 6
    (tree.root / "10/task/11/stat").unlink()
    tree.file("10/task/11/schedstat", "10 0 3\n")
    assert by_tid(reader.read("0", 6))[11].processor == -1


def test_a_sleeping_thread_gives_the_same_object(tree: ProcTree) -> None:
    tree.process(10, threads={10: (1, 0, 1)})
    tree.thread(10, 11, (1, 0, 1))
    tree.thread(10, 12, (1, 0, 1))
    reader = ThreadReader(str(tree.root), 10, real=False)
    first = by_tid(reader.read("0", 0))
    for n in range(2, 3 + NAME_TICKS):
        tree.thread(10, 12, (n, 0, n))
        again = by_tid(reader.read("0", 0))
        assert again[10] is first[10] and again[11] is first[11]
        assert again[12].slices == n


def test_a_name_and_a_mask_that_change_are_seen_in_time(tree: ProcTree) -> None:
    tree.process(10, threads={10: (1, 0, 1)})
    tree.thread(10, 11, (1, 0, 1), comm="python", cpus="0-3")
    reader = ThreadReader(str(tree.root), 10, real=False)
    reader.read("0", 0)
    tree.thread(10, 11, (1, 0, 1), comm="ZMQbg/IO/0", cpus="2")
    seen = [by_tid(reader.read("0", 0))[11] for _ in range(NAME_TICKS)]
    assert seen[SLOW_TICKS - 1].allowed == "2"
    assert seen[-1].comm == "ZMQbg/IO/0"


@pytest.mark.parametrize("most", [0, 1, 3])
def test_with_no_descriptors_to_keep_all_is_read_all_the_same(tree: ProcTree, most: int) -> None:
    tree.process(10, threads={tid: (tid, 0, 1) for tid in range(10, 20)})
    allowance = Allowance(most)
    reader = ThreadReader(str(tree.root), 10, real=False, allowance=allowance)
    for n in range(1, 4):
        for tid in range(10, 20):
            tree.thread(10, tid, (tid * n, n, n))
        found = by_tid(reader.read("0", 0))
        assert {tid: one.run_ns for tid, one in found.items()} == {tid: tid * n for tid in range(10, 20)}
        assert allowance.held == most
    reader.close()
    assert allowance.held == 0


def test_the_allowance_follows_the_limit_and_raises_it_only_when_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [kept.RESERVE + 2, kept.RESERVE + 3]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limit))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, new: limit.__setitem__(slice(None), new))
    allowance = Allowance()
    assert allowance.take() and allowance.take()
    assert limit[0] == kept.RESERVE + 2, "no need yet"
    assert allowance.take() and not allowance.take()
    assert limit == [kept.RESERVE + 3, kept.RESERVE + 3]
    allowance.give_back()
    assert allowance.take()


def test_a_limit_that_may_not_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (kept.RESERVE + 1, 9999))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allowance = Allowance()
    assert allowance.take() and not allowance.take()


@pytest.mark.parametrize(
    ("argv", "title"),
    [
        (["VLLM::EngineCore_DP1"], "VLLM::EngineCore_DP1"),
        (["VLLM::APIServer_0"], "VLLM::APIServer_0"),
        (["sglang::scheduler_DP0_PP1_TP0"], "sglang::scheduler_DP0_PP1_TP0"),
        (["/opt/venv/bin/python", "/opt/venv/bin/vllm", "serve", "/models/m", "--api-key", "sk-1"], "vllm serve"),
        (["python3", "-m", "sglang.launch_server", "--model-path", "x"], "sglang.launch_server"),
        (["/usr/local/bin/ollama", "serve"], "ollama serve"),
        (["/usr/local/bin/ollama", "runner", "--model", "/x"], "ollama runner"),
        (["/usr/bin/text-generation-router", "--port", "80"], "text-generation-router"),
        (["python", "-B", "-c", "from multiprocessing.resource_tracker import main;main(32)"], "resource_tracker"),
        (["python", "-c", "key='hunter2'; run(key)"], ""),
        (["python", "serve.py", "hunter2"], "serve.py"),
        (["./llama-server", "-m", "x.gguf"], "llama-server"),
        (["nginx: worker process"], "nginx:"),
        (["x" * 500], "x" * 64),
        (["/bin/\x1b[31m ev il"], "31m"),
        ([], ""),
    ],
)
def test_titles_name_the_program_and_no_argument(argv: Sequence[str], title: str) -> None:
    assert title_of(argv) == title


def test_a_title_that_is_written_later_is_read_then(tree: ProcTree) -> None:
    tree.process(10, "python3", argv=("python3", "/opt/bin/vllm", "serve", "m"))
    tree.process(11, "python3", ppid=10, argv=("python3", "-c", "from multiprocessing.spawn import spawn_main"))
    collector = ProcsCollector(lambda: [10, 11], tree.root)

    def titles() -> list[str]:
        sample = collector.read()
        assert isinstance(sample, ServerProcs)
        return [process.title for process in sample.processes]

    assert titles() == ["vllm serve", "spawn"]
    tree.process(11, "VLLM::EngineCor", ppid=10, argv=("VLLM::EngineCore_DP0",))
    assert titles() == ["vllm serve", "VLLM::EngineCore_DP0"]


@pytest.mark.parametrize("line", [b"", b"1 (x", b"1 (x) S 1 2", b"x (y) S " + b"z " * 50, b"1 (x) S " + b"1 " * 35])
def test_a_stat_line_that_is_none(line: bytes) -> None:
    assert parse_stat(line) is None
    assert processor_of(line) == -1


CHURN = """
import sys, threading
def burst():
    gate = threading.Event()
    crowd = [threading.Thread(target=gate.wait) for _ in range(40)]
    for one in crowd: one.start()
    print("up", flush=True); sys.stdin.readline()
    gate.set()
    for one in crowd: one.join()
    print("down", flush=True); sys.stdin.readline()
while True: burst()
"""


@contextmanager
def churning() -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CHURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_threads_that_come_and_go_leave_nothing_open() -> None:
    """A real process: 40 threads begin, are read, end; eight times over."""
    with churning() as child:
        assert child.stdin is not None and child.stdout is not None
        collector = ProcsCollector(lambda: [child.pid])
        counts: dict[str, list[tuple[int, int, int]]] = {"up": [], "down": []}
        for _ in range(16):
            state = child.stdout.readline().strip()
            for _ in range(200):  # what Python has joined may take the kernel a moment more
                sample = collector.read()
                assert isinstance(sample, ServerProcs)
                (reader,) = collector._readers.values()
                seen = by_tid(sample.processes[0].threads)
                if len(seen) == len(reader._known) == (41 if state == "up" else 1):
                    break
                time.sleep(0.005)
            counts[state].append((len(seen), len(reader._known), len(os.listdir("/proc/self/fd"))))
            child.stdin.write("\n")
            child.stdin.flush()
        assert {row[0] for row in counts["up"]} == {41} and {row[0] for row in counts["down"]} == {1}
        assert {row[1] for row in counts["up"]} == {41} and {row[1] for row in counts["down"]} == {1}
        for rows in counts.values():
            assert len({row[2] for row in rows}) == 1, rows
        before = kept.SHARED.held
        collector.close()
        assert kept.SHARED.held <= before - 2


def test_a_tree_of_processes_that_come_and_go_leaves_nothing_open(tree: ProcTree) -> None:
    tree.process(10)
    listed = [10]
    collector = ProcsCollector(lambda: listed, tree.root, clock=itertools.count(1.0).__next__)
    collector.read()
    before = kept.SHARED.held
    for round_ in range(6):
        pid = 100 + round_
        tree.process(pid, ppid=10, threads={pid: (1, 0, 1), 1000 + pid: (1, 0, 1)})
        listed.append(pid)
        for _ in range(SLOW_TICKS):
            collector.read()
        if round_ % 2:
            tree.file(f"{pid}/stat", stat_line(pid, "x", state="Z"))
            collector.read()
        listed.remove(pid)
        for _ in range(SLOW_TICKS):
            collector.read()
        tree.gone(str(pid))
    assert kept.SHARED.held == before
    assert set(collector._readers) == set(collector._titles) == {10}


def test_this_process_s_threads_are_on_cpus_that_they_may_use() -> None:
    done = threading.Event()
    helper = threading.Thread(target=done.wait)
    helper.start()
    try:
        reader = ThreadReader("/proc", os.getpid(), real=True)
        found = by_tid(reader.read("0", 0))
        assert helper.native_id is not None
        assert found[helper.native_id].processor in os.sched_getaffinity(helper.native_id)
        reader.close()
    finally:
        done.set()
        helper.join()
