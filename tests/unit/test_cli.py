"""The command line as a person meets it: help, exit codes, one line for a mistake, nothing but the answer on stdout."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qtop
from qtop.cli import build_parser, main
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE
from qtop.locales import wants_ascii
from qtop.record.writer import Header, RecordingWriter
from qtop.sample import (
    Absent,
    CpuTimes,
    HostSample,
    ProcessSample,
    Sample,
    ServerInfo,
    ServerProcs,
    ThreadSample,
    Why,
)
from qtop.verbs import terminal
from qtop.verbs.live import Signals, orderly_signals
from qtop.verbs.terminal import print_json

(_SUB,) = [one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction)]
VERBS = tuple(_SUB.choices)
PROMISED = {
    "snapshot",
    "doctor",
    "record",
    "replay",
    "probe",
    "check",
    "actions",
    "apply",
    "tune",
    "undo",
    "journal",
    "rules",
    "demo",
    "dump",
    "diff",
}
NEEDS_SERVER = ("probe", "check", "actions", "apply cpu-affinity", "tune", "doctor", "snapshot", "record -o x.qtop")
NOBODY_THERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings, no journal, no key, an empty folder to stand in."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("QTOP_API_KEY", "QTOP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr: a single line; and nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def recording(path: Path, wait_share: float, seconds: int = 30) -> str:
    """A recording of a server of which a thread waits for a CPU for this share of the time."""
    writer = RecordingWriter(path, Header.here(interval=1.0, source="synthetic", note="unit test"))
    for n in range(seconds + 1):
        thread = ThreadSample(10, "llama", int(n * 0.2e9), int(n * wait_share * 1e9), n, "0")
        process = ProcessSample(10, 1, 1, "llama", n * 20, 1 << 20, (thread,), allowed="0", voluntary=0, involuntary=n)
        cpu = CpuTimes(n * 100, 0, 0, 0, 0, 0, 0, 0)
        writer.sample(
            Sample(
                t=1_700_000_000.0 + n,
                server=ServerInfo(url="http://127.0.0.1:8080", engine="llamacpp", model="m", pid=10, started=1.0),
                procs=ServerProcs(at=float(n), processes=(process,)),
                host=HostSample(at=float(n), cpus={"all": cpu, "0": cpu}),
                engine=Absent(Why.UNSUPPORTED, "no metrics"),
            )
        )
        while n % 32 == 0 and writer.stats.samples <= n:
            pass
    writer.close()
    assert writer.stats.samples == seconds + 1
    return str(path)


@pytest.fixture
def waiting(tmp_path: Path) -> str:
    return recording(tmp_path / "waiting.qtop", 0.8)


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    return recording(tmp_path / "quiet.qtop", 0.0)


# Help and usage


def test_help_names_every_verb_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == EXIT_OK
    out, err = capsys.readouterr()
    assert err == "" and all(re.search(rf"^ +{verb}\b", out, re.MULTILINE) for verb in VERBS)
    assert all(re.search(rf"^ +{code} ", out, re.MULTILINE) for code in range(4))


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == EXIT_OK
    out, err = capsys.readouterr()
    assert f"qtop {verb}" in out and err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == EXIT_OK
    assert capsys.readouterr().out == f"qtop {qtop.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from qtop.cli import main; main(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"textual", "rich", "httpx", "msgspec", "psutil", "pynvml", "asyncio", "ssl", "subprocess"}


def test_no_verb_of_the_interface_is_missing() -> None:
    assert set(VERBS) >= PROMISED


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--nonsense"],
        ["doctor", "--seconds", "0"],
        ["doctor", "--seconds", "-3"],
        ["doctor", "--seconds", "nan"],
        ["doctor", "--seconds", "inf"],
        ["doctor", "--seconds", "soon"],
        ["doctor", "--sec", "3"],
        ["doctor", "--interval", "0.01"],
        ["--interval", "1e9", "doctor"],
        ["--pid", "0", "doctor"],
        ["--pid", "-1", "doctor"],
        ["--pid", "²", "doctor"],
        ["--pid", "9" * 5000, "doctor"],
        ["probe", "--max-tokens", "0"],
        ["probe", "--max-tokens", "1000001"],
        ["probe", "--requests", "100001"],
        ["probe", "--requests", "0"],
        ["probe", "--rate", "0"],
        ["probe", "--rate", "nan"],
        ["probe", "--concurrency", "0"],
        ["probe", "--concurrency", "1025"],
        ["probe", "--seconds", "-1"],
        ["probe", "--warmup", "x"],
        ["probe", "--goodput"],
        ["check", "--requests", "x"],
        ["replay"],
        ["replay", "x", "--speed", "0"],
        ["record"],
        ["apply"],
        ["doctor", "a\nb"],
    ],
)
def test_a_usage_error_is_one_line_and_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == EXIT_USAGE
    assert "--help" in one_line(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "--from", "missing.qtop"],
        ["snapshot", "--from", "missing.qtop"],
        ["doctor", "--from", "."],
        ["replay", "missing.qtop"],
        ["rules", "QT999"],
        ["doctor", "--url", ""],
        ["doctor", "--url", "http://user:secret@127.0.0.1:1"],
        ["doctor", "--url", "ftp://x"],
        ["doctor", "--url", "http://127.0.0.1:1", "--pid", "5"],
        ["doctor", "--url", NOBODY_THERE, "--api-key-file", "missing"],
        ["doctor", "--url", "https://127.0.0.1:1", "--ca", "missing.pem"],
        ["probe", "--url", NOBODY_THERE, "--goodput", "speed:3"],
        ["probe", "--url", NOBODY_THERE, "--goodput", "ttft:soon"],
        ["check", "--url", NOBODY_THERE, "--requests", "19"],
        ["check", "--url", NOBODY_THERE, "--baseline", "missing.json"],
    ],
)
def test_an_input_error_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == EXIT_USAGE
    assert "secret" not in one_line(capsys)


def test_a_file_that_is_no_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.qtop").write_bytes(os.urandom(4096))
    assert main(["doctor", "--from", str(tmp_path / "x.qtop")]) == EXIT_USAGE
    assert "x.qtop" in one_line(capsys)


def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QTOP_API_KEY", "schlüssel")
    assert main(["doctor", "--url", NOBODY_THERE]) == EXIT_USAGE
    assert "schl" not in one_line(capsys)


@pytest.mark.parametrize("words", NEEDS_SERVER)
def test_a_named_server_that_is_not_there_is_3(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--url", NOBODY_THERE]) == EXIT_UNREACHABLE
    assert NOBODY_THERE in one_line(capsys)
    assert not Path("x.qtop").exists()


def test_a_process_that_is_no_server_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert main(["doctor", "--pid", str(child.pid)]) == EXIT_UNREACHABLE
        assert str(child.pid) in one_line(capsys)
        child.communicate(b"\n")
    assert main(["doctor", "--pid", str(child.pid)]) == EXIT_UNREACHABLE
    assert "no process" in one_line(capsys)


@pytest.mark.parametrize("words", [[], ["replay", "x.qtop"]])
def test_the_dashboard_without_a_terminal_is_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording(tmp_path / "x.qtop", 0.0, 1)
    assert main(words) == EXIT_USAGE
    assert "terminal" in one_line(capsys)


# What recordings give


def test_doctor_on_a_recording_with_a_finding(waiting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", waiting, "--json"]) == EXIT_FINDING
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert set(document) == {"schema", "source", "observed_s", "verdict", "findings", "samples", "timeline"}
    assert (document["schema"], document["source"], document["observed_s"]) == (1, "recording", 30.0)
    assert document["verdict"]["rule"] == "QT201" and "WAITS FOR CPU" in document["verdict"]["headline"]
    first = next(one for one in document["findings"] if one["rule"] == "QT201")
    fields = {"rule", "state", "severity", "headline", "since_s", "evidence", "reason", "actions"}
    assert fields <= set(first)
    assert (first["state"], first["severity"]) == ("firing", "critical")
    assert all(set(line) == {"signal", "value", "unit", "threshold", "source"} for line in first["evidence"])
    assert {turn["state"] for turn in document["timeline"]} <= {"firing", "clear", "cannot_tell", "not_applicable"}
    assert all(set(turn) == {"t", "rule", "state"} for turn in document["timeline"])


def test_doctor_on_a_quiet_recording(quiet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", quiet, "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"]["rule"] is None
    assert [one["state"] for one in document["findings"] if one["rule"] == "QT201"] == ["clear"]


def test_doctor_as_text(waiting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", waiting]) == EXIT_FINDING
    out, err = capsys.readouterr()
    assert out.startswith("ENGINE WAITS FOR CPU") and "31 samples" in out and err == ""


def test_snapshot_of_a_recording(quiet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", "--from", quiet, "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["source"], document["t"]) == (1, "recording", 1_700_000_030.0)
    assert {"server", "engine", "sched", "host", "gpus", "wakeup", "own", "verdict", "findings"} <= set(document)
    assert document["engine"] == {"absent": "unsupported", "detail": "no metrics"}


def test_a_broken_settings_file_does_not_matter_to_a_recording(
    quiet: str, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = alone / "XDG_CONFIG_HOME" / "qtop" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("broken = ")
    assert main(["doctor", "--from", quiet, "--json"]) == EXIT_OK
    assert main(["doctor", "--url", NOBODY_THERE]) == EXIT_USAGE


def test_rules_and_their_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == EXIT_OK
    listed = re.findall(r"^  (QT\d{3})", capsys.readouterr().out, re.MULTILINE)
    assert "QT201" in listed and len(listed) > 50
    for rule in listed:
        assert main(["rules", rule.lower()]) == EXIT_OK
        assert rule in capsys.readouterr().out


def test_an_empty_journal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal"]) == EXIT_OK
    assert capsys.readouterr().out == "qtop has changed nothing\n"
    assert main(["journal", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "journal": []}


def test_a_change_that_there_is_not_and_knobs_that_there_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["journal", "nonesuch"], "no change is called nonesuch. `qtop journal` lists them."),
        (["tune", "--only", "fan-speed"], "no knob is called 'fan-speed'."),
        (["tune", "--only", "swappiness,fan-speed"], "no knob is called 'fan-speed'."),
    ):
        assert main(words) == EXIT_USAGE
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert told in err


def test_config_names_its_file(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == EXIT_OK
    assert str(alone / "XDG_CONFIG_HOME" / "qtop" / "config.toml") in capsys.readouterr().out


# Writing where nobody reads, and in every locale


def shell(line: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """The command through a shell with pipefail, as a person would type it."""
    environ = {**os.environ, "QTOP": f"{sys.executable} -m qtop", **more}
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, env=environ, check=False)


@pytest.mark.parametrize(
    "verb", ["--help", "rules QT201", "doctor --json --from F", "doctor --from F", "snapshot --from F"]
)
def test_a_reader_that_goes_away_is_no_error_to_read_about(verb: str, waiting: str) -> None:
    # The pipe is closed before the first byte is written.
    done = shell(f"{{ sleep 0.3; $QTOP {verb.replace('F', waiting)}; }} | true")
    assert done.returncode in (0, 141) and done.stderr == b""


def test_a_full_disk_under_the_output(waiting: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = shell(f"$QTOP doctor --from {waiting} > /dev/full")
    assert done.returncode == EXIT_FINDING
    assert done.stderr == b"qtop: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_descriptors(waiting: str, closed: str) -> None:
    done = shell(f"$QTOP doctor --json --from {waiting} {closed}")
    assert done.returncode == EXIT_FINDING
    assert done.stderr == b""


LOCALES = [
    {"LANG": "C"},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX"},
    {"LANG": "en_US.ISO-8859-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.fixture
def bare_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LC_") or name in ("LANG", "LANGUAGE", "PYTHONUTF8")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("locale", LOCALES, ids=[" ".join(f"{k}={v}" for k, v in one.items()) for one in LOCALES])
@pytest.mark.usefixtures("bare_locale")
def test_a_terminal_without_utf_8(waiting: str, locale: dict[str, str]) -> None:
    text = shell(f"$QTOP doctor --from {waiting}", **locale)
    assert text.returncode == EXIT_FINDING and text.stderr == b""
    assert text.stdout.isascii() and b"* QT201" in text.stdout and b"-> qtop apply" in text.stdout
    page = shell("$QTOP rules QT201", **locale)
    assert page.returncode == EXIT_OK and page.stdout.isascii()
    document = shell(f"$QTOP doctor --json --from {waiting}", **locale)
    assert document.stdout.isascii()
    plain = json.loads(shell(f"$QTOP doctor --json --from {waiting}", LANG="C.UTF-8").stdout)
    assert json.loads(document.stdout) == plain, "the document is the same in every locale"


@pytest.mark.parametrize("locale", [{}, {"LANG": "C.UTF-8"}, {"LANG": "de_DE.utf8", "LC_ALL": ""}])
@pytest.mark.usefixtures("bare_locale")
def test_a_terminal_with_utf_8(waiting: str, locale: dict[str, str]) -> None:
    assert "● QT201" in shell(f"$QTOP doctor --from {waiting}", **locale).stdout.decode()


def test_a_name_that_is_no_text_can_be_said(waiting: str) -> None:
    done = shell("$QTOP doctor --from $'\\xff\\xfe'")
    assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"LANG": ""}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": "en_US.utf8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "zh_CN.GBK"}, True),
    ],
)
def test_which_locales_are_not_utf_8(environ: dict[str, str], expected: bool) -> None:
    assert wants_ascii(environ) is expected


def test_output_that_cannot_be_encoded_is_replaced_by_what_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    terminal.prepare()
    assert terminal.is_plain()
    print("→ ● 量 é \udcff …", flush=True)
    assert raw.getvalue() == "-> * ? é ? ...\n".encode("latin-1")
    print_json({"text": "量"})
    assert raw.getvalue().endswith(b'{"text": "\\u91cf"}\n')


# Faults and signals


def test_a_fault_of_qtop_s_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_args: argparse.Namespace) -> int:
        raise ValueError("two\nlines")

    monkeypatch.setattr("qtop.cli._dispatch", fail)
    assert main(["rules"]) == EXIT_USAGE
    assert "internal error: ValueError: two lines" in one_line(capsys)
    monkeypatch.setenv("QTOP_DEBUG", "1")
    with pytest.raises(ValueError, match="two"):
        main(["rules"])


@pytest.mark.parametrize(
    ("raised", "code", "word"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt(signal.SIGTERM), 143, "SIGTERM"),
        (KeyboardInterrupt(signal.SIGHUP), 129, "SIGHUP"),
    ],
)
def test_an_interruption_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: KeyboardInterrupt,
    code: int,
    word: str,
) -> None:
    def stop(_args: argparse.Namespace) -> int:
        raise raised

    monkeypatch.setattr("qtop.cli._dispatch", stop)
    assert main(["rules"]) == code
    assert word in one_line(capsys)


@pytest.fixture
def handlers() -> Iterator[None]:
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_only_the_first_signal_interrupts() -> None:
    with orderly_signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # systemd sends both: the closing goes on
        signals.hold()
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("handlers")
def test_a_signal_during_the_closing_is_not_heard() -> None:
    signals = Signals()
    signals.hold()
    signals.leave(signal.SIGTERM, None)


@pytest.mark.usefixtures("handlers")
def test_nohup_stays_in_force() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with orderly_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
