"""Changes of several parts, and values in files: applied in order, put back in reverse, made to last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.apply_driver import Said

from qtop.act import knobs
from qtop.act.change import Plan, Record, Work
from qtop.act.journal import Journal
from qtop.act.knobs import lasting
from qtop.act.knobs.kernel_vm import NumaBalancing, Swappiness
from qtop.act.knobs.lasting import LASTING, plan_lasting
from qtop.act.knobs.sysfile import SysfileKnob, number_in
from qtop.act.transaction import Keep, Policy, run
from qtop.act.undo import undo, undo_all
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame

FRAME = Frame(0.0, 0.0)


class InFolder(SysfileKnob):
    """A number in files of a folder."""

    sysctl = "vm.value"

    def __init__(self, folder: Path, name: str, many: int = 1) -> None:
        self.id = name  # type: ignore[misc]
        self.title = name  # type: ignore[misc]
        self._paths = [folder / f"{name}{number}" for number in range(many)]
        for path in self._paths:
            path.write_text("60\n")

    def paths(self, frame: Frame) -> list[Path]:
        return self._paths

    def known(self, path: Path) -> bool:
        return path in self._paths

    def valid(self, value: str, path: Path) -> bool:
        return number_in(value, 0, 200)

    def values(self, path: Path) -> str:
        return "0 to 200"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        return "10"

    @property
    def texts(self) -> list[str]:
        return [path.read_text().strip() for path in self._paths]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "state").mkdir()
    return Journal(tmp_path / "state/journal.jsonl")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[InFolder, InFolder]:
    made = InFolder(tmp_path, "first", 3), InFolder(tmp_path, "second")
    for one in made:
        monkeypatch.setitem(knobs.KNOBS, one.id, one)
    return made


def quiet(step: str, text: str) -> None:
    pass


def both(two: tuple[InFolder, InFolder], journal: Journal, verdict: str, value: str | None = None) -> bool:
    asks = [(one, lambda one=one: one.plan(FRAME, value)) for one in two]
    return run(asks, Said(verdict), quiet, Policy(), journal).kept


def test_parts_are_kept_together_and_undone_together(two: tuple[InFolder, InFolder], journal: Journal) -> None:
    assert both(two, journal, "improved")
    assert [one.texts for one in two] == [["10"] * 3, ["10"]]
    (change,) = journal.in_force()
    assert (change.knob, change.new) == ("first + second", "10, 10")
    assert undo(journal).restored == 4
    assert [one.texts for one in two] == [["60"] * 3, ["60"]]
    assert journal.in_force() == []


def test_parts_that_make_it_worse_go_back_in_reverse(
    two: tuple[InFolder, InFolder], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for one in two:
        real = one.restore

        def restore(record: Record, work: Work, one: InFolder = one, real: Any = real) -> None:
            order.append(one.id)
            real(record, work)

        monkeypatch.setattr(one, "restore", restore)
    assert not both(two, journal, "worse")
    assert order == ["second", "first"]
    assert [one.texts for one in two] == [["60"] * 3, ["60"]]


def test_a_second_part_that_fails_takes_the_first_back(
    two: tuple[InFolder, InFolder], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(record: Record, work: Work) -> None:
        raise OSError(22, "Invalid argument", "second0")

    monkeypatch.setattr(two[1], "apply", fails)
    with pytest.raises(OSError, match="Invalid argument"):
        both(two, journal, "improved")
    assert [one.texts for one in two] == [["60"] * 3, ["60"]]
    assert journal.in_force() == []


def test_somebody_elses_value_in_one_part_keeps_undo_from_all(two: tuple[InFolder, InFolder], journal: Journal) -> None:
    both(two, journal, "improved")
    two[0].paths(FRAME)[1].write_text("77\n")
    with pytest.raises(Refused, match=r"first1: before qtop 60, qtop wrote 10, now 77"):
        undo(journal)
    assert [one.texts for one in two] == [["10", "77", "10"], ["10"]]


def test_all_puts_back_what_can_be_and_names_what_cannot(two: tuple[InFolder, InFolder], journal: Journal) -> None:
    for one in two:
        run([(one, lambda one=one: one.plan(FRAME, "5"))], None, quiet, Policy(), journal)  # type: ignore[misc]
    two[0].paths(FRAME)[0].write_text("77\n")
    with pytest.raises(Refused, match=r"1 put back, 1 not: first: somebody else changed this since"):
        undo_all(journal)
    assert two[1].texts == ["60"]
    two[0].paths(FRAME)[0].write_text("5")
    assert [one.knob for one in undo_all(journal)] == ["first"]
    assert undo_all(journal) == []


def test_no_effect_is_asked_about_and_worse_is_not(two: tuple[InFolder, InFolder], journal: Journal) -> None:
    asked: list[str] = []

    def ask(judgement: object) -> bool:
        asked.append(str(judgement))
        return True

    def change(verdict: str, keep: Keep) -> bool:
        plan = [(two[1], lambda: two[1].plan(FRAME, "5"))]
        kept = run(plan, Said(verdict), quiet, Policy(keep, ask), journal).kept
        if kept:
            undo(journal)
        return kept

    assert change("no effect", Keep.IMPROVED)
    assert len(asked) == 1
    assert not change("worse", Keep.IMPROVED)
    assert change("worse", Keep.ALWAYS)
    assert change("no effect", Keep.UNLESS_WORSE)
    assert len(asked) == 1


def test_values_that_the_kernel_would_not_take_are_refused(tmp_path: Path) -> None:
    one = InFolder(tmp_path, "first")
    for value in ("", "201", "-1", "1e2", "ten", "007", "9" * 400, "10\n20"):
        with pytest.raises(QtopError, match="first cannot be"):
            one.plan(FRAME, value)
    with pytest.raises(Refused, match="60 already"):
        one.plan(FRAME, "60")


@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/sys/vm/../vm/swappiness", "/proc/sys/kernel/core_pattern"])
@pytest.mark.parametrize("knob", [Swappiness(), NumaBalancing()], ids=lambda one: one.id)
def test_the_helper_writes_no_file_but_the_knobs_own(knob: SysfileKnob, path: str) -> None:
    for files in (
        [{"path": path, "old": "0", "new": "1"}],
        [{"path": str(knob.paths(FRAME)[0]), "old": "0", "new": "|sh"}],
    ):
        with pytest.raises(Refused):
            knob.check({"boot": "x", "new": "1", "files": files})


def made(path: Path, text: str = "vm.swappiness = 10\n") -> Plan:
    plan = Plan("swappiness", "10", "", (), {})
    return plan_lasting(plan, (str(path), text))


def test_a_file_that_makes_it_last_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "90-qtop-swappiness.conf"
    for before in (None, "vm.swappiness = 33\n"):
        if before is not None:
            path.write_text(before)
        record = made(path).record
        LASTING.apply(record, Work())
        assert (path.read_text(), LASTING.read(record).new) == ("vm.swappiness = 10\n", 1)
        assert path.stat().st_mode & 0o777 == 0o644
        LASTING.restore(record, Work())
        assert (path.read_text() if path.exists() else None) == before
        assert LASTING.read(record).old == 1
    path.write_text("vm.swappiness = 10\n")
    with pytest.raises(Refused, match="says so already"):
        made(path)
    path.write_text("vm.swappiness = 1\n")
    LASTING.restore(record, Work())
    assert path.read_text() == "vm.swappiness = 1\n"
    assert len(LASTING.read(record).drifted) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/sysctl.d/10-network-security.conf", "vm.swappiness = 1\n"),
        ("/etc/sysctl.d/../90-qtop-x.conf", "vm.swappiness = 1\n"),
        ("/etc/sysctl.d/90-qtop-x.conf", "kernel.core_pattern = |/bin/sh\n"),
        ("/etc/sysctl.d/90-qtop-x.conf", "vm.swappiness = 1\nnet.ipv4.ip_forward = 1\n"),
        ("/etc/tmpfiles.d/90-qtop-x.conf", "w /sys/../etc/passwd - - - - x\nf /etc/cron.d/x\n"),
    ],
)
def test_the_helper_makes_no_file_but_those(path: str, text: str) -> None:
    with pytest.raises(Refused):
        LASTING.check({"new": path, "path": path, "text": text, "old": None})
    assert lasting.PATHS.fullmatch("/etc/sysctl.d/90-qtop-swappiness.conf")
