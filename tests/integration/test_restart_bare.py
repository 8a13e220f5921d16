"""A bare process started anew: as it was in everything but the words, refused before it is stopped where it must be,
and left alone where somebody else has changed it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.crash import as_nobody, environment
from tests.fakes.restarts import LlamaLike

from qtop.act.hands import Hands
from qtop.act.journal import Journal
from qtop.act.knobs import knob
from qtop.act.launchers import ending
from qtop.act.transaction import Outcome, Policy, run
from qtop.act.undo import undo
from qtop.collect.discover.procfs import status, text
from qtop.errors import QtopError, Refused

MakeServer = Callable[..., LlamaLike]
NOBODY = 65534
KEY = "sk-not-for-eyes-0123456789"


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return Journal()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeServer]:
    started: list[LlamaLike] = []

    def one(*words: str, environ: dict[str, str] | None = None, log: bool = True) -> LlamaLike:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(LlamaLike(folder, *words, environ=environ, log=log))
        return started[-1]

    yield one
    for server in started:
        server.stop()


def apply(
    server: LlamaLike,
    flags: str,
    name: str = "server-flags",
    policy: Policy | None = None,
    say: Callable[[str, str], None] = lambda step, told: None,
) -> Outcome:
    flagged, frame = knob(name), server.frame()
    with Hands(interactive=False) as hands:
        return run([(flagged, lambda: flagged.plan(frame, flags))], None, say, policy, None, hands)


def runs_as_nobody(python: str) -> bool:
    try:
        command = [python, "-S", "-c", ""]
        done = subprocess.run(command, check=False, user=NOBODY, group=NOBODY, extra_groups=[])
        return done.returncode == 0
    except OSError:
        return False


def nature(server: LlamaLike) -> dict[str, object]:
    """What the one that runs was given."""
    (pid,) = server.running()
    proc = Path(f"/proc/{pid}")
    return {
        "environ": (proc / "environ").read_bytes(),
        "cwd": str((proc / "cwd").readlink()),
        "exe": str((proc / "exe").readlink()),
        "limits": (proc / "limits").read_text(),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "cpus": status(pid, "Cpus_allowed_list"),
        "umask": status(pid, "Umask"),
        "users": [status(pid, key) for key in ("Uid", "Gid", "Groups")],
        "ignored": status(pid, "SigIgn"),
        "blocked": status(pid, "SigBlk"),
        "oom": text(f"/proc/{pid}/oom_score_adj"),
        "cgroup": (proc / "cgroup").read_text(),
        "streams": [str((proc / f"fd/{number}").readlink()) for number in range(3)],
        "descriptors": sorted(os.listdir(proc / "fd"))[:3],
    }


def test_everything_but_the_words_is_as_it_was(make: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    was = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE), os.umask(0o027)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (321, was[0][1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, was[1][1]))
    try:
        server = make(environ={"PATH": os.environ["PATH"], "ODD": "a=b\nc", "EMPTY": "", "RAW": "\udcff"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was[0])
        resource.setrlimit(resource.RLIMIT_CORE, was[1])
        os.umask(was[2])
        signal.signal(signal.SIGHUP, hangup)
    os.setpriority(os.PRIO_PROCESS, server.pid, 19)
    os.sched_setaffinity(server.pid, {min(os.sched_getaffinity(0))})
    Path(f"/proc/{server.pid}/oom_score_adj").write_text("123")
    before = nature(server)
    assert "321" in str(before["limits"])
    monkeypatch.setenv("MINE", "not the server's")
    assert apply(server, "--parallel=8").kept
    assert server.now()[0][-1] == "8"
    assert nature(server) == before
    assert os.getsid(server.running()[0]) == server.running()[0]
    undo()
    assert server.now() == [server.words]
    assert nature(server) == before
    # One log, that of before, to which all three have written.
    assert server.log.read_text().count("listening on") == 3


def test_keys_are_used_and_never_shown(make: MakeServer, tmp_path: Path, journal: Journal) -> None:
    server = make("--api-key", KEY, environ={**os.environ, "HF_TOKEN": f"hf_{KEY}"})
    words = ("apply", "parallel=8", "--no-measure", "--pid", str(server.pid))
    shown: list[str] = []

    def qtop(*words: str, extra: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "qtop", *words],
            env=environment(tmp_path / "state", extra),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown.extend((done.stdout, done.stderr))

    for more in (["--dry-run"], ["--dry-run", "--json"], ["--yes", "--json"]):
        qtop(*words, *more, extra={"QTOP_API_KEY": KEY})
    assert server.now()[0][6] == "8"  # it gave a token, for which it wants the key
    for verb in ("journal", "undo", "journal"):
        qtop(verb, "--json")
    assert KEY not in "".join(shown)
    told = json.loads(shown[6])["journal"][0]["parts"][0]["record"]
    assert told["argv"]["new"][-4:] == ["--parallel", "8", "--api-key", "***"]
    assert "launch" not in told
    assert KEY in journal.path.read_text()  # without it the old server could not come back
    assert journal.path.stat().st_mode & 0o077 == 0
    assert server.now() == [server.words]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--parallel=many", r"does not take these words: .*invalid int value: 'many'"),
        ("--no-such-flag=1", "has no flag --no-such-flag"),
        ("--parallel=4", "already"),
        ("--parallel", "does not take these words"),
    ],
)
def test_what_its_parser_refuses_stops_nothing(flags: str, why: str, make: MakeServer, journal: Journal) -> None:
    server = make()
    with pytest.raises(Refused, match=why):
        apply(server, flags)
    assert server.running() == [server.pid]
    assert not journal.path.exists()


def test_one_that_ignores_signals_and_leaves_a_child_is_ended_whole(
    make: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "GRACE_S", 0.3)
    monkeypatch.setattr(ending, "AGAIN_S", 0.3)
    server = make("--stubborn", "--child")
    (child,) = [int(word) for word in text(f"/proc/{server.pid}/task/{server.pid}/children").split()]
    said: list[str] = []
    assert apply(server, "--parallel=8", say=lambda step, told: said.append(told)).kept
    assert "it does not end by itself: killed" in said
    assert server.running() != [server.pid]
    assert text(f"/proc/{child}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"])


def test_a_child_that_outlives_its_server_is_ended(make: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LEFT_S", 0.3)
    server = make("--child")
    (child,) = [int(word) for word in text(f"/proc/{server.pid}/task/{server.pid}/children").split()]
    assert apply(server, "--parallel=8").kept
    assert text(f"/proc/{child}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"])


def test_one_that_does_not_become_healthy_is_given_up_when_called_off(make: MakeServer) -> None:
    server = make()
    waiting, off = threading.Event(), threading.Event()

    def say(step: str, told: str) -> None:
        if "first token" in told:
            waiting.set()

    def call_off() -> None:
        waiting.wait(30)
        time.sleep(0.2)
        off.set()

    threading.Thread(target=call_off, daemon=True).start()
    with pytest.raises(Refused, match="cancelled"):
        apply(server, "--never-healthy", policy=Policy(cancelled=off.is_set), say=say)
    assert server.now() == [server.words]
    server.await_health()
    assert undo().text == "nothing to undo"


def test_somebody_elses_words_stay(make: MakeServer) -> None:
    server = make()
    apply(server, "--parallel=8")
    os.kill(server.running()[0], signal.SIGKILL)
    theirs = [*server.words, "--ctx-size", "512"]
    other = subprocess.Popen(theirs, cwd=server.folder, stdout=subprocess.DEVNULL)
    try:
        server.await_health()
        with pytest.raises(Refused, match="somebody else changed this since") as told:
            undo()
        for words in ("--parallel 4,", "--parallel 8,", "--ctx-size 512"):
            assert words in told.value.message
        assert server.now() == [theirs]
    finally:
        other.kill()
        other.wait()


def test_one_that_has_ended_since_is_not_started_again(make: MakeServer) -> None:
    server = make()
    apply(server, "--parallel=8")
    os.kill(server.running()[0], signal.SIGTERM)
    while server.running():
        time.sleep(0.01)
    assert "is gone" in undo().text
    assert server.running() == []


def test_started_again_by_hand_with_the_new_words_it_is_put_back(make: MakeServer) -> None:
    server = make()
    apply(server, "--parallel=8")
    (new,) = server.now()
    os.kill(server.running()[0], signal.SIGKILL)
    by_hand = subprocess.Popen(new, cwd=server.folder, stdout=subprocess.DEVNULL)
    try:
        server.await_health()
        assert undo().restored == 1
        assert server.now() == [server.words]
    finally:
        by_hand.kill()
        by_hand.wait()


def test_without_a_log_it_gets_one(make: MakeServer, tmp_path: Path) -> None:
    server = make(log=False)
    apply(server, "--parallel=8")
    (log,) = (tmp_path / "state/qtop/servers").iterdir()
    assert "listening on" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    with pytest.raises(Refused, match="error loading model: no such thing"):
        apply(server, "--fail-with='no such thing'")
    undo()


def test_slots_keep_their_context(make: MakeServer) -> None:
    server = make("--ctx-size", "4096")
    apply(server, "8", "parallel")
    assert server.now()[0][-4:] == ["--parallel", "8", "--ctx-size", "8192"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("parallel", "", "takes one value"),
        ("parallel", "8 --x", "takes one value"),
        ("max-num-seqs", "8", "is for vLLM"),
        ("threads", None, "takes a value"),
        ("server-flags", None, "takes the flags to set"),
        ("server-flags", "--api-key=x", "does not set it"),
    ],
)
def test_bad_input_is_one_line(name: str, value: str | None, why: str, make: MakeServer) -> None:
    with pytest.raises(QtopError, match=why) as told:
        knob(name).plan(make().frame(), value)
    assert "\n" not in str(told.value)


@pytest.mark.root
def test_another_users_server_is_started_as_that_user(make: MakeServer) -> None:
    """By root; an ordinary user is told what to do."""
    python = next((one for one in (sys.executable, "/usr/bin/python3") if runs_as_nobody(one)), "")
    if not python:
        pytest.skip("needs a Python that another user may run")
    ours = make()
    frame = ours.frame()
    told = as_nobody(lambda: knob("server-flags").plan(frame, "--parallel=8"))
    assert told.startswith("Refused: "), told
    assert "another user" in told
    assert "sudo qtop" in told
    ours.stop()

    with tempfile.TemporaryDirectory() as place:  # not below a folder that only root may enter
        folder = Path(place)
        os.chown(folder, NOBODY, NOBODY)
        theirs = LlamaLike(folder, user=NOBODY, python=python)
        try:
            before = nature(theirs)
            assert before["users"][0] == ["65534"] * 4  # type: ignore[index]
            assert apply(theirs, "--parallel=8").kept
            assert nature(theirs) == before
            undo()
            assert nature(theirs) == before
        finally:
            theirs.stop()
