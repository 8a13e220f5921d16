"""A recording diagnosed in shares says what one process says of it, to the last digit, whatever lies at a border."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.fakes.recorded import record
from tests.fakes.stub_source import BEGIN, Machine

from qtop.diagnose.checkpoint import run_up_s
from qtop.diagnose.parts import PART_S
from qtop.diagnose.rule import State
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.model.frame import Frame
from qtop.record.reader import Recording
from qtop.report.documents import whole_document
from qtop.sample import Sample
from qtop.timeline import shares
from qtop.timeline.shares import NotSharedError, Walk, diagnose_recording, join

BORDER = int(PART_S)
END = BORDER + 260
LATE = BORDER - int(run_up_s())
"""The run-up of the second share begins here."""
Story = list[tuple[Machine, int, int]]
"""What the machine is like, from which second to which."""

QUIET, BUSY, BETWEEN = Machine(), Machine(wait=0.9), Machine(wait=0.07)
"""The last is too little to make a finding and too much to end one."""
GONE, OTHER = Machine(server=False), Machine(pid=4_100_000)
STORIES: dict[str, tuple[Story, int]] = {
    "always": ([(BUSY, 0, END)], 0),
    "begins in the run-up": ([(QUIET, 0, LATE + 100), (BUSY, LATE + 100, BORDER + 200), (QUIET, BORDER + 200, END)], 0),
    "begins at the border": ([(QUIET, 0, BORDER), (BUSY, BORDER, END)], 0),
    "ends at the border": ([(BUSY, 0, BORDER), (QUIET, BORDER, END)], 0),
    "ended before": ([(BUSY, 0, 200), (QUIET, 200, END)], 0),
    "on and off": ([(BUSY if t % 60 < 20 else QUIET, t, t + 20) for t in range(0, END, 20)], 0),
    "stands by what was": ([(BUSY, 0, 200), (BETWEEN, 200, END)], 1),
    "stands by what was, for a while": ([(BUSY, 0, 200), (BETWEEN, 200, BORDER + 100), (QUIET, BORDER + 100, END)], 1),
    "no server for long": ([(BUSY, 0, 200), (GONE, 200, BORDER + 100), (BUSY, BORDER + 100, END)], 1),
    "another server": ([(BUSY, 0, BORDER - 30), (OTHER, BORDER - 30, END)], 0),
    "a hole": ([(BUSY, 0, 300), (QUIET, BORDER + 100, END)], 1),
    "a hole before the border": ([(QUIET, 0, LATE + 50), (BUSY, BORDER - 2, END)], 1),
}


def told(story: Story) -> Iterator[Sample]:
    for machine, first, last in story:
        yield from machine.samples(first, min(last, END))


def words(whole: Whole | None) -> str:
    assert whole is not None
    return json.dumps(whole_document(whole), indent=1)


def in_shares(recording: Recording, begins: list[float]) -> Whole | None:
    walks = [Walk(recording, at, end) for at, end in zip(begins, [*begins[1:], None], strict=True)]
    steps = [list(walk) for walk in walks]
    return join(recording, begins, steps, walks[-1].frame)


@pytest.fixture
def carried_on(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Where a share was judged again with what the one before it knew."""
    where: list[float] = []

    class Noted(Walk):
        def __init__(self, recording: Recording, begin: float, end: float | None, known: Any = None) -> None:
            super().__init__(recording, begin, end, known)
            if known is not None:
                where.append(begin)

    monkeypatch.setattr(shares, "Walk", Noted)
    return where


@pytest.mark.parametrize("name", STORIES)
def test_shares_say_the_same(name: str, tmp_path: Path, carried_on: list[float]) -> None:
    story, again = STORIES[name]
    recording = Recording(record(tmp_path / "a.qtop", told(story)))
    one = diagnose_all(recording.samples())
    several = in_shares(recording, [recording.start, recording.start + BORDER])
    assert words(several) == words(one)
    assert len(carried_on) == again


def test_a_sample_a_minute_runs_up_for_longer(tmp_path: Path, carried_on: list[float]) -> None:
    begin = 16 * BORDER
    samples = [(BUSY if 3 * BORDER < t < begin + 600 else QUIET).sample(float(t)) for t in range(0, 30 * BORDER, 60)]
    recording = Recording(record(tmp_path / "a.qtop", samples, interval=60.0))
    several = in_shares(recording, [recording.start, recording.start + begin])
    assert words(several) == words(diagnose_all(recording.samples()))
    assert Walk(recording, recording.start + begin, None)._from()[0] <= recording.start + begin - 2 * 12 * 60


def test_a_finding_that_lasted_over_the_border_is_one_episode(tmp_path: Path) -> None:
    story: Story = [(QUIET, 0, 100), (BUSY, 100, END)]
    recording = Recording(record(tmp_path / "a.qtop", told(story)))
    whole = in_shares(recording, [recording.start, recording.start + BORDER])
    assert whole is not None
    finding = whole.findings[0]
    assert (finding.rule, finding.state, finding.record.times) == ("QT201", State.FIRING, 1)
    assert finding.since == pytest.approx(BEGIN + 100, abs=5)
    assert finding.record.seconds == pytest.approx(END - 100, abs=5)


def test_after_carrying_on_for_a_part_the_rest_is_taken_as_it_is(tmp_path: Path, carried_on: list[float]) -> None:
    """What stood by what was has ended in the share's first part; its second is not judged twice."""
    end = 2 * BORDER + 100
    story: Story = [(BUSY, 0, 200), (BETWEEN, 200, BORDER + 100), (QUIET, BORDER + 100, end)]
    samples = [sample for machine, first, last in story for sample in machine.samples(first, last)]
    recording = Recording(record(tmp_path / "a.qtop", samples))
    seen: list[float] = []
    begins = [recording.start, recording.start + BORDER]
    walks = [Walk(recording, at, stop) for at, stop in zip(begins, [begins[1], None], strict=True)]
    steps = [list(walk) for walk in walks]
    seek = recording.seek
    recording.seek = lambda t: (seen.append(one.t) or one for one in seek(t))  # type: ignore[method-assign,func-returns-value]
    assert words(join(recording, begins, steps, walks[-1].frame)) == words(diagnose_all(recording.samples()))
    assert carried_on == [begins[1]]
    assert max(seen) == recording.start + 2 * BORDER


def test_a_file_that_has_grown_since_is_carried_on_to_its_end(tmp_path: Path, carried_on: list[float]) -> None:
    story: Story = [(BUSY, 0, 200), (BETWEEN, 200, 2 * BORDER + 50)]
    samples = [sample for machine, first, last in story for sample in machine.samples(first, last)]
    recording = Recording(record(tmp_path / "a.qtop", samples))
    begins = [recording.start, recording.start + BORDER]
    first, last = (list(Walk(recording, at, end)) for at, end in zip(begins, [begins[1], None], strict=True))
    assert len(last) == 2  # of which one was there at first
    whole = join(recording, begins, [first, [last[0]._replace(after=None)]], diagnosed_last(recording))
    assert words(whole) == words(diagnose_all(recording.samples()))
    assert carried_on == [begins[1]]


def test_a_share_that_ends_before_the_next_begins_is_no_share(tmp_path: Path) -> None:
    recording = Recording(record(tmp_path / "a.qtop", told([(BUSY, 0, END)])))
    begins = [recording.start, recording.start + BORDER]
    first, last = (list(Walk(recording, at, end)) for at, end in zip(begins, [begins[1], None], strict=True))
    with pytest.raises(NotSharedError):
        join(recording, begins, [[first[0]._replace(after=None)], last], diagnosed_last(recording))


def diagnosed_last(recording: Recording) -> Frame:
    """The last frame."""
    whole = diagnose_all(recording.samples())
    assert whole is not None
    return whole.frame


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    monkeypatch.setattr(shares, "SHARE_S", END / 3)
    story: Story = [(QUIET, 0, 300), (BUSY, 300, BORDER + 50), (QUIET, BORDER + 50, END)]
    return Recording(record(tmp_path / "a.qtop", told(story)))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled where one process does all by itself."""
    seen: list[int] = []

    def diagnose(samples: Any) -> Whole | None:
        seen.append(1)
        return diagnose_all(samples)

    monkeypatch.setattr(shares, "diagnose_all", diagnose)
    return seen


def test_processes_of_their_own_say_the_same(long: Recording, alone: list[int]) -> None:
    assert words(diagnose_recording(long, 2)) == words(diagnose_all(long.samples()))
    assert not alone


def test_one_cpu_or_a_short_recording_is_not_shared(
    long: Recording, alone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words(diagnose_recording(long, 1)) == words(diagnose_all(long.samples()))
    monkeypatch.setattr(shares, "SHARE_S", float(END))
    diagnose_recording(long, 8)
    assert alone == [1, 1]


def test_a_process_that_is_killed_is_done_without(
    long: Recording, alone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = shares._process

    @contextmanager
    def killed(*args: Any) -> Iterator[Connection]:
        with process(*args) as pipe:
            import multiprocessing

            (child,) = multiprocessing.active_children()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            yield pipe

    monkeypatch.setattr(shares, "_process", killed)
    assert words(diagnose_recording(long, 2)) == words(diagnose_all(long.samples()))
    assert alone == [1]


def test_where_the_clock_was_set_back_one_process_does_it(
    tmp_path: Path, alone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SHARE_S", END / 3)
    samples = list(told([(BUSY, 0, END)]))
    for at in (600, BORDER + 100):  # before the border: in the index; after it, by seconds: only in the samples
        back = 90.0 if at < BORDER else 3.0
        path = tmp_path / f"{at}.qtop"
        recording = Recording(record(path, [*samples[:at], *(replace(one, t=one.t - back) for one in samples[at:])]))
        assert words(diagnose_recording(recording, 2)) == words(diagnose_all(recording.samples()))
    assert alone == [1, 1]


def test_a_damaged_recording_is_not_shared(long: Recording, alone: list[int]) -> None:
    content = bytearray(long.path.read_bytes())
    content[len(content) // 4] ^= 0xFF
    long.path.write_bytes(content)
    torn = Recording(long.path)
    assert words(diagnose_recording(torn, 2)) == words(diagnose_all(torn.samples()))
