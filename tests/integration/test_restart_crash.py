"""kill -9 of the process that starts a server with other flags, at every step of it; then undo: the old server is back.

The server is a stand-in that is up in a tenth of a second, so that each step can be died at; a real llama.cpp is in
``test_restart_llamacpp``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.restarts import LlamaLike, forked

from qtop.act.hands import Hands
from qtop.act.journal import Journal
from qtop.act.knobs import knob
from qtop.act.launchers import bare
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.errors import Refused

FLAGS = "--parallel=8 --threads=2"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LlamaLike]:
    (tmp_path / "server").mkdir()
    one = LlamaLike(tmp_path / "server")
    yield one
    one.stop()


def change(server: LlamaLike, journal: Journal, flags: str = FLAGS) -> None:
    flagged = knob("server-flags")
    frame = server.frame()
    with Hands(interactive=False) as hands:
        run([(flagged, lambda: flagged.plan(frame, flags))], None, lambda step, text: None, None, journal, hands)


def test_an_apply_that_dies_at_any_step_is_undone(server: LlamaLike, tmp_path: Path) -> None:
    old = server.words
    first = Journal(tmp_path / "first.jsonl")
    status, steps = forked(lambda: change(server, first))
    assert status == 0
    assert server.now() == [[*old[:5], "--parallel", "8", "--threads", "2"]]
    assert undo(first).restored == 1
    assert server.now() == [old]
    # Every kind of step is among them: the journal, the signal, the start, the first token.
    place = steps.index
    assert steps[0] == ("Popen", 1)  # its parser
    assert place(("fsync", 1)) < place(("pidfd_send_signal", 1)) < place(("Popen", 2)) < place(("post", 1))
    # A line of the journal that is half there; and of a process that dies what is written is written, synced or not.
    deaths = [(at, "torn" if at[0] == "write" else "before") for at in steps if at[0] != "fsync"]
    deaths += [(at, "after") for at in steps if at[0] in ("pidfd_send_signal", "Popen", "write")][::2]
    states = set()
    for at, mode in deaths:
        journal = Journal(tmp_path / f"{at}{mode}.jsonl")
        status, _ = forked(lambda journal=journal: change(server, journal), at, mode)  # type: ignore[misc]
        assert status == -signal.SIGKILL, (at, mode)
        states.add(len(server.now()))
        undo(journal)
        assert server.now() == [old], (at, mode)
        server.await_health()
        assert undo(journal).text == "nothing to undo", (at, mode)
    assert states == {0, 1}  # some died while there was no server at all


def test_an_undo_that_dies_at_any_step_is_finished_by_undo(server: LlamaLike, tmp_path: Path) -> None:
    old = server.words
    first = Journal(tmp_path / "first.jsonl")
    change(server, first)
    status, steps = forked(lambda: undo(first))
    assert (status, server.now()) == (0, [old])
    assert {"write", "fsync", "pidfd_send_signal", "Popen", "post"} <= {name for name, _ in steps}
    for at in [step for step in steps if step[0] != "fsync"]:
        journal = Journal(tmp_path / f"{at}.jsonl")
        change(server, journal)
        status, _ = forked(lambda journal=journal: undo(journal), at)  # type: ignore[misc]
        assert status == -signal.SIGKILL, at
        undo(journal)
        assert server.now() == [old], at
        server.await_health()
        assert undo(journal).text == "nothing to undo", at


def test_what_cannot_start_is_put_back_by_itself_and_may_die_meanwhile(server: LlamaLike, tmp_path: Path) -> None:
    old = server.words

    def failing(journal: Journal) -> None:
        with pytest.raises(Refused, match=r"did not start: .*out of memory"):
            change(server, journal, "--fail-with='out of memory'")

    first = Journal(tmp_path / "first.jsonl")
    status, steps = forked(lambda: failing(first))
    assert (status, server.now()) == (0, [old])
    assert undo(first).text == "nothing to undo"
    assert ("Popen", 3) in steps  # its parser, the new words, the old ones
    later = steps[steps.index(("Popen", 2)) + 1 :]
    for at in [step for step in later if step[0] in ("_heard", "Popen", "post", "rename") or step[1] % 3 == 0]:
        journal = Journal(tmp_path / f"{at}.jsonl")
        status, _ = forked(lambda journal=journal: failing(journal), at)  # type: ignore[misc]
        assert status == -signal.SIGKILL, at
        undo(journal)
        assert server.now() == [old], at
        server.await_health()


def test_a_config_file_goes_back_with_its_server(tmp_path: Path) -> None:
    """Its words are the same before and after: only the file differs, and which of the two the server has read."""
    text = "# ours\nmax-num-seqs: 16   # enough\n"
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "c.yaml").write_text(text)
    server = LlamaLike(folder, "--config", "c.yaml", engine="vllm")
    try:
        first = Journal(tmp_path / "first.jsonl")
        status, steps = forked(lambda: change(server, first, "--max-num-seqs=8"))
        assert (status, server.slots(), server.now()) == (0, 8, [server.words])
        assert (folder / "c.yaml").read_text() == text.replace("16", "8")
        assert undo(first).restored == 2
        assert (server.slots(), (folder / "c.yaml").read_text()) == (16, text)
        assert ("rename", 1) in steps
        deaths = [(at, "before") for at in steps if at[0] not in ("write", "fsync") or at[1] % 3 == 0]
        for at, mode in [*deaths, (("rename", 1), "after"), (("Popen", 2), "after")]:
            journal = Journal(tmp_path / f"{at}{mode}.jsonl")
            status, _ = forked(lambda journal=journal: change(server, journal, "--max-num-seqs=8"), at, mode)  # type: ignore[misc]
            assert status == -signal.SIGKILL, (at, mode)
            undo(journal)
            server.await_health()
            assert (server.slots(), (folder / "c.yaml").read_text()) == (16, text), (at, mode)
            assert undo(journal).text == "nothing to undo", (at, mode)
    finally:
        server.stop()


def test_one_that_was_told_to_end_and_has_not_yet_is_no_server_that_is_back(tmp_path: Path) -> None:
    """As a real one, it answers for a while after SIGTERM: undo must not take it for the old server, alive and well."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = LlamaLike(folder, "--linger", "1")
    try:
        journal = Journal(tmp_path / "j.jsonl")
        status, _ = forked(lambda: change(server, journal), ("pidfd_send_signal", 1), "after")
        assert (status, server.running()) == (-signal.SIGKILL, [server.pid])
        assert undo(journal).restored == 1
        (pid,) = server.running()
        assert (pid != server.pid, server.now()) == (True, [server.words])
        server.await_health()
    finally:
        server.stop()


def test_a_start_that_is_under_way_is_waited_for(
    server: LlamaLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qtop died when the new server was on its way and not there yet: undo must not start the old one beside it."""
    slow = tmp_path / "slow-python"
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(bare, "PYTHON", str(slow))
    journal = Journal(tmp_path / "j.jsonl")
    status, _ = forked(lambda: change(server, journal), ("_heard", 1))
    assert (status, server.now()) == (-signal.SIGKILL, [])
    undo(journal)
    assert server.now() == [server.words]
    server.await_health()


def test_nothing_is_built_on_half_a_change(server: LlamaLike, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    status, _ = forked(lambda: change(server, journal), ("pidfd_send_signal", 1), "after")
    assert status == -signal.SIGKILL
    other = knob("swappiness")
    with pytest.raises(Refused, match="left unfinished"):
        run([(other, lambda: other.plan(server.frame(), "10"))], None, lambda step, text: None, None, journal)
    undo(journal)
    assert server.now() == [server.words]
