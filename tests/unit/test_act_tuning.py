"""Several changes one by one: what is kept and why, what was cut short, and what is said of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_act_parts import FRAME, InFolder

from qtop.act import actor as actors
from qtop.act import knobs
from qtop.act.actor import Actor, Wish
from qtop.act.documents import change_document, offer_document, tuned_document, values_document
from qtop.act.journal import Journal
from qtop.act.meter import ProbeMeter
from qtop.act.proof import Judgement
from qtop.act.survey import survey
from qtop.act.transaction import Keep, Policy
from qtop.act.tuning import Tuned, tune
from qtop.diagnose.engine import Finding
from qtop.diagnose.rule import Observed, Remedy, Severity, State, Told
from qtop.errors import QtopError, Refused
from qtop.probe.messages import ProbeRequest
from qtop.report.changes import actions_text, change_text, journal_text, tuned_text
from qtop.verbs.tune import wishes_of

DATA = {
    "ttft": {"metric": "TTFT", "change_pct": -47.3, "band_pct": 5.0},
    "itl": {"metric": "ITL p50", "change_pct": 1.0, "band_pct": 6.4},
}


REQUEST = ProbeRequest(url="http://127.0.0.1:9", model="", prompt="")


class Host:
    """Three knobs in files, an actor on them, and a meter whose verdict on each knob is given; "cut", "cancel" and
    "fail" happen while it measures after."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.knobs = {name: InFolder(folder, name, many) for name, many in (("one", 2), ("two", 1), ("three", 1))}
        self.verdicts = dict.fromkeys(self.knobs, "improved")
        self.measured = 0
        for name, one in self.knobs.items():
            monkeypatch.setitem(knobs.KNOBS, name, one)
        monkeypatch.setattr(actors, "OFFERED", tuple(self.knobs.values()))
        monkeypatch.setattr(ProbeMeter, "before", lambda meter: self._measure())
        monkeypatch.setattr(ProbeMeter, "after", lambda meter, settle_s: self._after())
        monkeypatch.setattr(ProbeMeter, "compared", staticmethod(self._compared))
        self.actor = Actor(lambda: FRAME, lambda *_: REQUEST)

    def _measure(self) -> list[Any]:
        self.measured += 1
        return []

    @property
    def _turned(self) -> str:
        """The knob that was turned last."""
        return Journal().changes()[-1].knob

    def _after(self) -> list[Any]:
        what = self.verdicts[self._turned]
        if what == "cut":
            raise KeyboardInterrupt
        if what == "cancel":
            self.actor._cancelled.set()
            raise Refused("cancelled")
        if what == "fail":
            raise Refused("the test prompt failed")
        return []

    def _compared(self, befores: list[Any], afters: list[Any]) -> Judgement:
        verdict = self.verdicts[self._turned]
        return Judgement(verdict, f"{verdict}: TTFT 400 → 211 ms (-47 %, noise ±5 %); ITL p50 12 → 12 ms", DATA, True)

    def held(self) -> dict[str, set[str]]:
        return {name: {value.strip() for value in one.texts} for name, one in self.knobs.items()}

    def tune(self, *names: str) -> Tuned:
        wishes: list[Wish] = [(name, None) for name in names or self.knobs]
        return tune(self.actor, wishes, lambda step, text: None, Policy(Keep.IMPROVED))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Host(tmp_path, monkeypatch)


def narrow(text: str) -> str:
    """The text, which fits 80 columns."""
    assert max(len(line) for line in text.splitlines()) <= 80, text
    return text


def test_what_improves_is_kept_and_the_rest_put_back(host: Host) -> None:
    host.verdicts |= {"two": "no effect", "three": "worse"}
    tuned = host.tune()
    assert host.held() == {"one": {"10"}, "two": {"60"}, "three": {"60"}}
    assert [(step.knob, step.state) for step in tuned.steps] == [
        ("one", "kept"),
        ("two", "put back"),
        ("three", "put back"),
    ]
    assert host.measured == 1 + 3 + 1  # the server as it was, before each, as it is now
    text = narrow(tuned_text(tuned_document(tuned)))
    assert text.startswith("1 kept, 2 put back\n")
    for told in ("kept      one 10", "put back  two 10", "no effect: TTFT 400", "in all  ", "vm.value = 10"):
        assert told in text
    assert "# /etc/sysctl.d/90-qtop-one.conf" in text
    assert "90-qtop-two" not in text


def test_nothing_kept_needs_no_second_look(host: Host) -> None:
    host.verdicts = dict.fromkeys(host.knobs, "no effect")
    tuned = host.tune()
    assert (tuned.total, host.measured) == (None, 4)
    assert "make it permanent" not in tuned_text(tuned_document(tuned))


@pytest.mark.parametrize("how", ["cut", "cancel"])
def test_cut_short_the_one_under_way_is_put_back_and_the_rest_told(host: Host, how: str) -> None:
    host.verdicts["two"] = how
    tuned = host.tune()
    assert host.held() == {"one": {"10"}, "two": {"60"}, "three": {"60"}}
    assert tuned.cancelled
    assert (tuned.cut is not None) is (how == "cut")
    assert [step.knob for step in tuned.kept] == ["one"]
    assert "three" in tuned.left
    assert tuned.total is None
    text = narrow(tuned_text(tuned_document(tuned)))
    assert "stopped: the change under way was put back" in text
    assert "not tried" in text


def test_one_that_cannot_be_made_does_not_stop_the_rest(host: Host) -> None:
    host.verdicts["one"] = "fail"
    host.knobs["two"].paths(FRAME)[0].write_text("10\n")
    tuned = host.tune()
    assert [(step.knob, step.state, step.why) for step in tuned.steps[:2]] == [
        ("one", "not made", "the test prompt failed"),
        ("two", "not made", "two: 10 already"),
    ]
    assert host.held()["three"] == {"10"}


def test_a_server_that_cannot_be_measured_is_not_tuned(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(meter: ProbeMeter) -> list[Any]:
        raise Refused("cannot measure: no answer")

    monkeypatch.setattr(ProbeMeter, "before", fails)
    with pytest.raises(Refused, match="cannot measure"):
        host.tune()
    assert not Journal().path.exists()


# What is possible


def finding(rule: str, knob: str) -> Finding:
    seen = Observed(0.5, lambda: Told(rule, (), (Remedy(knob, "do it"),)))
    return Finding(rule, rule, State.FIRING, Severity.WARNING, 0.5, None, seen)


def test_what_findings_propose_comes_first_and_what_cannot_be_last(host: Host) -> None:
    host.knobs["one"].paths(FRAME)[0].write_text("10\n")
    host.knobs["one"].paths(FRAME)[1].write_text("10\n")
    offers = survey(host.knobs.values(), host.actor.plan, [finding("QT999", "three")])
    assert [(one.knob, one.now, one.by, one.possible) for one in offers] == [
        ("three", "60", ("QT999",), True),
        ("two", "60", (), True),
        ("one", "", (), False),
    ]
    text = narrow(actions_text([offer_document(one) for one in offers]))
    possible, others = text.split("Not possible")
    assert [line.split()[:1] for line in possible.splitlines()[2:4]] == [["three"], ["two"]]
    assert "60 → 10" in possible
    assert "one  one: 10 already" in others


# The journal


def test_the_journal_tells_parts_verdict_and_each_value_now(host: Host) -> None:
    host.tune("one", "two")
    host.knobs["one"].paths(FRAME)[1].write_text("77\n")
    one, two = Journal().changes()
    listed = narrow(journal_text([change_document(change) for change in (one, two)]))
    assert listed.count("in force") == 2
    assert "    one → 10\n" in listed
    assert "improved: TTFT 400 → 211 ms" in listed
    assert change_document(one)["gain"] == "TTFT -47 % ±5, ITL p50 +1 % ±6"
    told = change_text(change_document(one), values_document(one))
    (first, second) = told.splitlines()[-2:]
    assert first.split() == ["60", "10", "10", str(host.knobs["one"].paths(FRAME)[0])]
    assert second.split() == ["60", "10", "77", str(host.knobs["one"].paths(FRAME)[1])]


def test_a_record_that_this_qtop_does_not_know_is_told_of(host: Host) -> None:
    host.tune("one")
    change = Journal().changes()[0]
    change.parts[0].knob = "fan-speed"
    assert "cannot be read: another version of qtop made it" in change_text(
        change_document(change), values_document(change)
    )


# What is asked for


def test_names_and_values_by_commas() -> None:
    assert wishes_of(["swappiness"]) == [("swappiness", None)]
    assert wishes_of(["cpu-affinity=0-3,8,swappiness=10", "numa-balancing"]) == [
        ("cpu-affinity", "0-3,8"),
        ("swappiness", "10"),
        ("numa-balancing", None),
    ]
    for wrong in ("nonesuch", "swappiness,nonesuch", "", "8,swappiness"):
        with pytest.raises(QtopError, match="no knob is called"):
            wishes_of([wrong])
