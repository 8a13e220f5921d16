"""kill -9 of the process that changes threads' CPUs, at every call that the change is made of; then undo.

The masks afterwards must be the ones from before, whatever the call. The process dies by a library loaded into it
(killat.c), not by an exception in its place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.crash import Masks, ThreadedProcess, calls, deadly, environment, masks, pin

from qtop.act.journal import Journal

CPUS = sorted(os.sched_getaffinity(0))
NARROW = {CPUS[0]}
MANY = 200
"""More calls than any of these processes makes: a sweep that gets here never ends by itself."""

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs to move threads between")


@pytest.fixture(scope="module")
def started(make_llama_server: MakeLlamaServer) -> tuple[str, int]:
    """URL and pid of a real server."""
    one = make_llama_server(threads=1)
    return one.url, one.pid


@pytest.fixture
def server(started: tuple[str, int]) -> tuple[str, int]:
    """The same, all of whose threads share one CPU, whatever the test before left behind."""
    pin(started[1], NARROW)
    return started


@pytest.fixture
def target() -> Iterator[ThreadedProcess]:
    """A process with three threads on one CPU and a fourth that was put on another on purpose."""
    with ThreadedProcess(3) as process:
        pin(process.pid, NARROW)
        os.sched_setaffinity(process.workers[-1], {CPUS[1]})
        yield process


def as_before(pid: int, before: Masks) -> bool:
    """A real server begins and ends threads by itself meanwhile: a new one has the mask of the one that began it."""
    now = masks(pid)
    same = all(now[tid] == mask for tid, mask in before.items() if tid in now)
    return same and set(now.values()) <= set(before.values())


def qtop(state: Path, *arguments: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A qtop of its own; again where the machine was too busy to read the threads twice in time: nothing had begun."""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-m", "qtop", *arguments],
            env=environment(state, extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 3 or "not yet" not in done.stderr:
            break
    return done


def drive(
    state: Path, process: ThreadedProcess, verdict: str, extra: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fakes.apply_driver", str(process.pid), verdict]
    return subprocess.run(
        command, env=environment(state, extra), capture_output=True, text=True, timeout=60, check=False
    )


def apply(state: Path, url: str, *more: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return qtop(state, "apply", "cpu-affinity", "--yes", "--interval", "0.1", "--url", url, *more, extra=extra)


def test_apply_killed_before_every_call_is_undone(shim: Path, server: tuple[str, int], tmp_path: Path) -> None:
    """Of the many threads only the first two and the last: the others are done in between, one like the other."""
    url, pid = server
    before = masks(pid)
    made: list[str] = []
    threads = len(before)
    at = 1
    while at < MANY:
        log = tmp_path / f"{at}.log"
        done = apply(tmp_path, url, "--no-measure", extra=deadly(shim, at, log=log))
        made = calls(log)
        if done.returncode != -signal.SIGKILL:
            break
        undone = qtop(tmp_path, "undo")
        assert undone.returncode == 0, (at, made[-1], undone.stderr)
        assert as_before(pid, before), (at, made[-1], undone.stdout)
        at += threads - 2 if made.count("sched_setaffinity") == 2 and threads > 4 else 1
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    # The old values are on disk before the first is changed, and every thread was a place to die at.
    assert made.index("fsync") < made.index("sched_setaffinity")
    assert made.count("sched_setaffinity") == len(before)
    assert {"open", "write", "fsync"} < set(made)
    assert all(mask == set(CPUS) for mask in masks(pid).values())
    assert qtop(tmp_path, "undo").returncode == 0
    assert as_before(pid, before)


def deaths(mode: str, made: list[str]) -> list[int]:
    """Where to die. After one call nothing has happened that had not before the next, so only the last has an after;
    only what is written can be torn."""
    return {
        "before": list(range(1, len(made) + 1)),
        "after": [len(made)],
        "torn": [n for n, name in enumerate(made, 1) if name == "write"],
    }[mode]


@pytest.mark.parametrize("mode", ["before", "after", "torn"])
def test_a_change_that_is_put_back_may_die_anywhere(
    mode: str, shim: Path, target: ThreadedProcess, tmp_path: Path
) -> None:
    """Measured, found no better and put back: twice the calls, with the second half undoing the first."""
    before = masks(target.pid)
    first = tmp_path / "all.log"
    assert drive(tmp_path, target, "no effect", deadly(shim, 0, log=first)).returncode == 1
    assert masks(target.pid) == before
    made = calls(first)
    assert made.count("sched_setaffinity") == 6
    for at in deaths(mode, made):
        state = tmp_path / str(at)  # a new journal each time: its folder is synced as well
        died = drive(state, target, "no effect", deadly(shim, at, mode))
        assert died.returncode == -signal.SIGKILL, (at, made[at - 1], died.stdout)
        undone = drive(state, target, "undo")
        assert undone.returncode == 0, (at, made[at - 1], undone.stdout, undone.stderr)
        assert masks(target.pid) == before, (at, made[at - 1], undone.stdout)


@pytest.mark.parametrize("mode", ["before", "after", "torn"])
def test_undo_killed_at_every_call_is_finished_by_undo(
    mode: str, shim: Path, target: ThreadedProcess, tmp_path: Path
) -> None:
    before = masks(target.pid)
    log = tmp_path / "all.log"
    assert drive(tmp_path, target, "none").returncode == 0
    assert drive(tmp_path, target, "undo", deadly(shim, 0, log=log)).returncode == 0
    made = calls(log)
    assert made.count("sched_setaffinity") == 3
    assert made[-1] == "fsync"
    for at in deaths(mode, made):
        assert drive(tmp_path, target, "none").returncode == 0
        assert masks(target.pid) != before
        died = drive(tmp_path, target, "undo", deadly(shim, at, mode))
        assert died.returncode == -signal.SIGKILL, (at, made[at - 1], died.stdout)
        finished = drive(tmp_path, target, "undo")
        assert finished.returncode == 0, (at, made[at - 1], finished.stderr)
        assert masks(target.pid) == before, (at, made[at - 1])
    assert Journal(tmp_path / "qtop/journal.jsonl").in_force() == []


def test_the_real_undo_killed_half_way_is_finished_by_undo(shim: Path, server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    assert apply(tmp_path, url, "--no-measure").returncode == 0
    half = len(before) // 2
    assert qtop(tmp_path, "undo", extra=deadly(shim, half)).returncode == -signal.SIGKILL
    assert sum(now != before[tid] for tid, now in masks(pid).items() if tid in before) == len(before) - half + 1
    # Nothing is built on top of half a change.
    refused = apply(tmp_path, url, "--no-measure")
    assert refused.returncode == 1
    assert "qtop undo" in refused.stderr
    assert qtop(tmp_path, "undo").returncode == 0
    assert as_before(pid, before)


def interrupted(state: Path, url: str, line: str, number: signal.Signals) -> tuple[int, str]:
    """Start a measured change, send it a signal just after it has said ``line``; its exit status and what it said."""
    command = [sys.executable, "-m", "qtop", "apply", "cpu-affinity", "--yes", "--url", url]
    child = subprocess.Popen(
        command, env=environment(state), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(120, child.kill)
    watchdog.start()
    said = ""
    try:
        assert child.stderr is not None
        for text in child.stderr:
            said += text
            if line in text:
                threading.Timer(0.3, child.send_signal, (number,)).start()
        return child.wait(), said
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()


def test_killed_while_measuring_before_nothing_was_changed(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    status, _ = interrupted(tmp_path, url, "measuring before", signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert {tid: mask for tid, mask in masks(pid).items() if tid in before} == before
    assert qtop(tmp_path, "undo").stdout == "nothing to undo\n"


def test_killed_while_measuring_after_is_undone(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    status, _ = interrupted(tmp_path, url, "measuring after", signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert all(mask == set(CPUS) for mask in masks(pid).values())
    listed = json.loads(qtop(tmp_path, "journal", "--json").stdout)["journal"]
    assert [change["state"] for change in listed] == ["open"]
    assert qtop(tmp_path, "undo").returncode == 0
    assert as_before(pid, before)


def test_sigterm_while_measuring_after_puts_the_masks_back(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    status, said = interrupted(tmp_path, url, "measuring after", signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert as_before(pid, before)
    assert Journal(tmp_path / "qtop/journal.jsonl").in_force() == []


def test_a_dry_run_shows_the_preview_and_changes_nothing(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    shown = qtop(tmp_path, "apply", "cpu-affinity", "--dry-run", "--interval", "0.1", "--url", url)
    assert shown.returncode == 0, shown.stderr
    assert f"{len(before)} threads: CPUs {CPUS[0]} → " in shown.stdout
    assert as_before(pid, before)
    assert not (tmp_path / "qtop/journal.jsonl").exists()


def test_without_a_terminal_nobody_can_agree(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    told = qtop(tmp_path, "apply", "cpu-affinity", "--interval", "0.1", "--url", url)
    assert told.returncode == 2
    assert "no terminal to ask on. Pass --yes" in told.stderr
    assert as_before(pid, before)
    assert not (tmp_path / "qtop/journal.jsonl").exists()


@pytest.mark.parametrize("value", ["", "x", "3-1", "0-9999999999", "99999"])
def test_a_wrong_value_is_an_input_error(value: str, server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    told = qtop(tmp_path, "apply", f"cpu-affinity={value}", "--yes", "--interval", "0.1", "--url", url)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1), told
    assert as_before(pid, before)


def test_a_journal_that_cannot_be_written_changes_nothing(server: tuple[str, int], tmp_path: Path) -> None:
    url, pid = server
    before = masks(pid)
    nowhere = tmp_path / "file"
    nowhere.touch()
    told = apply(nowhere, url, "--no-measure", extra={"XDG_CONFIG_HOME": str(tmp_path)})
    assert told.returncode == 2
    assert "cannot write the journal" in told.stderr
    assert "Traceback" not in told.stderr
    assert as_before(pid, before)
