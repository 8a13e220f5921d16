"""This side of root's helper: one that hangs, dies, or answers late is never taken for one that did what was asked.

The helper here is the real one, or a few lines that misbehave in its place; what makes a process root is left out.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qtop.act import hands as module
from qtop.act.change import Knob, Record, Work
from qtop.act.hands import Hands
from qtop.act.helper_process import HelperProcess, Lost
from qtop.errors import Refused

PUT_BACK = "`qtop undo` puts back what it did"
GREET = "import json, sys, time\ndef tell(**m): print(json.dumps(m), flush=True)\ntell(qtop='helper')\n"


class Named(Knob):
    id = "swappiness"


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    """Those of an ordinary user."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with Hands(interactive=False) as made:
        yield made


def helpers(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """What is started as the helper, one after another."""
    waiting = list(programs)
    monkeypatch.setattr(module, "elevation", lambda interactive: [sys.executable, "-c", waiting.pop(0)])


def ask(hands: Hands, work: Work | None = None) -> Record:
    record: Record = {"new": "1"}
    hands.apply(Named(), record, True, work or Work())
    return record


DONE = GREET + "for line in sys.stdin: tell(done=True, id=json.loads(line)['id'])\n"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (GREET + "sys.stdin.readline()", "the helper has ended"),
        (GREET + "sys.stdin.readline(); print('done', flush=True)", "cannot be understood"),
        (GREET + "sys.stdin.readline(); print('[' * 100000, flush=True)", "cannot be understood"),
        (GREET + "sys.stdin.readline(); sys.stdout.write('x' * (5 << 20)); sys.stdout.flush()", "cannot be understood"),
        (GREET + "sys.stdin.readline(); time.sleep(60)", "did not answer in time"),
    ],
    ids=["ends", "no JSON", "too deep", "endless line", "hangs"],
)
def test_a_helper_of_no_use_is_left_and_the_next_wish_has_a_new_one(
    program: str, told: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    helpers(monkeypatch, program, DONE)
    with pytest.raises(Refused, match=told) as caught:
        ask(hands)
    assert PUT_BACK in caught.value.hint
    ask(hands)


def test_a_helper_that_takes_nothing_in_does_not_hold_qtop_up() -> None:
    helper = HelperProcess([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(Lost, match="does not listen"):
        helper.tell({"record": "x" * (1 << 20)}, seconds=0.2)
    helper.close(0.0)


def test_a_late_answer_is_not_taken_for_the_next_one(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the helper applied: its "done" comes when it has been asked to restore, and must not count."""
    helpers(
        monkeypatch,
        GREET
        + """
first = json.loads(sys.stdin.readline())['id']
tell(say='begun', id=first)
second = json.loads(sys.stdin.readline())['id']
tell(say='still at the first', id=first)
assert json.loads(sys.stdin.readline()) == {'go': False}
tell(extended={'new': 'first'}, id=first)
assert json.loads(sys.stdin.readline()) == {'saved': False}
tell(done=True, id=first)
tell(refused='the second was refused', id=second)
sys.stdin.readline()
""",
    )

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(hands, Work(say=interrupted))
    said: list[str] = []
    with pytest.raises(Refused, match="the second was refused"):
        ask(hands, Work(say=said.append))
    assert said == []


@pytest.mark.parametrize("writable", [True, False])
def test_what_the_helper_adds_is_saved_before_it_may_go_on(
    writable: bool, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers(
        monkeypatch,
        GREET
        + """
number = json.loads(sys.stdin.readline())['id']
tell(extended={'new': '2'}, id=number)
tell(**({'done': True} if json.loads(sys.stdin.readline())['saved'] else {'refused': 'not saved'}), id=number)
number = json.loads(sys.stdin.readline())['id']
tell(refused='asked again', id=number)
""",
    )
    saved: list[bool] = []

    def save() -> None:
        if not writable:
            raise Refused("the journal cannot be written")
        saved.append(True)

    if writable:
        assert ask(hands, Work(save)) == {"new": "2"}
        assert saved == [True]
    else:
        with pytest.raises(Refused, match="the journal cannot be written"):
            ask(hands, Work(save))
    with pytest.raises(Refused, match="asked again"):
        ask(hands)


def test_calling_it_off_reaches_the_helper(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers(
        monkeypatch,
        GREET
        + """
number = json.loads(sys.stdin.readline())['id']
tell(say='half', id=number)
tell(refused='went on' if json.loads(sys.stdin.readline())['go'] else 'stopped', id=number)
""",
    )
    with pytest.raises(Refused, match="stopped"):
        ask(hands, Work(cancelled=lambda: True))


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        ("sudo: 3 incorrect password attempts", "let qtop become it: 3 incorrect password attempts"),
        (
            "me is not in the sudoers file.\nThis incident has been reported to the administrator.",
            "in the sudoers file",
        ),
        ("\x1b[31mno\x07", "let qtop become it:  [31mno"),
        ("", "did not let qtop become it"),
        ("x" * 100_000, "x" * 160),
    ],
)
def test_why_there_is_no_helper_is_one_clause(
    noise: str, told: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers(monkeypatch, f"import sys; sys.stderr.write({noise!r}); sys.exit(1)")
    with pytest.raises(Refused) as caught:
        hands.ready()
    assert told in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    assert caught.value.hint == "Nothing was changed. Run qtop as root."


def test_what_stands_in_sudos_place_and_is_not_the_helper(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers(monkeypatch, "print('{}', flush=True)", 'print(\'{"qtop": "other"}\', flush=True)')
    for _ in range(2):
        with pytest.raises(Refused, match="does not speak as qtop's does"):
            hands.ready()


def test_a_helper_that_floods_standard_error_is_not_stuck_in_it(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers(monkeypatch, DONE.replace("for line", "sys.stderr.write('x' * (1 << 20)); sys.stderr.flush()\nfor line"))
    ask(hands)
    ask(hands)


def test_no_process_and_no_descriptor_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def left() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        return len(children), len(os.listdir("/proc/self/fd"))

    before = left()
    for program in (DONE, GREET + "time.sleep(60)", "import sys; sys.exit(1)"):
        helpers(monkeypatch, program)
        made = Hands(interactive=False)
        try:
            made.ready()
        except Refused:
            continue
        helper: Any = made._helper
        if "sleep" in program:
            helper.close(0.0)
            made._helper = None
        made.close()
    deadline = time.monotonic() + 10.0
    while left() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == before
