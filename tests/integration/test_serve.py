"""``qtop serve``: runs a server, starts it again, takes other words; what becomes of the server when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import environment
from tests.fakes.restarts import forked
from tests.fakes.spawned import ROOT

from qtop.act.hands import Hands
from qtop.act.knobs import knob
from qtop.act.launchers import find
from qtop.act.serve import control, supervisor
from qtop.act.transaction import Outcome, run
from qtop.act.undo import undo
from qtop.collect.discover.procfs import argv as argv_of
from qtop.collect.discover.procfs import pids
from qtop.demo.server import answers, free_port
from qtop.errors import Refused
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

PATIENCE_S = 40.0


class Served:
    """A ``qtop serve`` with a stand-in of llama-server in it; ``script``: started by its own name, as ``vllm`` is."""

    def __init__(self, folder: Path, *more: str, name: str = "one", port: int = 0, script: bool = False) -> None:
        self.program = folder / "llama-server"
        source = (ROOT / "tests/fakes/llama_like.py").read_text()
        self.program.write_text(f"#!{sys.executable} -S\n{source}")
        self.program.chmod(0o755)
        self.port = port or free_port()
        self.name, self.folder = name, folder
        self.log = folder / f"{name}.log"
        interpreter = [] if script else [sys.executable, "-S"]
        self.words = [*interpreter, str(self.program), "--port", str(self.port), "--parallel", "4", *more]
        self.said = folder / f"{name}.said"
        command = [sys.executable, "-m", "qtop", "serve", "--name", name, "--log", str(self.log), "--", *self.words]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                command,
                env=environment(Path(os.environ["XDG_STATE_HOME"])),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def until(self, true: Callable[[], object]) -> Any:
        """Wait for what has to come."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := true()):
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)
        return found

    def text(self) -> str:
        return self.said.read_text()

    def state(self) -> control.State:
        return control.ask(str(control.folder() / f"{self.name}.sock"), {"do": "state"})

    def up(self, other_than: int = 0) -> int:
        """The server's process once it is healthy."""

        def found() -> int:
            with suppress(Refused):
                state = self.state()
                pid = state["child"][0] if state["child"] else 0
                return int(pid) if state["healthy"] and pid != other_than and answers(self.port, 2.0) else 0
            return 0

        return int(self.until(found))

    def frame(self) -> Frame:
        pid = self.up()
        server = ServerInfo(url=f"http://127.0.0.1:{self.port}", engine="llamacpp", pid=pid, argv=argv_of(pid))
        return Frame(0.0, 0.0, server=server)

    def apply(self, flags: str) -> Outcome:
        flagged, frame = knob("server-flags"), self.frame()
        with Hands(interactive=False) as hands:
            return run([(flagged, lambda: flagged.plan(frame, flags))], None, lambda *_: None, None, None, hands)

    def end(self) -> None:
        for pid in (self.process.pid, *_children(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def one(*more: str, **kinds: Any) -> Served:
        started.append(Served(tmp_path, *more, **kinds))
        return started[-1]

    yield one
    for served in started:
        served.end()


def test_it_runs_a_server_and_starts_it_again(make: Callable[..., Served]) -> None:
    served = make()
    first = served.up()
    assert os.getsid(first) == first
    assert "listening on" in served.log.read_text()
    served.until(lambda: "listening on" in served.text())  # what it writes is shown as well
    os.kill(first, signal.SIGKILL)
    second = served.up(other_than=first)
    assert list(argv_of(second)) == served.words  # type: ignore[arg-type]
    assert "it was ended by SIGKILL" in served.text()
    assert served.state()["restarts"] == 1
    os.kill(served.process.pid, signal.SIGINT)
    assert served.process.wait(20) == 0
    assert not Path(f"/proc/{second}").exists()
    assert list(control.folder().iterdir()) == []


def test_one_that_never_starts_is_given_up_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.02)
    said: list[str] = []
    words = [sys.executable, "-S", str(ROOT / "tests/fakes/llama_like.py"), "--fail-with", "out of luck"]
    one = supervisor.Supervisor(words, "fails", tmp_path / "log", said.append, lambda data: None)
    assert one.run() == 1
    ends = [text for text in said if text.startswith("it ended with status 1: error loading model: out of luck")]
    assert len(ends) == supervisor.TRIES
    assert "5 times in a row: given up" in ends[-1]
    assert [text.rpartition("(")[2] for text in ends[:-1]] == [f"{count} of 5)" for count in range(1, 5)]
    assert list(control.folder().iterdir()) == []


def test_other_words_and_back(make: Callable[..., Served]) -> None:
    served = make()
    first = served.up()
    launcher, launch = find(first)
    assert launcher.kind == "serve"
    assert launcher.warnings(launch) == ()
    assert served.apply("--parallel=8").kept
    second = served.up(other_than=first)
    assert served.state()["argv"] == [*served.words[:-1], "8"]
    # With these it is started again from now on.
    os.kill(second, signal.SIGKILL)
    third = served.up(other_than=second)
    assert served.state()["argv"][-1] == "8"
    assert undo().restored == 1
    served.up(other_than=third)
    assert served.state()["argv"] == served.words
    assert served.process.poll() is None


def test_a_script_is_changed_and_put_back_too(make: Callable[..., Served]) -> None:
    """Its process shows the interpreter before it, which is not in the command that ``qtop serve`` was given."""
    served = make(script=True)
    first = served.up()
    process = argv_of(first)
    assert list(process) != served.words  # type: ignore[arg-type]
    assert served.apply("--parallel=8").kept
    second = served.up(other_than=first)
    assert served.state()["argv"] == [*process[:-1], "8"]  # type: ignore[index]
    assert undo().restored == 1
    served.up(other_than=second)
    assert served.state()["argv"] == list(process)  # type: ignore[arg-type]


def test_words_that_cannot_start_are_not_tried_again(make: Callable[..., Served]) -> None:
    served = make()
    first = served.up()
    with pytest.raises(Refused, match="error loading model: no luck"):
        served.apply("--fail-with='no luck'")
    served.up(other_than=first)
    assert served.state()["argv"] == served.words
    assert served.text().count("not tried again") == 1
    assert undo().text == "nothing to undo"


def test_killed_it_leaves_the_server_which_is_bare_from_then_on(make: Callable[..., Served]) -> None:
    served = make()
    first = served.up()
    assert served.apply("--parallel=8").kept
    second = served.up(other_than=first)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    assert answers(served.port, 2.0)
    assert find(second)[0].kind == "bare"
    # Nobody begins another beside it, and undo does without the one who is gone.
    again = make(port=served.port)
    assert again.process.wait(20) == 2
    assert f"runs still (pid {second})" in again.text()
    assert undo().restored == 1
    served.until(lambda: answers(served.port, 2.0))
    (old,) = [pid for pid in pids() if argv_of(pid) == tuple(served.words)]
    os.kill(old, signal.SIGKILL)


def test_killed_qtop_between_end_and_start_is_undone(make: Callable[..., Served]) -> None:
    """The server is ended and nobody asks for another: `qtop serve` waits, and undo has the old one started."""
    served = make()
    served.up()
    status, steps = forked(lambda: served.apply("--parallel=8"))
    assert status == 0
    undo()
    saved = [step for step in steps if step[0] == "fsync"]
    downs = 0
    for at in saved[3:-1:2]:
        assert forked(lambda: served.apply("--parallel=8"), at, "after")[0] == -signal.SIGKILL, at
        downs += served.state()["child"] is None
        undo()
        served.up()
        assert served.state()["argv"] == served.words, at
    assert downs > 0


def test_the_same_name_twice_and_no_command(make: Callable[..., Served], tmp_path: Path) -> None:
    served = make()
    served.up()
    again = make(port=free_port())
    assert again.process.wait(20) == 2
    assert "runs already" in again.text()
    assert served.process.poll() is None
    for words, why in (([], "no command"), (["--name", "../x", "--", "true"], "not a name")):
        done = subprocess.run(
            [sys.executable, "-m", "qtop", "serve", *words],
            env=environment(tmp_path / "other"),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, why in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_what_others_may_see_and_ask(make: Callable[..., Served]) -> None:
    served = make("--api-key", "sk-secret")
    served.up()
    folder = control.folder()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())
    assert served.log.stat().st_mode & 0o077 == 0
    path = str(folder / "one.sock")
    for question in ({"do": "explode"}, {"do": "start", "argv": []}, {"do": "start", "argv": ["x"]}, {}):
        with pytest.raises(Refused):
            control.ask(path, question)
    import socket

    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)
        link.sendall(b"\xff{[\n")
        assert json.loads(link.recv(1000))["refused"]
    served.up()
