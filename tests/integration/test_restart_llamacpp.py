"""A real llama.cpp started with other flags under load: bare and by ``qtop serve``; one that cannot start, one that is
worse, and kill -9 in between: the old one is back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import environment
from tests.fakes.load import streams
from tests.fakes.restarts import Step, await_health, forked, running_with

from qtop.act.hands import Hands
from qtop.act.journal import Journal
from qtop.act.knobs import knob
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.collect.discover.procfs import argv as argv_of
from qtop.demo.server import free_port
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

PATIENCE_S = 60.0
pytest.importorskip("xllamacpp")


class Llama:
    """A llama.cpp of the demo's model, started in the background with a log, or in a ``qtop serve``."""

    def __init__(self, model: Path, state: Path, before: Sequence[str] = ()) -> None:
        self.port, self.state = free_port(), state
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"--model": str(model), "--port": str(self.port), "--parallel": "4", "--ctx-size": "4096"}
        more = [word for pair in own.items() for word in pair]
        self.words = [sys.executable, "-P", "-m", "qtop.demo.serve", *more, "--threads", "1", "--log", "-"]
        self.log = state / "llama.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*before, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(state),
                start_new_session=True,
            )
        self.await_health()

    def await_health(self) -> None:
        await_health(self.port, self.log, patience=PATIENCE_S)

    def _each(self) -> list[tuple[int, list[str]]]:
        return running_with(str(self.port), "serve")

    def now(self) -> list[list[str]]:
        return [words for _, words in self._each()]

    def with_words(self, flag: str, value: str) -> list[str]:
        """The words it was started with, but for one."""
        words = list(self.words)
        words[words.index(flag) + 1] = value
        return words

    def qtop(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit status, JSON document ({} without one), standard error."""
        command = [sys.executable, "-m", "qtop", *words, "--json"]
        if words[0] != "undo":
            command += ["--url", self.url]
        done = subprocess.run(
            command, env=environment(self.state), capture_output=True, text=True, timeout=200, check=False
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def stop(self) -> None:
        self._child.kill()
        for pid, _ in self._each():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()


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


@pytest.mark.measured
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


@pytest.mark.measured
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
