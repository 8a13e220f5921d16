"""No rule raises, whatever is absent, zero or out of proportion in a frame: a fault in one would stop the sampling."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from qtop.diagnose.registry import RULES
from qtop.diagnose.rule import Observed
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
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return () if dice.random() < 0.05 else tuple(mutated(one, dice, depth + 1) for one in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or depth > 4:
        return value
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        old, kind, chance = getattr(value, field.name), str(field.type), dice.random()
        if depth == 0 and field.name in ("t", "dt"):
            continue
        if chance < 0.12 and not kind.startswith(("dict", "Mapping")) and ("Absent" in kind or "Reading" in kind):
            changes[field.name] = GONE
        elif chance < 0.18 and isinstance(old, float):
            changes[field.name] = dice.choice((0.0, 1e12, 1e-9))
        elif chance < 0.20 and isinstance(old, int) and not isinstance(old, bool):
            changes[field.name] = dice.choice((0, 1, 10**12))
        elif chance < 0.60:
            changes[field.name] = mutated(old, dice, depth + 1)
    return dataclasses.replace(value, **changes)


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
