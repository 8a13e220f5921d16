"""One corpus of secrets, fed in everywhere: none of them is in the bytes of what is written, shown or packed."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import msgspec
import pytest
from tests.fakes import secrets
from tests.fakes.samples import HEADER

from qtop.cli import main
from qtop.errors import EXIT_FINDING, EXIT_OK
from qtop.record.blockfile import BlockFile
from qtop.record.reader import Recording
from qtop.record.redact import Redactor
from qtop.record.redact_log import redact_log
from qtop.record.writer import RecordingWriter
from qtop.report.gathered import gather
from qtop.sample import Sample, ServerInfo
from qtop.sample.codec import encode_sample

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a writer makes of the corpus: blocks of columns, and rows behind them."""
    folder = tmp_path_factory.mktemp("secrets")
    path = folder / "a.qtop"
    writer = RecordingWriter(path, secrets.header(), redactor=Redactor(secrets.HOSTS, users=secrets.USERS))
    waiting = [*secrets.samples(70), *secrets.events()]
    for number, one in enumerate(waiting):
        (writer.event if number >= len(waiting) - len(secrets.events()) else writer.sample)(one)  # type: ignore[arg-type]
        while writer.stats.samples + writer.stats.events < number - 30:  # the queue is bounded
            assert writer.error is None
    writer.close(30)
    assert writer.error is None and writer.stats.dropped == 0 and writer.stats.samples >= 70
    return path


@pytest.fixture(autouse=True)
def this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host whose names the corpus has."""
    monkeypatch.setattr("socket.gethostname", lambda: secrets.HOSTS[0])
    monkeypatch.setattr("socket.getfqdn", lambda: secrets.HOSTS[1])
    for module in ("redact", "writer", "names"):
        monkeypatch.setattr(f"qtop.record.{module}.local_users", lambda: secrets.USERS)
    monkeypatch.setattr("qtop.verbs.bundle.local_users", lambda: secrets.USERS)


def found(data: bytes | str) -> list[str]:
    """The secrets in it, as they are and as JSON and HTML would show them."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    forms = {one: (one, json.dumps(one)[1:-1], one.replace("'", "&#x27;")) for one in secrets.SECRETS}
    lower = text.lower()
    return [one for one, shown in forms.items() if any(form.lower() in lower for form in shown)]


def whole(path: Path) -> str:
    """All of a recording: its bytes, those unpacked, and every record of it."""
    data = path.read_bytes()
    held = Recording(path)
    records = [msgspec.json.encode(one).decode() for one in (held.header, *held.records())]
    assert len(records) > 70 and held.skipped == 0
    return "\n".join([data.decode("latin-1"), gzip.decompress(data).decode("utf-8", "replace"), *records])


def test_the_corpus_holds_them_all(tmp_path: Path) -> None:
    assert set(found(secrets.fed(tmp_path))) == set(secrets.SECRETS)


def test_none_in_a_recording(recording: Path) -> None:
    text = whole(recording)
    assert found(text) == []
    for kept in (
        "--max",
        "vllm",
        "serve",
        "HOST",
        "USER",
        "IP-",
        "***",
        "permission denied",
        "--data-parallel-address",
    ):
        assert kept in text or kept == "--max", kept


def test_prompts_are_kept_where_they_are_asked_for_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    kept = msgspec.structs.replace(secrets.header(), prompts=True)
    writer = RecordingWriter(path, kept, redactor=Redactor(secrets.HOSTS, True, secrets.USERS))
    for sample in secrets.samples(1)[:2]:
        writer.sample(sample)
    for event in secrets.events()[:20]:
        writer.event(event)
    writer.close(30)
    assert writer.error is None and writer.stats.dropped == 0
    text = "\n".join(msgspec.json.encode(one).decode() for one in Recording(path).records())
    assert set(found(text)) == {*secrets.TEXTS, "zQ9x", "ZQ9X"}
    samples = "\n".join(msgspec.json.encode(one).decode() for one in Recording(path).samples())
    assert found(samples) == []


def test_none_in_reports_dumps_and_diagnosis(recording: Path, tmp_path: Path, capsys: Captured) -> None:
    page, issue = tmp_path / "a.html", tmp_path / "a.md"
    assert main(["report", str(recording), "-o", str(page)]) == EXIT_OK
    assert main(["report", str(recording), "-o", str(issue), "--markdown"]) == EXIT_OK
    written = [page.read_text(encoding="utf-8"), issue.read_text(encoding="utf-8"), capsys.readouterr().err]
    for words in (["dump", "--fields", "all", "--json"], ["dump", "--prometheus", "--fields", "all"], ["dump"]):
        assert main([words[0], str(recording), *words[1:]]) == EXIT_OK
        written.append(capsys.readouterr().out)
    for words in (["doctor", "--json"], ["doctor"], ["snapshot"], ["guide", "--json"]):
        assert main([*words, "--from", str(recording)]) in (EXIT_OK, EXIT_FINDING)
        written.append(capsys.readouterr().out)
    assert main(["diff", str(recording), str(recording)]) == EXIT_OK
    written.append(capsys.readouterr().out)
    svg, cast = tmp_path / "a.svg", tmp_path / "a.cast"
    assert main(["replay", str(recording), "--svg", str(svg), "--cast", str(cast), "--speed", "1000"]) == EXIT_OK
    written += [svg.read_text(encoding="utf-8"), cast.read_text(encoding="utf-8")]
    assert all(len(text) > 100 for text in written[:2]) and [found(text) for text in written] == [[]] * len(written)


def test_none_in_a_bundle(recording: Path, tmp_path: Path, capsys: Captured) -> None:
    secrets.fed(tmp_path)
    out = tmp_path / "a.tar.gz"
    assert main(["bundle", str(recording), "-o", str(out), "--log", str(tmp_path / "server.log"), "--yes"]) == EXIT_OK
    said = capsys.readouterr().err
    assert found(said.replace(str(tmp_path), "")) == []
    names = {}
    with tarfile.open(out) as tar:
        for one in tar.getmembers():
            inner = tar.extractfile(one)
            assert inner is not None
            names[one.name.rpartition("/")[2]] = inner.read()
    assert set(names) == {
        "a.qtop", "report.html", "report.md", "doctor.json", "doctor.txt", "environment.json", "server.log",
    }  # fmt: skip
    for name, data in names.items():
        assert found(gzip.decompress(data) if name == "a.qtop" else data) == [], name
    log = names["server.log"].decode()
    assert "Received request chatcmpl-1: prompt: ***, params: SamplingParams(n=1, stop=***" in log
    told = ("finish_reason: stop", "POST /v1/chat/completions?***", "lora_request: None.", "input_type=dict", "WARNING")
    for kept in told:
        assert kept in log, kept


def test_what_was_taken_out_of_a_log_is_counted() -> None:
    lines, taken = redact_log(secrets.log_lines(), Redactor(secrets.HOSTS, users=secrets.USERS))
    assert found("\n".join(lines)) == []
    assert taken.texts >= 16 and taken.secrets >= 15 and taken.addresses >= 6 and taken.hosts >= 3 and taken.users >= 4
    assert str(taken).startswith(f"{taken.texts} texts of requests or answers, ")


def test_a_recording_that_names_more_than_it_would_now_is_known(recording: Path, tmp_path: Path) -> None:
    """Such as one of an older qtop, which left addresses in."""
    path = tmp_path / "old.qtop"
    file = BlockFile(path, HEADER)
    file.append(encode_sample(Sample(t=1.0, server=ServerInfo(url=f"http://{secrets.ADDRESSES[0]}:8000"))))
    file.close()
    assert gather(path).unredacted and not gather(recording).unredacted
