"""To and fro: a difference is believed only where it comes and goes with the change; killed anywhere, undo restores."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.test_act_parts import FRAME, InFolder, journal, quiet, two

from qtop.act.change import Plan
from qtop.act.journal import Journal
from qtop.act.knobs import files
from qtop.act.proof import Judgement
from qtop.act.transaction import Keep, Outcome, Policy, run
from qtop.act.undo import undo
from qtop.errors import Refused

__all__ = ["journal", "two"]

Two = tuple[InFolder, InFolder]


class Watching:
    """A meter that notes which value it measured, and says the next of its verdicts; "improved!" is a clear one."""

    rounds = 3

    def __init__(self, knob: InFolder, *verdicts: str, fails_at: int = 0) -> None:
        self._knob, self._verdicts, self._fails_at = knob, list(verdicts), fails_at
        self.seen: list[str] = []

    def before(self) -> str:
        value = self._knob.texts[0]
        self.seen.append(value)
        if len(self.seen) == self._fails_at:
            raise Refused("the test prompt failed")
        return value

    def after(self, settle_s: float) -> str:
        return self.before()

    def warm_up(self) -> None:
        self.seen.append("warm")

    def judge(self, befores: list[str], afters: list[str]) -> Judgement:
        assert set(befores) == {"60"}
        assert set(afters) == {"10"}
        verdict = self._verdicts.pop(0) if len(self._verdicts) > 1 else self._verdicts[0]
        return Judgement(verdict.rstrip("!"), verdict, clear=verdict.endswith("!"))


def change(
    two: Two, journal: Journal, meter: Watching, keep: Keep = Keep.IMPROVED, edit: Callable[[Plan], Plan] = lambda p: p
) -> Outcome:
    asks = [(one, lambda one=one: edit(one.plan(FRAME, None))) for one in two]
    return run(asks, meter, quiet, Policy(keep), journal)


def values(two: Two) -> set[str]:
    return {value.strip() for one in two for value in one.texts}


@pytest.mark.parametrize(
    ("verdicts", "seen", "kept"),
    [
        (("improved",), "60 10 60 10 60 10", True),
        (("worse",), "60 10 60 10 60 10", False),
        (("no effect",), "60 10", False),
        (("cannot tell",), "60 10", False),
        (("improved", "no effect"), "60 10 60", False),
        (("worse", "no effect"), "60 10 60", False),
        (("improved", "improved", "no effect"), "60 10 60 10", False),
        (("improved", "improved", "improved", "worse"), "60 10 60 10 60", False),
        (("improved", "improved", "improved!"), "60 10 60 10", True),
        (("improved!",), "60 10", True),
    ],
)
def test_a_difference_has_to_come_and_go(
    two: Two, journal: Journal, verdicts: tuple[str, ...], seen: str, kept: bool
) -> None:
    meter = Watching(two[0], *verdicts)
    if verdicts[-1] == "worse" and len(verdicts) > 1:
        seen += " 10"
    assert change(two, journal, meter).kept is kept
    assert meter.seen == seen.split()
    assert values(two) == ({"10"} if kept else {"60"})
    assert [one.state for one in journal.changes()] == ["kept" if kept else "closed"]
    if kept:
        undo(journal)
    assert values(two) == {"60"}
    assert journal.in_force() == []


def test_what_was_put_back_to_look_is_made_again_where_it_is_kept(two: Two, journal: Journal) -> None:
    meter = Watching(two[0], "improved", "no effect")
    assert change(two, journal, meter, Keep.UNLESS_WORSE).kept
    assert meter.seen == ["60", "10", "60"]
    assert values(two) == {"10"}
    assert undo(journal).restored == 4


@pytest.mark.parametrize(
    "edit",
    [
        lambda plan: replace(plan, repeats=False),
        lambda plan: replace(plan, keep="always"),
    ],
    ids=["repeats", "keep"],
)
def test_what_cannot_be_repeated_is_measured_once(two: Two, journal: Journal, edit: Callable[[Plan], Plan]) -> None:
    meter = Watching(two[0], "improved")
    assert change(two, journal, meter, edit=edit).kept
    assert meter.seen == ["60", "10"]


@pytest.mark.parametrize("at", [2, 3, 4, 5, 6])
def test_a_measurement_that_fails_anywhere_puts_everything_back(two: Two, journal: Journal, at: int) -> None:
    with pytest.raises(Refused, match="the test prompt failed"):
        change(two, journal, Watching(two[0], "improved", fails_at=at))
    assert values(two) == {"60"}
    assert journal.in_force() == []


def test_a_server_that_was_started_anew_is_warmed_up_and_measured_once(two: Two, journal: Journal) -> None:
    meter = Watching(two[0], "worse")
    assert not change(two, journal, meter, edit=lambda plan: replace(plan, restart=True)).kept
    assert meter.seen == ["60", "warm", "10"]


def test_a_value_that_somebody_sets_meanwhile_is_theirs(two: Two, journal: Journal) -> None:
    class Meddles(Watching):
        def after(self, settle_s: float) -> str:
            if len(self.seen) == 2:  # while the old values are back for a moment
                two[1].paths(FRAME)[0].write_text("77")
            return super().after(settle_s)

    with pytest.raises(Refused, match="did not take"):
        change(two, journal, Meddles(two[0], "improved"))
    assert two[0].texts == ["60"] * 3
    assert two[1].texts == ["77"]


def test_killed_at_any_write_undo_brings_the_old_values_back(two: Two, journal: Journal) -> None:
    """A forked process ends, as by kill -9, before and after each append to the journal and each write of a value."""
    for at in range(1, 200):
        child = os.fork()
        if child == 0:
            _die_at(at, two, journal)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            break
        assert status == 9, at
        undo(journal)
        assert values(two) == {"60"}, at
        assert journal.in_force() == [], at
    writes = 4 * 5  # four files: made, taken back, made, taken back, made
    assert at > 2 * writes
    assert values(two) == {"10"}


def _die_at(at: int, two: Two, journal: Journal) -> None:
    left = at

    def dies(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            told = real(*args, **more)
            left -= 1
            if left == 0:
                os._exit(9)
            return told

        return call

    code = 1
    try:
        files.write = dies(files.write)
        journal.append = dies(journal.append)  # type: ignore[method-assign]
        code = 0 if change(two, journal, Watching(two[0], "improved")).kept else 2
    finally:
        os._exit(code)
