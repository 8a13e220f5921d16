"""A real llama.cpp started with other flags under load: bare and by ``qtop serve``; one that cannot start, one that is
worse, and kill -9 in between: the old one is back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.load import streams
from tests.fakes.real_llama import Llama
from tests.fakes.restarts import Step, forked

from qtop.act.hands import Hands
from qtop.act.journal import Journal
from qtop.act.knobs import knob
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.collect.discover.procfs import argv as argv_of
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

pytest.importorskip("xllamacpp")


@pytest.fixture
def make(llama_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Llama]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    started: list[Llama] = []

    def one(*before: str) -> Llama:
        started.append(Llama(llama_model, tmp_path, before))
        return started[-1]

    yield one
    for server in started:
        server.stop()


def test_served_changed_under_load_and_back(make: Callable[..., Llama]) -> None:
    server = make(sys.executable, "-m", "qtop", "serve", "--name", "real", "--")
    with streams(server.port, 1, tokens=50):
        status, made, said = server.qtop("apply", "ctx-size=2048", "--yes", "--keep-always")
        assert (status, made.get("kept")) == (0, True), said
        assert server.now() == [server.with_words("--ctx-size", "2048")]
        measured = made["judgement"]["data"]
        assert measured["ttft"]["before_ms"] > 0
        assert measured["ttft"]["after_ms"] > 0

        status, _, said = server.qtop("apply", "server-flags=--model=/gone.gguf", "--yes", "--no-measure")
        assert status == 1
        assert "llama.cpp did not start: failed to open GGUF file '/gone.gguf' (No such file or directory)" in said
        assert server.now() == [server.with_words("--ctx-size", "2048")]
        server.await_health()

        status, undone, said = server.qtop("undo")
        assert (status, undone.get("restored")) == (0, 1), said
    assert server.now() == [server.words]
    server.await_health()


@pytest.mark.measured
def test_bare_one_that_is_worse_is_put_back_unasked(make: Callable[..., Llama]) -> None:
    """Far more compute threads than CPUs: at each of a token's barriers all wait for the one that has no CPU."""
    server = make()
    status, made, said = server.qtop("apply", f"threads={4 * (os.cpu_count() or 1)}", "--yes")
    assert (status, made.get("kept")) == (1, False), said
    assert made["judgement"]["verdict"] == "worse", made
    gaps = made["judgement"]["data"]["itl"]
    assert gaps["after_ms"] > 1.5 * gaps["before_ms"], gaps
    assert server.now() == [server.words]
    server.await_health()
    assert undo(Journal()).text == "nothing to undo"


def test_a_load_that_goes_with_the_old_server_is_no_improvement(make: Callable[..., Llama]) -> None:
    """Streams that end with it and do not come back: alone, a test prompt is faster, whatever the change does."""
    server = make()
    with streams(server.port, 3, tokens=900, again=False):
        status, made, said = server.qtop("apply", "ctx-size=5120", "--yes")
        assert (status, made.get("kept")) == (1, False), said
        judged = made["judgement"]
        assert judged["verdict"] == "cannot tell", made
        assert "others had 3 requests in flight before and 0 after" in judged["text"]
    assert server.now() == [server.words]


@pytest.mark.parametrize("at", [("pidfd_send_signal", 1), ("Popen", 2), ("post", 1)])
def test_bare_with_qtop_killed_in_between(make: Callable[..., Llama], at: Step) -> None:
    server = make()
    (pid,) = [pid for pid, _ in server._each()]
    info = ServerInfo(url=server.url, engine="llamacpp", pid=pid, argv=argv_of(pid))
    frame, flagged = Frame(0.0, 0.0, server=info), knob("server-flags")

    def change() -> None:
        with Hands(interactive=False) as hands:
            run([(flagged, lambda: flagged.plan(frame, "--parallel=2"))], None, lambda *_: None, None, None, hands)

    with streams(server.port, 1, tokens=50):
        assert forked(change, at, "after")[0] == -signal.SIGKILL
        undo()
        assert server.now() == [server.words]
        server.await_health()
