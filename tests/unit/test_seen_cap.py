"""A limit of running requests that no source tells is seen: recordings of a real vLLM with their settings left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qtop.diagnose.rule import Observed, State
from qtop.diagnose.rules.QT303_sequence_cap import RULE
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.model.derive import Deriver
from qtop.model.running import RunningTrack, RunningView
from qtop.record.reader import Recording
from qtop.sample import NOT_RECORDED, NOT_YET, Absent, Sample, ServerInfo

FOLDER = Path(__file__).parent.parent / "data/recordings"


def without_settings(path: Path) -> Iterator[Sample]:
    for sample in Recording(path).samples():
        assert isinstance(sample.server, ServerInfo)
        bare = msgspec.structs.replace(
            sample.server, settings=NOT_RECORDED, argv=NOT_RECORDED, max_running=NOT_RECORDED
        )
        yield msgspec.structs.replace(sample, server=bare)


def whole(name: str) -> Whole:
    result = diagnose_all(without_settings(FOLDER / name))
    assert result is not None
    return result


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("disturbed/h200-prefill-bound.qtop", "QT304"),
        ("disturbed/h200-kv-full.qtop", "QT301"),
        ("disturbed/h200-engine-stopped.qtop", "QT305"),
        ("healthy/h200-48-streams.qtop", None),
        ("healthy/h200-at-random.qtop", None),
    ],
)
def test_the_verdict_is_the_same_without_settings(name: str, rule: str | None) -> None:
    assert whole(name).verdict.rule == rule


def test_the_limit_shows_in_what_runs() -> None:
    """The recording ends four seconds after it shows: what the rule sees then, and before what it saw."""
    deriver = Deriver()
    frames = [deriver.push(sample) for sample in without_settings(FOLDER / "disturbed/h200-sequence-cap.qtop")]
    last, before = RULE.look(frames[-1]), RULE.look(frames[8])
    assert isinstance(last, Observed) and last.value == 1.0
    assert "64 of 64 run" in last.told.headline
    assert "not told" in last.told.evidence[0].source
    assert isinstance(before, Observed) and before.value == 0.0


def test_where_nothing_waits_no_limit_is_reached() -> None:
    found = next(one for one in whole("healthy/h200-8-streams.qtop").findings if one.rule == "QT303")
    assert found.state is State.CLEAR


def test_a_limit_shows_only_while_others_wait_and_at_a_usual_number() -> None:
    track = RunningTrack()
    views = [track.push(float(t), 64.0, 3.0) for t in range(8)]
    assert views[:6] == [NOT_YET] * 6
    assert views[-1] == RunningView(6.0, 64.0, 64.0, 3.0, 1.0)
    assert isinstance(views[-1], RunningView) and views[-1].stands
    moved = track.push(8.0, 63.0, 3.0)
    assert isinstance(moved, RunningView) and moved.limit == 64, "one step with a place free is no matter"
    idle = RunningTrack()
    for t in range(8):
        last = idle.push(float(t), 64.0, 0.0)
    assert isinstance(last, RunningView) and last.limit is None
    odd = RunningTrack()
    for t in range(8):
        last = odd.push(float(t), 11.0, 27.0)
    assert isinstance(last, RunningView) and last.stands and last.limit is None


def test_a_gap_begins_anew() -> None:
    track = RunningTrack()
    for t in range(8):
        track.push(float(t), 64.0, 3.0)
    assert isinstance(track.push(60.0, 64.0, 3.0), Absent)
    assert isinstance(track.push(61.0, NOT_RECORDED, 3.0), Absent)
