"""Several changes one after the other, each a transaction of its own, and what came of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qtop.act.actor import Actor, Wish
from qtop.act.hands import Hands
from qtop.act.knobs import knob
from qtop.act.proof import Judgement
from qtop.act.transaction import Outcome, Policy, Say
from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent


@dataclass(frozen=True)
class Step:
    """One knob that was tried."""

    knob: str
    value: str
    outcome: Outcome | None
    """None where it was not made."""
    why: str = ""
    """Why not."""
    permanent: str = ""
    """What makes it permanent, where it was kept."""
    command: str = ""
    """The same by hand."""

    @property
    def kept(self) -> bool:
        """It stands."""
        return self.outcome is not None and self.outcome.kept

    @property
    def state(self) -> str:
        """In words."""
        return "kept" if self.kept else "put back" if self.outcome is not None else "not made"


@dataclass
class Tuned:
    """What a run did so far."""

    steps: list[Step] = field(default_factory=list)
    total: Judgement | None = None
    """Before the first and after the last, measured once each; None where nothing was kept or it was cut short."""
    left: list[str] = field(default_factory=list)
    """Knobs that were not tried any more."""
    cut: KeyboardInterrupt | None = None
    """What cut it short, where that was a signal."""
    cancelled: bool = False
    """It was cut short: the change under way then was put back."""

    @property
    def kept(self) -> list[Step]:
        """Those that stand."""
        return [step for step in self.steps if step.kept]


def tune(
    actor: Actor,
    wishes: Sequence[Wish],
    say: Say,
    policy: Policy | None = None,
    hands: Hands | None = None,
    on_event: Callable[[ProbeEvent], None] | None = None,
    on_step: Callable[[Tuned], None] | None = None,
) -> Tuned:
    """Try each wish in a transaction of its own. Ctrl-C and ``actor.cancel`` put back the one under way and end it.

    Errors: Refused where the server cannot be measured at all.
    """
    tuned = Tuned()
    left = list(wishes)
    try:
        say("measure", "measuring the server as it is")
        first = actor.measure(on_event)
        while left and not actor.cancelling:
            tuned.steps.append(_tried(actor, left[0], say, policy, hands, on_event))
            if actor.cancelling:
                break
            left.pop(0)
            if on_step is not None:
                on_step(tuned)
        if tuned.kept and not actor.cancelling:
            say("measure", "measuring the server as it is now")
            tuned.total = actor.compared(first, actor.measure(on_event))
    except KeyboardInterrupt as stop:
        tuned.cut = stop
    except QtopError:
        if not actor.cancelling:
            raise
    tuned.cancelled = tuned.cut is not None or actor.cancelling
    tried = {step.knob for step in tuned.steps}
    tuned.left = [name for name, _ in left if name not in tried]
    return tuned


def _tried(
    actor: Actor,
    wish: Wish,
    say: Say,
    policy: Policy | None,
    hands: Hands | None,
    on_event: Callable[[ProbeEvent], None] | None,
) -> Step:
    name, value = wish

    def tell(step: str, text: str) -> None:
        say(step, f"{name}: {text}")

    try:
        outcome = actor.apply([wish], tell, policy=policy, hands=hands, on_event=on_event)
    except QtopError as error:
        return Step(name, value or "", None, "cancelled" if actor.cancelling else str(error))
    plan = outcome.plans[0]
    permanent = knob(name).permanent(plan) if outcome.kept else ""
    return Step(name, plan.value, outcome, permanent=permanent, command=plan.command if outcome.kept else "")
