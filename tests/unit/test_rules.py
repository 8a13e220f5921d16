"""The contract that every rule of the registry keeps: its page, its two recordings, read through the real reader and
diagnosed as `qtop doctor --from` does; and the labelled recordings of real servers."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

import pytest

from qtop.diagnose import rules
from qtop.diagnose.registry import BY_ID, RULES, page
from qtop.diagnose.rule import Severity, State
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.record.convert import import_trace
from qtop.record.reader import Recording

ROOT = Path(__file__).parent.parent
IDS = [rule.id for rule in RULES]
HEADINGS = ("What", "Why it matters", "Evidence", "What to do", "When it is wrong")
HEALTHY = [
    *(ROOT / "data/recordings").glob("h100-steady16.qtop"),
    *(ROOT / "data/recordings/healthy").glob("*.qtop"),
]
"""Recordings of servers that nothing holds back; more may be laid into the folder."""


@cache
def whole(path: Path) -> Whole:
    result = diagnose_all(Recording(path).samples())
    assert result is not None
    return result


@cache
def trace(name: str) -> Whole:
    """A trace imported and diagnosed, once for each worker."""
    out = Path(tempfile.mkdtemp()) / "t.qtop"
    import_trace(ROOT / f"data/traces/{name}.jsonl.xz", out)
    return whole(out)


def state(result: Whole, rule: str) -> State:
    return next(one.state for one in result.findings if one.rule == rule)


def faults(result: Whole) -> list[str]:
    return [f"{one.rule} {one.headline}" for one in result.findings if _is_fault(one.state, one.severity)]


def _is_fault(state: State, severity: Severity) -> bool:
    return state is State.FIRING and severity.rank >= Severity.WARNING.rank


def test_ids_are_in_their_families_and_every_module_is_registered() -> None:
    assert all(re.fullmatch(r"QT[1-6]\d\d", rule) for rule in IDS)
    assert sorted(set(IDS)) == IDS
    folder = Path(rules.__path__[0])
    assert (
        {one.name[:5] for one in folder.glob("QT*.py")} == set(IDS) == {one.name[:5] for one in folder.glob("QT*.md")}
    )


@pytest.mark.parametrize("rule", IDS)
def test_its_page_says_all_that_a_page_must(rule: str) -> None:
    text = page(rule)
    assert text.startswith(f"# {rule} · {BY_ID[rule].title}\n")
    for heading in HEADINGS:
        assert f"**{heading}.**" in text, heading
    for enter in BY_ID[rule].enter:
        assert enter.severity.value in text, f"nothing about {enter.severity.value}"


@pytest.mark.parametrize("rule", IDS)
def test_the_readme_names_it(rule: str) -> None:
    assert rule in (ROOT.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", IDS)
def test_what_it_explains_are_rules(rule: str) -> None:
    assert rule not in BY_ID[rule].explains
    assert all(one in BY_ID for one in BY_ID[rule].explains)


LED_BY = {"QT304": "QT201"}
"""That of QT304 is of a CPU build that gets a CPU for a tenth of the time: that is why its prompts take long."""


@pytest.mark.parametrize("rule", IDS)
def test_it_fires_on_its_recording_and_leads_the_verdict(rule: str) -> None:
    result = whole(ROOT / f"rules/{rule}/fires.qtop")
    found = next(one for one in result.findings if one.rule == rule)
    assert found.state is State.FIRING
    assert found.evidence
    assert found.headline
    if found.severity is not Severity.INFO:
        led = result.verdict.rule
        told = led in (rule, LED_BY.get(rule, rule)) or (led is not None and rule in BY_ID[led].explains)
        assert told, "it leads, or what causes it does"


@pytest.mark.parametrize("rule", IDS)
def test_it_is_quiet_on_the_other(rule: str) -> None:
    assert state(whole(ROOT / f"rules/{rule}/quiet.qtop"), rule) is State.CLEAR


@pytest.mark.parametrize("rule", IDS)
@pytest.mark.parametrize("name", ["fires", "quiet"])
def test_recordings_say_where_they_come_from(rule: str, name: str) -> None:
    assert Recording(ROOT / f"rules/{rule}/{name}.qtop").header.source in ("real", "stub", "synthetic")


@pytest.mark.parametrize("path", HEALTHY, ids=[one.stem for one in HEALTHY])
def test_nothing_fires_on_a_healthy_server(path: Path) -> None:
    result = whole(path)
    assert not faults(result)
    assert result.verdict.rule is None


def test_throttling_is_not_taken_for_contention() -> None:
    result = whole(ROOT / "rules/QT202/fires.qtop")
    assert state(result, "QT201") is not State.FIRING
    assert not any(one.remedies for one in result.findings)


@pytest.mark.parametrize("name", ["idle", "steady1"])
def test_a_healthy_h100_has_no_fault(name: str) -> None:
    assert not faults(trace(name))
    assert trace(name).verdict.rule is None


@pytest.mark.parametrize(("name", "rule"), [("pinned1_hogs", "QT201"), ("longctx", "QT301"), ("power_side", "QT121")])
def test_the_labelled_traces_of_a_real_h100_get_their_true_cause(name: str, rule: str) -> None:
    result = trace(name)
    assert result.verdict.rule == rule
    capped = next(one for one in result.findings if one.rule == "QT110")
    assert capped.severity is Severity.INFO  # a consequence of real work, never a fault


@pytest.mark.parametrize("name", ["idle", "steady1", "longctx", "power_side"])
def test_an_engine_that_gets_its_cpu_is_not_said_to_wait(name: str) -> None:
    assert state(trace(name), "QT201") is State.CLEAR
    assert state(trace(name), "QT202") is State.CANNOT_TELL  # cgroups were not recorded: that is no clear


def test_a_fix_recorded_on_a_real_h100_is_seen_to_help_and_its_undo_to_hurt() -> None:
    """vLLM pinned to a core with four busy loops; `qtop apply cpu-affinity` after 22 s, `qtop undo` 20 s later."""
    result = whole(ROOT / "data/recordings/h100-affinity.qtop")
    turns = [(turn.state, turn.t - result.begin) for turn in result.timeline if turn.rule == "QT201"]
    assert [state for state, _ in turns] == [State.CANNOT_TELL, State.FIRING, State.CLEAR, State.FIRING]
    assert 30 < turns[2][1] < turns[3][1] < 60
    assert "python3 ×4" in result.verdict.headline
    found = next(one for one in result.findings if one.rule == "QT201")
    assert [one.knob for one in found.remedies] == ["cpu-affinity", "neighbours-nice", "neighbours-cpus"]
    assert found.record.times == 2
