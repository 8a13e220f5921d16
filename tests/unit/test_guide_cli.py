"""``qtop guide`` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qtop.cli import main
from qtop.errors import EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE

RECORDING = str(Path(__file__).parent.parent / "data/recordings/h100-steady16.qtop")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("QTOP_API_KEY", raising=False)


def test_the_table_has_a_line_a_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--from", RECORDING]) == EXIT_OK
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("The guide, checked on NVIDIA H100 80GB HBM3, vLLM 0.25.1")
    (line,) = [line for line in out.splitlines() if " G6 " in line]
    assert "does not hold" in line and "util 45–99 %" in line
    assert "\n2.2 Three ways to spend the VRAM\n" in out


@pytest.mark.parametrize("word", ["G8", "g8"])
def test_one_claim_in_full(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", word, "--from", RECORDING]) == EXIT_OK
    out, _ = capsys.readouterr()
    for part in (
        "# G8 ",
        "The guide says.",
        "Here: does not hold.",
        "Worked out.",
        "What is true.",
        "What to do.",
        "To try it.",
    ):
        assert part in out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--json", "--from", RECORDING]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"schema", "source", "observed_s", "t", "checked_on", "counts", "claims"}
    assert (document["schema"], document["source"], len(document["claims"])) == (1, "recording", 40)
    assert sum(document["counts"].values()) == 40
    fields = {
        "id", "section", "title", "says", "state", "measured", "note", "worked", "truth", "known", "action", "rules",
        "experiment",
    }  # fmt: skip
    assert all(set(one) == fields for one in document["claims"])
    assert {"rule": "QT201", "state": "clear"} in document["claims"][6]["rules"]


def test_one_claim_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "G31b", "--json", "--from", RECORDING]) == EXIT_OK
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["claims"]] == ["G31b"]


@pytest.mark.parametrize("word", ["G36", "QT201", "", "G\n1"])
def test_a_claim_that_is_not_there_is_one_line_and_2(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", word, "--from", RECORDING]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "qtop guide" in err


def test_a_recording_that_is_not_there_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--from", "missing.qtop"]) == EXIT_USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_named_server_that_is_not_there_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--url", "127.0.0.1:1", "--seconds", "1"]) == EXIT_UNREACHABLE
    assert capsys.readouterr().out == ""
