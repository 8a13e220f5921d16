"""A recording looked through beside its replay, and jumps in it: what is shown there is what playing through shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.fakes.recorded import eventful, record
from tests.fakes.stub_source import BEGIN, NO_SERVER, Machine, StubLive

from qtop.diagnose.rule import State
from qtop.model.breaks import Breaks
from qtop.record.convert import import_trace
from qtop.record.reader import Recording
from qtop.sample import Event, Sample, ServerInfo
from qtop.session import Session, Snapshot
from qtop.source.replay import ReplaySource
from qtop.timeline.kinds import Kind, points_of
from qtop.timeline.rerun import Rerun
from qtop.timeline.scan import Timeline

TRACES = Path(__file__).parent.parent / "data" / "traces"


def shifted(samples: Iterable[Sample], seconds: float) -> Iterator[Sample]:
    """The same at another time of day; monotonic clocks go on."""
    for sample in samples:
        yield replace(sample, t=sample.t + seconds)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("timeline") / "long.qtop", eventful())


def looked_through(path: Path) -> Timeline:
    done = threading.Event()
    timeline = Timeline(path)
    timeline._told = lambda: done.set() if timeline.done else None
    timeline.start()
    assert done.wait(60)
    assert timeline.failure == ""
    return timeline


@pytest.fixture(scope="module")
def timeline(long: Path) -> Timeline:
    return looked_through(long)


def played(path: Path) -> dict[float, tuple[object, ...]]:
    """Findings and verdict of every moment, played through from the beginning."""
    rerun = Rerun()
    shown = {}
    for sample in Recording(path).samples():
        moment = rerun.push(sample)
        assert moment is not None
        shown[sample.t] = words(moment.findings, moment.verdict)
    return shown


def words(findings: Iterable[object], verdict: object) -> tuple[object, ...]:
    """All that is said of a moment."""
    names = ("rule", "state", "severity", "value", "since", "note", "record", "headline", "evidence")
    told = [tuple(getattr(one, name) for name in names) for one in findings]
    return (*told, verdict)


class Watched:
    """A session on a replay that stands still, and what it shows after each jump."""

    def __init__(self, path: Path) -> None:
        self.source = ReplaySource(path)
        self.source.pause(True)
        self.session = Session(self.source)
        self.session.start()

    def jump(self, t: float, timeline: Timeline) -> Snapshot:
        """What is shown first once it has gone there."""
        arrived: list[Snapshot] = []
        there = threading.Event()
        before = self.session.latest.jump if self.session.latest else 0

        def heard(snapshot: Snapshot) -> None:
            if snapshot.jump > before and not arrived:
                arrived.append(snapshot)
                there.set()

        self.session._listeners[:] = [heard]
        self.session.jump(t, timeline)
        assert there.wait(20), self.source.failure
        return arrived[0]

    def until(self, what: object) -> None:
        deadline = time.monotonic() + 20
        while not what():  # type: ignore[operator]
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def watched(long: Path) -> Iterator[Watched]:
    one = Watched(long)
    yield one
    one.session.close()


def test_findings_after_a_jump_are_those_of_playing_through(long: Path, timeline: Timeline, watched: Watched) -> None:
    whole = played(long)
    times = sorted(whole)
    assert any(one[1] is State.FIRING for one in whole[times[300]][:-1])  # type: ignore[index]
    for at in (700, 5, 300, 41, 333, 0, 125, 640, 719, 250):
        shown = watched.jump(times[at] + 0.4, timeline)
        assert shown.frame.t == times[at]
        assert words(shown.findings, shown.verdict) == whole[times[at]], at


def test_a_jump_ahead_of_what_was_looked_through_shows_the_same_states(long: Path, watched: Watched) -> None:
    blind = Timeline(long)
    whole = played(long)
    for t in (BEGIN + 333, BEGIN + 650):
        shown = watched.jump(t, blind)
        told = [(one.rule, one.state, one.severity, one.value) for one in shown.findings]
        assert told == [one[:4] for one in whole[t][:-1]]  # type: ignore[index]


def test_what_came_before_a_jump_can_be_stepped_through(long: Path, timeline: Timeline, watched: Watched) -> None:
    whole = played(long)
    shown = watched.jump(BEGIN + 600, timeline)
    session = watched.session
    watched.until(lambda: session.kept == 601)
    assert len(session.history) == 601
    assert session.latest is shown
    for steps in (1, 200, 600):
        back = session.back(steps)
        assert back is not None
        assert back.frame.t == BEGIN + 600 - steps
        assert words(back.findings, back.verdict) == whole[back.frame.t]
        assert session.index_of(back) == steps


def test_playing_goes_on_from_where_a_jump_landed(long: Path, timeline: Timeline, watched: Watched) -> None:
    whole = played(long)
    watched.jump(BEGIN + 300, timeline)
    watched.source.speed = 200.0
    watched.source.pause(False)
    watched.until(lambda: watched.source.ended)
    session = watched.session
    assert session.latest is not None
    assert session.latest.frame.t == BEGIN + 719
    assert words(session.latest.findings, session.latest.verdict) == whole[BEGIN + 719]
    watched.source.pause(True)
    again = watched.jump(BEGIN + 2.0, timeline)  # also from the end
    assert again.frame.t == BEGIN + 2


def test_of_several_jumps_the_latest_counts(timeline: Timeline, watched: Watched) -> None:
    for t in range(0, 700, 20):
        watched.session.jump(BEGIN + t, timeline)
    watched.session.jump(BEGIN + 77, timeline)
    watched.until(lambda: watched.session.latest and watched.session.latest.frame.t == BEGIN + 77)


def test_a_jump_beyond_an_end_goes_to_that_end(timeline: Timeline, watched: Watched) -> None:
    assert watched.jump(BEGIN + 1e6, timeline).frame.t == BEGIN + 719
    assert watched.jump(BEGIN - 1e6, timeline).frame.t == BEGIN


def test_a_jump_into_a_hole_shows_what_was_before_it(tmp_path: Path) -> None:
    samples = [*Machine(wait=0.9).samples(0, 400), *Machine(wait=0.9).samples(4000, 4100)]
    path = record(tmp_path / "hole.qtop", samples)
    found, whole, one = looked_through(path), played(path), Watched(path)
    try:
        for t, lands in ((3000, 399), (4000, 4000), (4001.5, 4001), (3999.9, 399)):
            shown = one.jump(BEGIN + t, found)
            assert shown.frame.t == BEGIN + lands
            assert words(shown.findings, shown.verdict) == whole[BEGIN + lands]
    finally:
        one.session.close()


def test_turns_are_those_of_the_diagnosis_of_the_whole(long: Path, timeline: Timeline) -> None:
    from qtop.diagnose.whole import diagnose_all

    whole = diagnose_all(Recording(long).samples())
    assert whole is not None
    firing: set[str] = set()
    wanted = []
    for turn in whole.timeline:
        if turn.state is State.FIRING:
            firing.add(turn.rule)
            wanted.append((turn.t, turn.rule, True))
        elif turn.rule in firing:
            firing.remove(turn.rule)
            wanted.append((turn.t, turn.rule, False))
    found = [(turn.t, turn.rule, turn.state is State.FIRING) for turn in timeline.turns]
    assert sorted(found) == sorted(wanted)
    assert len(found) >= 6


def test_turns_one_after_the_other(timeline: Timeline) -> None:
    times = sorted({turn.t for turn in timeline.turns})
    t, forth = timeline.begin, []
    while turns := timeline.next_turn(t, 1):
        t = turns[0].t
        forth.append(t)
        assert turns == [turn for turn in timeline.turns if turn.t == t]
    assert forth == times
    t, back = timeline.end + 1, []
    while turns := timeline.next_turn(t, -1):
        t = turns[0].t
        back.append(t)
    assert back == times[::-1]


def test_a_real_recording_is_the_same_after_a_jump(tmp_path: Path) -> None:
    path = tmp_path / "hogs.qtop"
    import_trace(TRACES / "pinned1_hogs.jsonl.xz", path)
    found, whole, one = looked_through(path), played(path), Watched(path)
    try:
        for t in sorted(whole)[::4]:
            shown = one.jump(t, found)
            assert words(shown.findings, shown.verdict) == whole[t]
    finally:
        one.session.close()


def test_markers_stand_by_time_and_are_found_before_the_samples_are(tmp_path: Path) -> None:
    marks = [Event(BEGIN + t, "marker", {"note": str(t)}) for t in (30.0, 5.0)]
    path = record(tmp_path / "marks.qtop", [*Machine().samples(0, 20), *marks, *Machine().samples(20, 40)])
    found = looked_through(path)
    assert [point.t - BEGIN for point in found.points] == [5.0, 30.0]
    after, before = found.next_marker(BEGIN + 5, 1), found.next_marker(BEGIN + 5, -1)
    assert after is not None
    assert after.event.data == {"note": "30.0"}
    assert before is None


@pytest.mark.parametrize(
    ("kind", "data", "stands"),
    [
        ("marker", {"note": "x"}, [(100.0, Kind.MARKER)]),
        ("applied", {}, [(100.0, Kind.CHANGED)]),
        ("change", {"kept": True}, [(100.0, Kind.CHANGED)]),
        ("change", {"kept": False}, [(100.0, Kind.BACK)]),
        ("undo", {}, [(100.0, Kind.BACK)]),
        ("undo", {"knob": "", "restored": 0}, []),  # u, where nothing was in force
        ("probe", {"started": 90.0}, [(90.0, Kind.PROBE), (100.0, Kind.PROBE)]),
        ("probe", {"started": "?"}, [(100.0, Kind.PROBE)]),
        ("of-the-future", {}, []),
    ],
)
def test_where_events_stand(kind: str, data: dict[str, object], stands: list[tuple[float, Kind]]) -> None:
    assert [(point.t, point.kind) for point in points_of(Event(100.0, kind, data))] == stands


def test_breaks() -> None:
    machine = Machine()
    samples = [
        *machine.samples(0, 10),
        *machine.samples(30, 40),  # nobody looked for twenty seconds
        *shifted(machine.samples(40, 50), -25.0),  # the clock was set back
    ]
    breaks = Breaks(1.0)
    found = [one for sample in samples if (one := breaks.push(sample)) is not None]
    assert [(one.begin - BEGIN, one.end - BEGIN, one.why) for one in found] == [
        (9.0, 30.0, "gap"),
        (39.0, 15.0, "clock"),
    ]


def test_a_server_started_anew_is_a_break_and_one_that_came_back_is_none() -> None:
    machine = Machine()
    samples = list(machine.samples(0, 20))
    gone = [replace(sample, server=NO_SERVER) for sample in samples[8:12]]
    other = []
    for sample in samples[12:]:
        assert isinstance(sample.server, ServerInfo)
        other.append(replace(sample, server=replace(sample.server, pid=4242)))

    def found(*parts: list[Sample]) -> list[tuple[float, float, str]]:
        breaks = Breaks(1.0)
        told = [breaks.push(sample) for part in parts for sample in part]
        return [(one.begin - BEGIN, one.end - BEGIN, one.why) for one in told if one is not None]

    assert found(samples[:8], gone, samples[12:]) == []
    assert found(samples[:8], gone, other) == [(7.0, 12.0, "restart")]


def test_counters_that_fell_are_a_restart() -> None:
    breaks = Breaks(1.0)
    samples = [*Machine(tokens_s=50.0).samples(0, 5)]
    anew = [replace(one, t=one.t + 5, engine=replace(one.engine, at=one.engine.at + 5)) for one in samples]  # type: ignore[union-attr]
    found = [one for sample in (*samples, *anew) if (one := breaks.push(sample)) is not None]
    assert [(one.begin - BEGIN, one.end - BEGIN, one.why) for one in found] == [(4.0, 5.0, "restart")]


def test_a_file_that_goes_away_is_one_line(long: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.qtop"
    path.write_bytes(long.read_bytes())
    timeline = Timeline(path)
    path.unlink()
    timeline._run()
    assert "gone.qtop" in timeline.failure
    assert "\n" not in timeline.failure


def test_the_steps_of_a_change_are_marked_each_time_it_comes_to_them(tmp_path: Path) -> None:
    from qtop.ui.noting import noting

    session = Session(StubLive())
    session.start_recording(tmp_path / "steps.qtop")
    heard: list[tuple[str, str]] = []
    steps = [
        ("measure", "before"),
        ("apply", "0-3"),
        ("apply", "waiting for it"),
        ("measure", "with it"),
        ("check", "without it"),
        ("apply", "0-3"),
        ("revert", "putting the old values back"),
    ]
    say = noting(session, "cpu-affinity", lambda step, text: heard.append((step, text)))
    for step in steps:
        say(*step)
    noting(session, "undo", lambda step, text: heard.append((step, text)))("revert", "back")
    session.stop_recording()
    assert heard == [*steps, ("revert", "back")]
    told = [(event.kind, event.data) for event in Recording(tmp_path / "steps.qtop", allow_empty=True).events()]
    apply = ("applied", {"knob": "cpu-affinity", "told": "0-3"})
    assert told == [apply, apply, ("reverted", {"knob": "cpu-affinity", "told": "putting the old values back"})]
