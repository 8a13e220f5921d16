"""No rule raises, whatever is absent, zero or out of proportion in a frame: a fault in one would stop the sampling."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Observed
from qtop.model.cpu import ThreadView
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.record.reader import Recording
from qtop.report.text import evidence_text
from qtop.sample import Absent, Why

ROOT = Path(__file__).parent.parent
RECORDINGS = (
    *sorted((ROOT / "data/recordings").glob("h100-*.qtop")),
    *sorted((ROOT / "data/recordings/disturbed").glob("*.qtop"))[:3],
    *(ROOT / f"rules/{rule}/fires.qtop" for rule in ("QT104", "QT120", "QT205", "QT303", "QT401", "QT505", "QT601")),
)
GONE = Absent(Why.DENIED, "not to be had")


def frames() -> list[Frame]:
    """The middle and the last but one of each recording."""
    found = []
    for path in RECORDINGS:
        deriver = Deriver()
        derived = [deriver.push(sample) for sample in Recording(path).samples()]
        found += [derived[len(derived) // 2], derived[-2]]
    return found


def mutated(value: Any, dice: random.Random, depth: int = 0) -> Any:
    """The same with some of what may be absent gone, and some numbers out of proportion."""
    if isinstance(value, tuple) and value and _is_view(value[0]):
        return () if dice.random() < 0.05 else tuple(mutated(one, dice, depth + 1) for one in value)
    if not _is_view(value) or depth > 4:
        return value
    changes: dict[str, Any] = {}
    for name, kind in type(value).__annotations__.items():
        old, chance = getattr(value, name), dice.random()
        if depth == 0 and name in ("t", "dt"):
            continue
        if chance < 0.12 and not kind.startswith(("dict", "Mapping")) and ("Absent" in kind or "Reading" in kind):
            changes[name] = GONE
        elif chance < 0.18 and isinstance(old, float):
            changes[name] = dice.choice((0.0, 1e12, 1e-9))
        elif chance < 0.20 and isinstance(old, int) and not isinstance(old, bool):
            changes[name] = dice.choice((0, 1, 10**12))
        elif chance < 0.60:
            changes[name] = mutated(old, dice, depth + 1)
    return replace(value, **changes)


def _is_view(value: Any) -> bool:
    """What the model made, not what was read; threads stay, as a view without them is none."""
    made = isinstance(value, msgspec.Struct) and type(value).__module__.startswith("qtop.model")
    return made and not isinstance(value, ThreadView)


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_raises(seed: int) -> None:
    dice, known = random.Random(seed), frames()
    for _ in range(200):
        frame = mutated(dice.choice(known), dice)
        for rule in RULES:
            answer = rule.look(frame)
            if isinstance(answer, Observed):
                assert answer.value == answer.value, f"{rule.id}: not a number"
                assert 0.0 <= answer.impact <= 1.0
                told = answer.told
                assert "\n" not in told.headline
                assert all(evidence_text(one) for one in told.evidence)
            else:
                assert answer.reason, f"{rule.id} says nothing"
