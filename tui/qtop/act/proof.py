"""Whether it was the change that made the difference: measured before and after, and where they differ, to and fro.

A machine that gets faster by itself between two measurements looks like a change that helps. So a difference is
believed only after the old values were put back for a moment and the change made again, up to ``Meter.rounds`` times,
with each side measured each time. A change that needs a new start of the server is measured once before and once after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

DECIDED = ("improved", "worse")


@dataclass(frozen=True)
class Judgement:
    """What measurements say: "improved", "no effect", "worse" or "cannot tell", in one line and as JSON."""

    verdict: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    clear: bool = False
    """So far beyond the noise that measuring once more would not change it."""


class Meter(Protocol):
    """Measures the server before and after; what it measures is its own affair."""

    rounds: int
    """How often each side is measured at most, where there is a difference to be checked; at least 1."""

    def before(self) -> Any:
        """Measure now."""
        ...

    def after(self, settle_s: float) -> Any:
        """Let what was changed settle, then measure."""
        ...

    def warm_up(self) -> None:
        """Have a server that has just been started do what it is to be measured at: it is slow at first."""
        ...

    def judge(self, befores: list[Any], afters: list[Any]) -> Judgement:
        """Compare what was measured without the change and with it."""
        ...


class Changing(Protocol):
    """A change that was made."""

    @property
    def settle_s(self) -> float:
        """Seconds until a measurement means something."""
        ...

    @property
    def anew(self) -> bool:
        """It has started the server anew."""
        ...

    @property
    def repeats(self) -> bool:
        """It can be put back for a moment and made again."""
        ...

    def apply(self) -> None:
        """Make it again."""
        ...

    def take_back(self) -> None:
        """Put the old values back for a moment."""
        ...


def judged(meter: Meter, before: Any, change: Changing, tell: Callable[[str, str], None]) -> tuple[Judgement, bool]:
    """What a change that was made and not yet measured did, and whether it still stands: it may have been put back."""
    if change.anew:
        tell("measure", "warming up")
        meter.warm_up()
    tell("measure", "measuring after")
    befores, afters = [before], [meter.after(change.settle_s)]
    judgement = meter.judge(befores, afters)
    while judgement.verdict in DECIDED and not judgement.clear and len(befores) < meter.rounds and change.repeats:
        count = len(befores) + 1
        tell("check", f"{judgement.verdict} so far; is it the change? measuring without it, {count} of {meter.rounds}")
        change.take_back()
        befores.append(meter.after(change.settle_s))
        judgement = meter.judge(befores, afters)
        if judgement.verdict not in DECIDED:
            return judgement, False
        tell("check", f"measuring with it, {count} of {meter.rounds}")
        change.apply()
        afters.append(meter.after(change.settle_s))
        judgement = meter.judge(befores, afters)
    return judgement, True
