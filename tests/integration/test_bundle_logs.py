"""``qtop bundle`` and the logs of servers that run as servers do: in Docker, as units of systemd's, under ``qtop
serve``, in tmux. The end of each is found, and nothing of the corpus of secrets is left in it."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.fakes import secrets
from tests.fakes.ordinary_user import UID
from tests.fakes.real_docker import Docker, docker_here
from tests.fakes.real_systemd import LIKE, SystemdLab, systemd_here
from tests.fakes.spawned import ROOT

from qtop.demo.server import answers, free_port

pytestmark = [pytest.mark.integration, pytest.mark.root]

PATIENCE_S = 60.0
BEGIN = "INFO 11-26 13:59:59 [a.py:1] the first line"
COLOURED = "\x1b[1;36m(APIServer pid=7)\x1b[0;0m INFO 11-26 14:00:05 [a.py:1] in colour"
PEOPLE = "".join(f"{name}:x:{2000 + at}:100::/:/bin/sh\n" for at, name in enumerate(secrets.USERS))
Run = Callable[..., subprocess.CompletedProcess[str]]


def here(environ: Mapping[str, str]) -> Run:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qtop", *words]
        return subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=180, check=False)

    return run


def environ(state: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QTOP_", "XDG_", "TMUX"))}
    return {**kept, "XDG_STATE_HOME": str(state), "PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}", **more}


def bundled(record: Run, bundle: Run, url: str, folder: Path) -> tuple[str, list[str] | None]:
    """What the bundle of a recording of this server says, and the log in it."""
    path, out = folder / "a.qtop", folder / "a.tar.gz"
    done = record("record", "-o", str(path), "--seconds", "2", "--url", url, "--force")
    assert done.returncode == 0, done.stderr
    done = bundle("bundle", str(path), "-o", str(out), "--yes", "--force")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    with tarfile.open(out) as tar:
        logs = [one for one in tar.getmembers() if one.name.endswith("/server.log")]
        if not logs:
            return done.stderr, None
        return done.stderr, (tar.extractfile(logs[0]) or io.BytesIO()).read().decode().splitlines()


def corpus(path: Path, *more: str) -> Path:
    """A log with everything in it that must not leave."""
    path.write_text("\n".join([BEGIN, *secrets.log_lines(), *more, COLOURED]) + "\n", encoding="utf-8")
    path.chmod(0o644)
    return path


def check_corpus(lines: list[str] | None, *more: str) -> str:
    """Nothing of the corpus is left, and all else is; the log as text."""
    assert lines is not None
    text = "\n".join(lines)
    assert [one for one in (*secrets.SECRETS, *more) if one.lower() in text.lower()] == []
    for kept in (BEGIN, "Received request chatcmpl-1: prompt: ***", "HOST", "USER", "IP-", "listening on http://127"):
        assert kept in text, kept
    assert "(APIServer pid=7) INFO 11-26 14:00:05 [a.py:1] in colour" in lines
    return text


def flat(said: str) -> str:
    """On one line, as it is before the terminal's width breaks it."""
    return " ".join(said.split()) + " "


def left_out(said: str) -> str:
    """The one line that says why there is no log."""
    (line,) = [one for one in said.splitlines() if one.startswith("It is without the server's log: ")]
    return line.removeprefix("It is without the server's log: ")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# Docker


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with docker_here() as running:
        yield running


def test_a_real_server_in_docker(docker: Docker, llama_model: Path, tmp_path: Path) -> None:
    server = docker.llamacpp(llama_model, context=512, name="someones-project-llama-1")
    try:
        run = here(environ(tmp_path, **docker.environ() | {"XDG_STATE_HOME": str(tmp_path)}))
        said, lines = bundled(run, run, server.url, tmp_path)
        assert " of Docker's log of someones-project-llama-1; taken out: " in flat(said)
        whole = docker.call("logs", server.container.name)
        assert lines is not None and len(lines) == min(300, len((whole.stdout + whole.stderr).splitlines()))
        assert any("listening on http://127.0.0.1" in line for line in lines)
    finally:
        server.container.remove()


def test_nothing_leaves_with_a_log_of_dockers(docker: Docker, tmp_path: Path) -> None:
    """Its host name, people, name and id are known to its container alone."""
    name, share = "alices-gpt", docker.folder / "share"
    share.mkdir(exist_ok=True)
    said_first = corpus(share / "said", f"INFO 11-26 14:00:04 [a.py:1] in {name}, /{name}/x and {name}-2")
    (share / "passwd").write_text(PEOPLE)
    own = ("--hostname", secrets.HOSTS[1], "--volume", f"{share / 'passwd'}:/etc/passwd:ro")
    server = docker.light(*own, name=name, more=["--say", str(said_first)])
    try:
        run = here(environ(tmp_path, DOCKER_HOST=docker.environ()["DOCKER_HOST"]))
        said, lines = bundled(run, run, server.url, tmp_path)
        text = check_corpus(lines, f" {name},")
        pseudonym = text.split(" in CONTAINER-")[1][:4]
        assert f"in CONTAINER-{pseudonym}, /CONTAINER-{pseudonym}/x and {name}-2" in text
        assert "names of the container" in flat(said)
    finally:
        server.container.remove()


def test_a_file_in_a_container_is_not_the_hosts_of_that_name(docker: Docker, tmp_path: Path) -> None:
    elsewhere = Path(f"/tmp/qtop-test-{os.getpid()}.log")
    words = " ".join(docker.light_command(port := free_port()))
    inside = [
        "sh",
        "-c",
        f"echo 'INFO 11-26 14:00:00 [a] of the container' > {elsewhere}; exec {words} >>{elsewhere} 2>&1",
    ]
    server = docker.run("filed", inside, shared=[docker.folder / "share"])
    try:
        until(lambda: answers(port), "no answer")
        elsewhere.write_text("INFO 11-26 14:00:00 [a] of the host\n")
        run = here(environ(tmp_path, DOCKER_HOST=docker.environ()["DOCKER_HOST"]))
        _, lines = bundled(run, run, f"http://127.0.0.1:{port}", tmp_path)
        assert lines == ["INFO 11-26 14:00:00 [a] of the container", f"listening on http://127.0.0.1:{port}"]
    finally:
        elsewhere.unlink(missing_ok=True)
        server.remove()


def test_a_docker_that_gives_no_log(docker: Docker, tmp_path: Path) -> None:
    """Each in one line, and in time: it keeps none, there is none, it hangs, this user may not ask it."""
    server = docker.light("--log-driver", "none")
    try:
        record = here(environ(tmp_path, DOCKER_HOST=docker.environ()["DOCKER_HOST"]))
        said, lines = bundled(record, record, server.url, tmp_path)
        assert lines is None and "does not support reading" in left_out(said)
        nowhere = here(environ(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none"))
        said, lines = bundled(record, nowhere, server.url, tmp_path)
        assert lines is None and left_out(said).startswith(f"Docker does not answer on {tmp_path}/none")
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(place := str(tmp_path / "deaf"))
            deaf.listen(8)
            begun = time.monotonic()
            said, lines = bundled(record, here(environ(tmp_path, DOCKER_HOST=f"unix://{place}")), server.url, tmp_path)
            assert lines is None and "Docker did not answer within 10 s" in left_out(said)
            assert time.monotonic() - begun < 60
    finally:
        server.container.remove()


# systemd


@pytest.fixture(scope="module")
def lab() -> Iterator[SystemdLab]:
    with systemd_here() as (running, folder):
        running("hostname", secrets.HOSTS[0])  # of its own UTS namespace
        with (folder / "passwd").open("a") as file:
            file.write(PEOPLE)
        yield running


def within(lab: SystemdLab, state: Path) -> Run:
    return lambda *words: lab.call(sys.executable, "-m", "qtop", *words, environ=environ(state))


def test_a_real_server_in_a_unit(lab: SystemdLab, llama_model: Path, tmp_path: Path) -> None:
    server = lab.llamacpp(llama_model)
    try:
        run = within(lab, tmp_path)
        said, lines = bundled(run, run, server.url, tmp_path)
        assert " of the journal of llama.service; taken out: " in flat(said)
        assert lines is not None and any("listening on http://127.0.0.1" in line for line in lines)
    finally:
        lab("systemctl", "stop", server.unit)


@pytest.mark.parametrize("how", ["unit", "systemd-run", "user unit", "systemd-run --user"])
def test_nothing_leaves_with_the_journal(how: str, lab: SystemdLab, tmp_path: Path) -> None:
    said_first, port = corpus(lab.folder / "said"), free_port()
    words = [*lab.light_command(port), "--say", str(said_first)]
    as_user = lab.user_manager() if "user" in how else ()
    manager = [*as_user, "systemctl", *(["--user"] if as_user else [])]
    name = f"corpus-{how.replace(' ', '-')}.service"
    if "run" in how:
        run_it = [*as_user, "systemd-run", *(["--user"] if as_user else []), f"--unit={name}", "--quiet"]
        lab(*run_it, *words)
    else:
        folder = Path("/run/user", str(UID), "systemd/user") if as_user else lab.etc
        text = f"[Service]\nExecStart={' '.join(words)}\n"
        lab("sh", "-c", f"mkdir -p {folder} && printf %s '{text}' > {folder / name}")
        lab(*manager, "daemon-reload")
        lab(*manager, "start", name)
    try:
        until(lambda: answers(port), f"{name} does not answer")
        run = within(lab, tmp_path)
        said, lines = bundled(run, run, f"http://127.0.0.1:{port}", tmp_path)
        assert f" of the journal of {name}; taken out: " in flat(said)
        check_corpus(lines)
    finally:
        lab(*manager, "stop", name)


def test_a_journal_that_says_nothing_in_time(lab: SystemdLab, tmp_path: Path) -> None:
    server = lab.light()
    try:
        fakes = tmp_path / "bin"
        fakes.mkdir()
        (fakes / "journalctl").write_text("#!/bin/sh\nexec sleep 600\n")
        (fakes / "journalctl").chmod(0o755)
        slow = environ(tmp_path, PATH=f"{fakes}:{os.environ['PATH']}")
        begun = time.monotonic()
        said, lines = bundled(
            within(lab, tmp_path),
            lambda *words: lab.call(sys.executable, "-m", "qtop", *words, environ=slow),
            server.url,
            tmp_path,
        )
        assert lines is None and left_out(said).startswith("systemd did not answer journalctl")
        assert time.monotonic() - begun < 60
    finally:
        lab("systemctl", "stop", server.unit)


# qtop serve, tmux


def test_the_log_of_qtop_serve(tmp_path: Path) -> None:
    """Also of a server that is not the very process which it started."""
    program = tmp_path / "llama-server"
    shutil.copy(LIKE, program)
    port, log = free_port(), tmp_path / "served.log"
    said_first = corpus(tmp_path / "said")
    words = f"{sys.executable} -S {program} --port {port} --say {said_first}"
    state = environ(tmp_path / "state")
    command = [
        sys.executable,
        "-m",
        "qtop",
        "serve",
        "--name",
        "one",
        "--log",
        str(log),
        "--",
        "sh",
        "-c",
        f"{words}; :",
    ]
    with (tmp_path / "out").open("wb") as out:
        child = subprocess.Popen(command, env=state, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until(lambda: answers(port), (tmp_path / "out").read_text())
        run = here(state)
        said, lines = bundled(run, run, f"http://127.0.0.1:{port}", tmp_path)
        assert f" of the log of `qtop serve` ({log}); taken out: " in flat(said)
        assert lines is not None and not any("zQ9x" in line for line in lines) and BEGIN in lines
    finally:
        child.terminate()
        child.wait(30)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
def test_a_real_server_in_tmux(llama_model: Path, tmp_path: Path) -> None:
    """A terminal keeps no log: that is said in one line, and what to do; what is saved from it so is taken."""
    port, session = free_port(), ["tmux", "-L", f"qtop-test-{os.getpid()}", "-f", "/dev/null"]
    server = [sys.executable, "-P", "-m", "qtop.demo.serve", "--model", str(llama_model), "--port", str(port)]
    server += ["--threads", "1", "--parallel", "1", "--ctx-size", "512", "--cache-ram", "0", "--log", "-"]
    state = environ(tmp_path)
    subprocess.run([*session, "new-session", "-d", "-x", "100", "-y", "30", *server], env=state, check=True)
    try:
        until(lambda: answers(port), "no answer in tmux")
        run = here(state)
        said, lines = bundled(run, run, f"http://127.0.0.1:{port}", tmp_path)
        told = left_out(said)
        assert lines is None and told.startswith("the server writes to a terminal. Save what stands there (in tmux: ")
        assert "capture-pane -pJ -S - -t PANE > FILE" in told and told.endswith("pass --log FILE.")
        held = subprocess.run([*session, "capture-pane", "-pJ", "-S", "-"], capture_output=True, check=True).stdout
        (tmp_path / "pane").write_bytes(held)
        done = run(
            "bundle", str(tmp_path / "a.qtop"), "-o", str(tmp_path / "b.tgz"), "--yes", "--log", f"{tmp_path}/pane"
        )
        assert done.returncode == 0 and "lines of" in done.stderr
        assert b"listening on http://127.0.0.1" in held
    finally:
        subprocess.run([*session, "kill-server"], check=False)
