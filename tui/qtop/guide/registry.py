"""All claims, in the guide's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtop.diagnose.engine import Finding
from qtop.guide import cpu, flags, gpu, problems, serving, tiers
from qtop.guide.claim import Checked, Claim
from qtop.guide.experiments import EXPERIMENTS, Experiment
from qtop.guide.seen import Seen, State
from qtop.model.frame import Frame

CLAIMS: tuple[Claim, ...] = (
    *gpu.CLAIMS,
    *tiers.CLAIMS,
    *flags.CLAIMS,
    *cpu.CLAIMS,
    *serving.CLAIMS,
    *problems.CLAIMS,
)
BY_ID = {claim.id.lower(): claim for claim in CLAIMS}


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim with what this machine says of it."""

    claim: Claim
    checked: Checked

    @property
    def action(self) -> str:
        """What to do, "" if nothing."""
        return self.claim.action_for(self.checked)

    @property
    def experiment(self) -> Experiment | None:
        """The guide's remedy as a change that can be tried here; None where there is none."""
        return EXPERIMENTS.get(self.claim.id)


def check_all(frame: Frame, findings: tuple[Finding, ...] = ()) -> tuple[Entry, ...]:
    """Every claim against one frame."""
    seen = Seen(frame, findings)
    return tuple(Entry(claim, claim.check_seen(seen)) for claim in CLAIMS)


def counts(entries: Sequence[Entry]) -> dict[State, int]:
    """How many of each state, all states named."""
    return {state: sum(1 for one in entries if one.checked.state is state) for state in State}
