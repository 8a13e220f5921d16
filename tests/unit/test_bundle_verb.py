"""``qtop bundle``: what is inside is told and asked about before it is written; where the server's log is found."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.samples import record

from qtop.act import server_log
from qtop.act.launchers.capture import LINES, TAIL, tail
from qtop.act.launchers.systemctl import Manager
from qtop.cli import main
from qtop.collect.discover import started
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError, Refused
from qtop.record.redact import Redactor
from qtop.record.redact_log import redact_log, without_texts
from qtop.report.gathered import gather
from qtop.sample import Absent, ServerInfo, Why

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
Captured = pytest.CaptureFixture[str]


class Typed(io.StringIO):
    """A terminal at which this is typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "h200.qtop"
    copy.write_bytes((RECORDINGS / "disturbed" / "h200-cpu-starved.qtop").read_bytes())
    return copy


@pytest.mark.parametrize(
    ("typed", "written"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_it_tells_and_asks_before_it_writes(
    typed: str, written: bool, path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = path.with_name("h200.qtop.tar.gz")
    told: list[bool] = []
    terminal = Typed(typed)
    real = terminal.readline

    def answer() -> str:
        told.append(out.exists())
        return real()

    monkeypatch.setattr(terminal, "readline", answer)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["bundle", str(path)]) == (EXIT_OK if written else EXIT_USAGE)
    assert told == [False] and out.exists() is written
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert lines[0] == f"{out} will hold:"
    assert "the recorded server does not run here now (--log LOG names it)" in said and "write it? [y/N]" in said
    for name in ("h200.qtop", "report.html", "report.md", "doctor.json", "doctor.txt", "environment.json"):
        assert any(line.split()[:1] == [name] and line.split()[2] in ("KiB", "B", "MiB") for line in lines), name
    assert ("nothing was written" in said) is not written


def test_without_a_terminal_it_is_one_line(path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["bundle", str(path)]) == EXIT_USAGE
    said = capsys.readouterr()
    assert said.err == "qtop: there is no terminal to ask on. Pass --yes to write it.\n" and said.out == ""
    assert not path.with_name("h200.qtop.tar.gz").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a recording. `qtop record -o FILE --seconds 60` makes one of the server now."),
        (["FILE", "--log", "NOWHERE", "--yes"], "there is no file"),
        (["FILE", "--log", "FOLDER", "--yes"], "is not a plain file"),
        (["FILE", "--log", "FILE", "--no-log"], "not allowed with argument --log"),
        (["FILE", "-o", "FILE", "--force", "--yes"], "is the recording itself"),
        (["FILE", "-o", "FILE", "--yes"], "exists: choose another name or pass --force"),
        (["NOWHERE", "--yes"], "cannot read"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str, path: Path, tmp_path: Path, capsys: Captured) -> None:
    places = {"FILE": path, "NOWHERE": tmp_path / "none", "FOLDER": tmp_path}
    before = path.read_bytes()
    assert main(["bundle", *(str(places.get(word, word)) for word in words)]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1 and path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["h200.qtop"]


def test_what_is_inside(path: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "some.log", tmp_path / "b.tgz"
    log.write_text(
        "INFO 11-26 14:00:00 [a.py:1] ready\nINFO 11-26 14:00:01 [a.py:1] prompt: 'zQ9x'\n", encoding="utf-8"
    )
    assert main(["bundle", str(path), "-o", str(out), "--log", str(log), "--yes"]) == EXIT_OK
    with tarfile.open(out) as tar:
        held = {one.name: (tar.extractfile(one) or io.BytesIO()).read() for one in tar.getmembers()}
    assert held["b/server.log"].decode().splitlines() == [
        "INFO 11-26 14:00:00 [a.py:1] ready",
        "INFO 11-26 14:00:01 [a.py:1] prompt: ***",
    ]
    assert held["b/h200.qtop"] == path.read_bytes()
    assert json.loads(held["b/doctor.json"])["verdict"] and b"<!DOCTYPE html>" in held["b/report.html"]
    assert json.loads(held["b/environment.json"])["holds_prompts"] is False
    report = gather(path)
    assert report.whole.verdict.headline.split("%")[0].split()[0] in held["b/report.md"].decode()


# Where the log is


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that writes to a file."""
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; print('listening on 10.1.2.3', flush=True); time.sleep(600)"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    deadline = time.monotonic() + 20
    while not log.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield child, log
    child.kill()
    child.wait(10)


def test_the_file_that_the_recorded_server_writes_to(writer: tuple[subprocess.Popen[bytes], Path]) -> None:
    child, log = writer
    begun = started(child.pid)
    assert isinstance(begun, float)
    found = server_log.log_of_server(ServerInfo(pid=child.pid, started=begun))
    assert found.lines == ("listening on 10.1.2.3",) and found.where == str(log)
    with pytest.raises(Refused, match="does not run here now"):
        server_log.log_of_server(ServerInfo(pid=child.pid, started=begun - 100.0))  # the number is another's now
    child.kill()
    child.wait(10)
    with pytest.raises(Refused, match="does not run here now"):
        server_log.log_of_server(ServerInfo(pid=child.pid, started=begun))


def test_why_there_is_no_log() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=-3
    )
    try:
        with pytest.raises(Refused, match="goes to another program"):
            server_log.find(child.pid)
    finally:
        child.communicate(b"\n", 20)
    for server in (Absent(Why.LOST, "gone"), ServerInfo(pid=Absent(Why.DENIED)), ServerInfo(pid=1)):
        with pytest.raises(Refused):
            server_log.log_of_server(server)


def test_a_terminal_has_no_log_and_what_to_do_is_said() -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
    try:
        with pytest.raises(Refused, match="writes to a terminal") as refused:
            server_log.find(child.pid)
        assert "tmux capture-pane" in refused.value.hint and "--log FILE" in refused.value.hint
    finally:
        child.communicate(b"\n", 20)
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_server_of_another_user_is_told_from_one_that_writes_to_a_program() -> None:
    """Seen by who may not look: with no rights, which root's child has once it is nobody."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ours, theirs = os.pipe()
    try:
        if (other := os.fork()) == 0:
            try:
                os.setuid(65_534)
                server_log.find(child.pid)
            except (Refused, OSError) as error:
                os.write(theirs, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(other, 0)
        os.close(theirs)
        said = os.read(ours, 4096).decode()
    finally:
        child.communicate(b"\n", 20)
        os.close(ours)
    assert "it belongs to another user. Run qtop as root" in said and "--log FILE" in said


def test_what_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = started(os.getpid()), threading.Event()
    assert isinstance(begun, float)

    def hangs(pid: int) -> server_log.ServerLog:
        go_on.wait(60)
        return server_log.ServerLog((), "")

    monkeypatch.setattr(server_log, "find", hangs)
    with pytest.raises(Refused, match="could not be read within 0 s"):
        server_log.log_of_server(ServerInfo(pid=os.getpid(), started=begun), patience=0.1)
    go_on.set()


def test_a_journal_that_may_not_be_read_says_who_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "in_container", lambda pid: False)
    monkeypatch.setattr(server_log, "output_file", lambda pid: None)
    monkeypatch.setattr(server_log, "on_terminal", lambda pid: False)
    monkeypatch.setattr(
        server_log, "text", lambda path: "0::/user.slice/user-7.slice/user@7.service/app.slice/a.service"
    )
    asked: list[tuple[bool, str, int | None]] = []

    def read(self: Manager, unit: str, since: float, uid: int | None, patience: float) -> list[str]:
        asked.append((self.user, unit, uid))
        return []

    monkeypatch.setattr(Manager, "read_journal", read)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match="nothing can be read from the journal of a") as refused:
        server_log.find(os.getpid())
    assert "systemd-journal" in refused.value.hint and asked == [(True, "a.service", 7)]


def test_the_tail_of_a_log_has_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"{number} {'x' * 2000}\n" for number in range(LINES)), encoding="utf-8")
    lines = tail(log)
    assert log.stat().st_size > TAIL and lines[-1].startswith(f"{LINES - 1} x")
    assert all(len(line.split()[1]) == 2000 for line in lines) and sum(map(len, lines)) < TAIL
    log.write_text("".join(f"{number}\n" for number in range(LINES * 3)), encoding="utf-8")
    assert tail(log) == [str(number) for number in range(LINES * 2, LINES * 3)]
    assert tail(tmp_path / "none") == []
    with pytest.raises(QtopError, match="cannot read"):
        tail(tmp_path / "none", strict=True)


def test_no_more_of_another_log_is_taken_than_of_a_file() -> None:
    line = "x" * 9_999
    kept = server_log.filled(server_log.ServerLog((line,) * 100, "some")).lines
    assert len(kept) > 0 and sum(len(one) + 1 for one in kept) <= TAIL < sum(len(one) + 1 for one in (*kept, line))
    with pytest.raises(Refused, match="nothing can be read from some"):
        server_log.filled(server_log.ServerLog((), "some"))


# Texts in logs


@pytest.mark.parametrize(
    "line",
    [
        "slot print_timing: id 0 | task 0 | prompt eval time =   20.63 ms /    13 tokens (    1.59 ms per token)",
        "INFO 11-26 [loggers.py:1] Engine 000: Avg prompt throughput: 1.3 tokens/s, Running: 1 reqs",
        "slot update_slots: id 0 | task 0 | new prompt, n_ctx_slot = 4096, n_keep = 0, task.n_tokens = 13",
        "SamplingParams(n=1, stop=[], stop_token_ids=[], bad_words=[], json=None, temperature=0.0), prompt: None",
        '{"level":"INFO","input_tokens":7,"output":null,"text":"","tools":[]}',
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 79.65 GiB total capacity)",
        "nvidia-smi driver 570.86.10, libcublas 12.8.4, at 14:00:01.123, 00000000:1B:00.0, version 0.25.1",
    ],
)
def test_what_is_no_text_stays(line: str) -> None:
    assert without_texts(line) == (line, 0, False)
    assert redact_log([line], Redactor(["gpubox17"], users=["alicia"]))[0] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "it's",
        'say "no"',
        "a\\b",
        "a\nb",
        "[{(",
        ")}]",
        "'",
        '"',
        "\\",
        "', params: x",
        "量子",
        'it\'s "q"',
        "`",
        "a = b",
    ],
)
def test_a_text_as_python_quotes_it_is_masked_exactly(text: str) -> None:
    line = f"INFO 11-26 14:00:00 [logger.py:41] Received request a: prompt: {text!r}, params: SamplingParams(n=1)."
    done, count, going_on = without_texts(line)
    assert done.endswith("prompt: ***, params: SamplingParams(n=1).") and count == 1 and not going_on
    nested = f"INFO 11-26 [x.py:1] body={{}} messages={[{'content': text}]!r} done"
    assert without_texts(nested)[0] == "INFO 11-26 [x.py:1] body={} messages=*** done"
    held = json.dumps({"prompt": text, "n": 1})
    assert without_texts(held)[0] == '{"prompt": ***, "n": 1}'


def test_a_text_over_several_lines_goes_to_the_next_line_with_a_clock() -> None:
    lines = ["tail zQ9x", "INFO 11-26 14:00:00 [a] prompt: 'zQ9x", "zQ9x", "zQ9x', x", "INFO 11-26 14:00:01 [a] ready"]
    done, taken = redact_log(lines, Redactor())
    assert done == ["***", "INFO 11-26 14:00:00 [a] prompt: ***", "***", "INFO 11-26 14:00:01 [a] ready"]
    assert taken.texts == 3
    coloured = "\x1b[1;36m(APIServer pid=7)\x1b[0;0m INFO 11-26 14:00:00 [a] ready"
    assert redact_log(["zQ9x", coloured], Redactor())[0] == ["***", "(APIServer pid=7) INFO 11-26 14:00:00 [a] ready"]
    plain, _ = redact_log(["no clock anywhere", "still none"], Redactor())
    assert plain == ["no clock anywhere", "still none"]


def test_a_container_is_one_by_each_of_its_names() -> None:
    number = "3f2a" * 16
    redactor = Redactor(container=(number, number[:12], "alices-gpt"))
    lines = [f"in {number}", f"on {number[:12]}:", "/alices-gpt is up", "alices-gpt-2, my.alices-gpt"]
    done, taken = redact_log(lines, redactor)
    pseudonym = done[0].removeprefix("in ")
    assert re.fullmatch("CONTAINER-[0-9a-f]{4}", pseudonym) and taken.containers == 3
    assert done[1:] == [f"on {pseudonym}:", f"/{pseudonym} is up", lines[3]]
    other = Redactor(container=("4f2a" * 16, "vllm"))
    assert redact_log(["vllm serve"], other)[0] == ["vllm serve"]  # so many are called that it names none


def test_a_long_line_is_read_in_time() -> None:
    def cost(count: int) -> float:
        line = "prompt: " * count + "'" * count + "[" * count + "text=" * count
        begin = time.process_time()
        redact_log([line, line], Redactor(["gpubox17"], users=["alicia"]))
        return time.process_time() - begin

    cost(500)
    assert cost(16_000) < 32 * 6 * max(cost(500), 0.001)  # quadratic searching would be a thousand times as slow


def test_an_empty_recording_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    path = record(tmp_path / "a.qtop", 0)
    assert main(["bundle", str(path), "--yes", "--no-log"]) == EXIT_USAGE
    assert "holds no sample" in capsys.readouterr().err
