"""The journal: what it keeps when it is cut, damaged, full or somebody else's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.crash import as_nobody, environment

from qtop.act.journal import Change, Journal, Part, state_dir
from qtop.errors import QtopError, Refused

RECORD = {"new": "0-3", "processes": [{"pid": 1, "threads": {"1": [5, "0"]}}]}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def only(journal: Journal) -> Change:
    (change,) = journal.changes()
    return change


def test_a_change_goes_from_open_to_kept_to_closed(journal: Journal) -> None:
    assert journal.changes() == []
    txn = journal.begin([Part("cpu-affinity", RECORD)])
    assert (only(journal).state, only(journal).parts[0].record) == ("open", RECORD)
    journal.append(txn, "applied")
    journal.append(txn, "measured", verdict="better", text="TTFT 2 → 1 ms")
    assert only(journal).state == "open"
    journal.append(txn, "kept")
    assert only(journal).state == "kept"
    assert only(journal).notes["measured"]["text"] == "TTFT 2 → 1 ms"
    journal.append(txn, "undone")
    assert only(journal).state == "closed"
    assert only(journal).steps == ["begin", "applied", "measured", "kept", "undone"]
    assert journal.in_force() == []


def test_the_latest_change_is_first_in_force(journal: Journal) -> None:
    names = [journal.begin([Part("cpu-affinity", RECORD)]) for _ in range(3)]
    journal.append(names[1], "reverted")
    assert [change.txn for change in journal.in_force()] == [names[2], names[0]]


def test_an_extended_record_replaces_the_first(journal: Journal) -> None:
    txn = journal.begin([Part("cpu-affinity", RECORD)])
    longer = RECORD | {"more": 1}
    journal.append(txn, "extended", record=longer)
    assert only(journal).parts[0].record == longer
    assert only(journal).state == "open"


def test_cut_anywhere_it_reads_what_is_whole_and_takes_more(journal: Journal) -> None:
    first = journal.begin([Part("cpu-affinity", RECORD)])
    begun = journal.path.stat().st_size
    journal.append(first, "kept")
    whole = journal.path.read_bytes()
    for size in range(len(whole)):
        journal.path.write_bytes(whole[:size])
        # The line's last byte but one ends the object; its newline is only what comes between lines.
        assert [change.txn for change in journal.changes()] == ([first] if size >= begun - 1 else [])
        second = journal.begin([Part("cpu-affinity", RECORD)])
        journal.append(second, "kept")
        assert (journal.in_force()[0].txn, journal.in_force()[0].state) == (second, "kept")
        assert len(journal.changes()) == (2 if size >= begun - 1 else 1)


GARBAGE = [
    b"\xff\xfe\x00",
    b"5",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b'{"txn": [], "step": "begin"}',
    b'{"txn": {}, "step": "kept"}',
    b'{"txn": "a", "step": ["kept"]}',
    b'{"txn": "a", "step": "begin"}',
    b'{"txn": "a", "step": "begin", "knob": "cpu-affinity", "t": 1}',
    b'{"txn": "a", "step": "begin", "knob": "cpu-affinity", "t": "x", "record": {}}',
    b'{"txn": "a", "step": "begin", "knob": 7, "t": 1, "record": {}}',
    b'{"txn": "a", "step": "begin", "knob": "cpu-affinity", "t": 1, "record": []}',
    b'{"txn": "nobody", "step": "undone"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_line_that_is_none_of_ours_is_passed_over(garbage: bytes, journal: Journal) -> None:
    txn = journal.begin([Part("cpu-affinity", RECORD)])
    with journal.path.open("ab") as file:
        file.write(garbage + b"\n" + garbage)
    journal.append(txn, "kept")
    assert (only(journal).txn, only(journal).state) == (txn, "kept")


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_make_reading_fail(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.jsonl")
    journal.path.write_bytes(b"\n".join(lines))
    assert journal.changes() == []
    journal.begin([Part("cpu-affinity", RECORD)])
    assert only(journal).parts[0].record == RECORD


def test_what_the_first_schema_wrote_is_read(journal: Journal) -> None:
    lines = [
        {"schema": 1, "txn": "a", "step": "begin", "t": 1.0, "knob": "cpu-affinity", "record": RECORD},
        {"schema": 1, "txn": "a", "step": "extended", "t": 2.0, "record": RECORD | {"more": 1}},
        {"schema": 1, "txn": "a", "step": "kept", "t": 3.0},
    ]
    journal.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (change,) = journal.in_force()
    assert (change.knob, change.new, change.state) == ("cpu-affinity", "0-3", "kept")
    assert change.parts == [Part("cpu-affinity", RECORD | {"more": 1})]


def test_what_a_newer_one_wrote_stops_every_change_and_can_be_listed(journal: Journal) -> None:
    journal.begin([Part("cpu-affinity", RECORD)])
    with journal.path.open("a") as file:
        file.write(json.dumps({"schema": 99, "txn": "b", "step": "begin", "t": 1.0, "what": "?"}) + "\n")
    assert len(journal.changes()) == 1
    with pytest.raises(Refused, match=r"a newer qtop wrote the journal .* \(schema 99; this one knows 2\)"):
        journal.in_force()


def test_one_at_a_time_holds_the_lock(journal: Journal) -> None:
    again = Journal(journal.path)
    with journal.lock(), pytest.raises(Refused, match="another qtop is changing something"), again.lock():
        pass
    with Journal(journal.path).lock():
        pass


def test_a_dead_process_holds_no_lock(journal: Journal) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from qtop.act.journal import Journal\n"
        "with Journal(Path(sys.argv[1])).lock():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(journal.path)]
    with subprocess.Popen(
        command,
        env=environment(journal.path.parent),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Refused), journal.lock():
            pass
        child.kill()
        child.wait()
        with journal.lock():
            pass


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    full = tmp_path / "journal.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(QtopError, match=r"cannot write the journal .*: No space left on device") as told:
        Journal(full).begin([Part("cpu-affinity", RECORD)])
    assert "\n" not in str(told.value)


def test_a_folder_that_cannot_be_made_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    with pytest.raises(QtopError, match="cannot write the journal: /dev/null/qtop: Not a directory") as told:
        Journal()
    assert "XDG_STATE_HOME" in told.value.hint


def test_without_a_home_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(QtopError, match=r"there is no home folder\. Set XDG_STATE_HOME"):
        state_dir()


@pytest.mark.root
def test_somebody_elses_journal_is_one_clear_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        journal = Journal(Path(folder) / "journal.jsonl")
        journal.begin([Part("cpu-affinity", RECORD)])
        assert "cannot read the journal" in as_nobody(journal.changes)
        assert "cannot write the journal" in as_nobody(lambda: journal.append("x", "kept"))
        assert "cannot lock the journal" in as_nobody(journal.lock().__enter__)


def test_it_is_its_owners_alone(journal: Journal) -> None:
    with journal.lock():
        journal.begin([Part("cpu-affinity", RECORD)])
    assert {path.stat().st_mode & 0o777 for path in journal.path.parent.iterdir()} == {0o600}


def test_every_line_is_json_with_a_schema(journal: Journal) -> None:
    journal.append(journal.begin([Part("cpu-affinity", RECORD)]), "kept")
    lines = journal.path.read_text().splitlines()
    assert [json.loads(line)["schema"] for line in lines] == [2, 2]
