"""A real vLLM 0.25.1 on a real H200, disturbed on purpose (scripts/disturb_gpu.py): the cause is the verdict, it is
named in time, and before the disturbance nothing was. A marker stands at the moment from which the disturbance did."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from qtop.diagnose.engine import Diagnosis
from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import State
from qtop.diagnose.verdict import verdict
from qtop.diagnose.whole import diagnose_all
from qtop.model.derive import Deriver
from qtop.record.reader import Recording

FOLDER = Path(__file__).parent.parent / "data/recordings/disturbed"
CASES = {
    "cpu-starved": ("QT201", 10.0),
    "narrow-affinity": ("QT201", 10.0),
    "another-process-computes": ("QT121", 20.0),
    "pcie-saturated": ("QT112", 20.0),
    "sequence-cap": ("QT303", 20.0),
    "prefill-bound": ("QT304", 45.0),
    "engine-stopped": ("QT305", 10.0),
    "vram-nearly-full": ("QT120", 20.0),
    "api-server-saturated": ("QT203", 20.0),
    "api-server-tokenizes": ("QT309", 45.0),
    "kv-full": ("QT301", 45.0),  # filling 800 000 tokens takes 24 s of it
}
"""The verdict, and how many seconds it may take: critical ones 10, warnings 20, what needs histogram windows 45."""


@cache
def said(name: str) -> tuple[list[tuple[float, str | None]], float]:
    """(seconds since the marker, leading rule) at each sample; and seconds of the recording after the marker."""
    recording = Recording(FOLDER / f"h200-{name}.qtop")
    (marker,) = [event for event in recording.events() if event.kind == "marker"]
    deriver, diagnosis = Deriver(), Diagnosis(RULES)
    lines = []
    for sample in recording.samples():
        frame = deriver.push(sample)
        lines.append((frame.t - marker.t, verdict(frame, diagnosis.push(frame)).rule))
    return lines, lines[-1][0]


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_in_time(name: str) -> None:
    expected, limit = CASES[name]
    lines, _ = said(name)
    named = [t for t, rule in lines if rule == expected and t >= 0]
    assert named and named[0] <= limit


@pytest.mark.parametrize("name", CASES)
def test_nothing_was_wrong_before(name: str) -> None:
    lines, _ = said(name)
    assert {rule for t, rule in lines if t < 0} == {None}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_of_the_whole_recording_is_the_cause(name: str) -> None:
    whole = diagnose_all(Recording(FOLDER / f"h200-{name}.qtop").samples())
    assert whole is not None
    assert whole.verdict.rule == CASES[name][0]


def test_a_card_that_really_was_too_hot() -> None:
    """An H100 in a rack that is cooled badly, at 87 °C under 48 streams: nobody disturbed it, and nvidia-smi says so
    too (SW Thermal Slowdown: Active)."""
    whole = diagnose_all(Recording(FOLDER / "h100-too-hot.qtop").samples())
    assert whole is not None
    assert whole.verdict.rule == "QT101"
    (found,) = [one for one in whole.findings if one.rule == "QT101"]
    assert found.value > 0.9 and "87 °C" in found.headline


def test_a_limit_that_is_raised_by_a_new_start_shows_the_next() -> None:
    """A vLLM on an H100 under 384 clients: 64 at once, started anew for 512 by `qtop apply` (second 108 to 270), then
    its API server cannot keep up. In between it is said what is there: one that stops, is gone, starts."""
    recording = Recording(FOLDER / "h100-cap-raised.qtop")
    deriver, diagnosis = Deriver(), Diagnosis(RULES)
    told: dict[int, tuple[str | None, str]] = {}
    for sample in recording.samples():
        frame = deriver.push(sample)
        said = verdict(frame, diagnosis.push(frame))
        told[round(frame.t - recording.start)] = (said.rule, said.headline)
    assert {told[second][0] for second in range(6, 108)} == {"QT303"}
    assert {told[second][0] for second in range(113, 143)} == {"QT310"}
    assert "ended" in told[144][1]
    assert all("is starting" in told[second][1] for second in range(147, 269))
    assert {told[second][0] for second in range(270, 286)} == {None}
    assert {told[second][0] for second in range(289, 320)} == {"QT203"}


def test_requests_that_come_together_wait_in_the_api_server() -> None:
    """32 clients of a vLLM over two H200: their answers are of one length, so the next requests come at once. Prompts
    of 4 tokens take no time to tokenize."""
    recording = Recording(FOLDER / "h200x2-together.qtop")
    whole = diagnose_all(recording.samples())
    assert whole is not None
    assert whole.verdict.rule == "QT309"
    assert whole.verdict.headline.startswith("API SERVER TAKES LONG") and "TOKENIZING" not in whole.verdict.headline
    assert isinstance(whole.frame.gpus, tuple) and len(whole.frame.gpus) == 2
    assert {one.rule for one in whole.findings if one.state is State.FIRING} == {"QT309"}
