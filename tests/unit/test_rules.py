"""Each rule against its two recordings, read through the real reader and diagnosed as `qtop doctor --from` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import State
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.record.convert import import_trace
from qtop.record.reader import Recording

ROOT = Path(__file__).parent.parent
IDS = [rule.id for rule in RULES]


def whole(path: Path) -> Whole:
    result = diagnose_all(Recording(path).samples())
    assert result is not None
    return result


def state(result: Whole, rule: str) -> State:
    return next(one.state for one in result.findings if one.rule == rule)


@pytest.mark.parametrize("rule", IDS)
def test_it_fires_on_its_recording_and_leads_the_verdict(rule: str) -> None:
    result = whole(ROOT / f"rules/{rule}/fires.qtop")
    assert state(result, rule) is State.FIRING
    assert result.verdict.rule == rule
    assert result.findings[0].evidence


@pytest.mark.parametrize("rule", IDS)
def test_it_is_quiet_on_the_other(rule: str) -> None:
    assert state(whole(ROOT / f"rules/{rule}/quiet.qtop"), rule) is State.CLEAR


@pytest.mark.parametrize("rule", IDS)
@pytest.mark.parametrize("name", ["fires", "quiet"])
def test_recordings_say_where_they_come_from(rule: str, name: str) -> None:
    assert Recording(ROOT / f"rules/{rule}/{name}.qtop").header.source in ("real", "stub", "synthetic")


def test_throttling_is_not_taken_for_contention() -> None:
    result = whole(ROOT / "rules/QT202/fires.qtop")
    assert state(result, "QT201") is not State.FIRING
    assert not any(one.remedies for one in result.findings)


@pytest.mark.parametrize(
    ("trace", "fires"),
    [("idle", False), ("steady1", False), ("longctx", False), ("power_side", False), ("pinned1_hogs", True)],
)
def test_the_labelled_traces_of_a_real_h100(trace: str, fires: bool, tmp_path: Path) -> None:
    out = tmp_path / "t.qtop"
    import_trace(ROOT / f"data/traces/{trace}.jsonl.xz", out)
    result = whole(out)
    assert (state(result, "QT201") is State.FIRING) is fires
    assert (result.verdict.rule == "QT201") is fires
    assert state(result, "QT202") is State.CANNOT_TELL  # cgroups were not recorded: that is no clear


def test_a_fix_recorded_on_a_real_h100_is_seen_to_help_and_its_undo_to_hurt() -> None:
    """vLLM pinned to a core with four busy loops; `qtop apply cpu-affinity` after 22 s, `qtop undo` 20 s later."""
    result = whole(ROOT / "data/recordings/h100-affinity.qtop")
    turns = [(turn.state, turn.t - result.begin) for turn in result.timeline if turn.rule == "QT201"]
    assert [state for state, _ in turns] == [State.CANNOT_TELL, State.FIRING, State.CLEAR, State.FIRING]
    assert 30 < turns[2][1] < turns[3][1] < 60
    assert "python3 ×4" in result.verdict.headline
    assert [one.knob for one in result.findings[0].remedies] == ["cpu-affinity"]
