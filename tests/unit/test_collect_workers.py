"""Workers, kept files, qtop's own cost and the wake-up probe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtop.collect import runner, wakeup
from qtop.collect.kept import Allowance, KeptFiles, read_text
from qtop.collect.own import OwnCollector
from qtop.collect.runner import Worker
from qtop.collect.wakeup import WakeupCollector
from qtop.sample import Absent, WakeupSample, Why

CHILD = Path(wakeup.__file__).with_name("wakeup_child.py")
PATIENCE_S = 20.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"{what} did not happen within {PATIENCE_S:.0f} s")


def test_a_worker_answers_each_poke() -> None:
    answers = iter(range(100))
    worker: Worker[int] = Worker("x", lambda: next(answers))
    assert isinstance(worker.latest(1.0), Absent)
    worker.start()
    for expected in range(3):
        worker.poke()
        assert worker.wait(PATIENCE_S)
        assert worker.latest(1.0) == expected
    worker.stop()


def test_a_reading_that_hangs_goes_stale_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(runner, "mono", lambda: now[0])
    hang = threading.Event()
    worker: Worker[int] = Worker("NVML", lambda: 7 if hang.wait() else 0)
    worker.start()
    worker.poke()
    assert not worker.wait(0.01)
    assert isinstance(worker.latest(1.0), Absent)
    now[0] += 60.0
    late = worker.latest(1.0)
    assert isinstance(late, Absent) and late.why is Why.STALE and "NVML" in late.detail and "60 s" in late.detail
    hang.set()
    assert worker.wait(PATIENCE_S)
    assert worker.latest(1.0) == 7
    worker.stop()


def test_an_exception_is_one_short_line_and_the_next_reading_goes_on() -> None:
    def read() -> int:
        if not failed:
            failed.append(1)
            raise RuntimeError("first line\nsecond line " + "x" * 500)
        return 5

    failed: list[int] = []
    worker: Worker[int] = Worker("engine", read)
    worker.start()
    worker.poke()
    assert worker.wait(PATIENCE_S)
    said = worker.latest(1.0)
    assert isinstance(said, Absent) and said.why is Why.FAILED
    assert "\n" not in said.detail and len(said.detail) <= 120 and "RuntimeError" in said.detail
    worker.poke()
    assert worker.wait(PATIENCE_S)
    assert worker.latest(1.0) == 5
    worker.stop()


def test_kept_files_are_read_from_the_start_each_time_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 300)
    kept = KeptFiles()
    assert kept.read(str(path), 64) == b"a" * 300
    with path.open("r+b") as file:
        file.write(b"b" * 300)
    assert kept.read(str(path), 64) == b"b" * 300
    kept.close()


def test_beyond_the_limit_files_are_not_kept_open(tmp_path: Path) -> None:
    kept = KeptFiles(Allowance(2))
    before = len(os.listdir("/proc/self/fd"))
    for n in range(5):
        (tmp_path / str(n)).write_text(str(n))
        assert kept.read(str(tmp_path / str(n))) == str(n).encode()
    assert len(os.listdir("/proc/self/fd")) - before == 2
    kept.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    kept = KeptFiles()
    missing, folder = kept.read(str(tmp_path / "none")), read_text(tmp_path)
    assert isinstance(missing, Absent) and missing.why is Why.UNSUPPORTED
    assert isinstance(folder, Absent)


def test_a_descriptor_of_a_dead_process_is_never_its_successor() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    kept = KeptFiles()
    path = f"/proc/{child.pid}/stat"
    assert isinstance(kept.read(path), bytes)
    child.communicate(b"\n")
    gone = kept.read(path)
    assert isinstance(gone, Absent) and gone.why in (Why.LOST, Why.UNSUPPORTED)
    kept.close()


def test_own_cost_counts_the_children_there_are_and_keeps_no_file_of_others() -> None:
    code = "x = bytearray(b'1') * 20_000_000; print(len(x), flush=True); input()"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    pids: list[int] = [child.pid]
    own = OwnCollector(lambda: pids, lambda: 42)
    with_child = own.read(1.5)
    assert with_child.tty_bytes == 42 and with_child.lag_ms == 1.5
    pids.clear()
    alone = own.read(0.0)
    assert 0 < alone.rss_bytes < with_child.rss_bytes - 10_000_000
    assert list(own._files._open) == [f"/proc/{os.getpid()}/stat"]
    child.communicate(b"\n")
    pids.append(child.pid)
    assert own.read(0.0).rss_bytes > 0, "a child that has ended is passed over"


@pytest.fixture
def probe() -> Iterator[WakeupCollector]:
    made = WakeupCollector()
    yield made
    made.close()


def test_the_wake_up_probe_reports_and_ends(probe: WakeupCollector) -> None:
    assert isinstance(probe.read(), Absent)
    got: list[int] = []

    def some() -> bool:
        sample = probe.read()
        if isinstance(sample, WakeupSample):
            got.extend(sample.late_us)
        return bool(got)

    until(some, "a first report")
    assert all(late >= 0 for late in got)
    (pid,) = probe.pids()
    probe.close()
    assert not Path(f"/proc/{pid}").exists()
    after = probe.read()
    assert isinstance(after, Absent) and probe.pids() == ()


def test_what_it_says_after_a_stop_is_not_counted(probe: WakeupCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.read()
    until(lambda: bool(probe._late), "a first report")
    monkeypatch.setattr(wakeup, "SKIP_S", 3600.0)
    probe.skip()
    heard = probe._heard
    until(lambda: probe._heard > heard, "another report")
    sample = probe.read()
    assert isinstance(sample, WakeupSample) and sample.late_us == ()


def test_a_killed_probe_is_said_and_started_again(probe: WakeupCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.read()
    (first,) = probe.pids()
    os.kill(first, 9)
    until(lambda: not Path(f"/proc/{first}").exists(), "its end")
    said = probe.read()
    assert isinstance(said, Absent) and said.why is Why.LOST
    probe._retry_at = 0.0
    probe.read()
    assert probe.pids() != (first,)


def test_a_probe_that_cannot_start_is_said() -> None:
    said = WakeupCollector("/no/such/python").read()
    assert isinstance(said, Absent) and said.why is Why.FAILED and "does not start" in said.detail


def test_a_line_that_is_cut_is_passed_over(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 5 6\necho 7 x\necho 8\nexec sleep 60\n")
    script.chmod(0o755)
    collector = WakeupCollector(str(script))
    collector.read()
    until(lambda: len(collector._late) == 3, "the two good lines")
    sample = collector.read()
    assert isinstance(sample, WakeupSample) and sample.late_us == (5, 6, 8)
    collector.close()


@pytest.mark.parametrize("drop", ["stdin", "stdout"])
def test_the_probe_ends_when_its_parent_is_gone(drop: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(CHILD), "20"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    child.stdout.readline()
    (child.stdin if drop == "stdin" else child.stdout).close()
    child.wait(PATIENCE_S)
    assert b"Traceback" not in child.stderr.read() or drop == "stdout"
    for pipe in (child.stdin, child.stdout, child.stderr):
        pipe.close()
