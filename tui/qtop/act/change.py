"""What a knob is: something that can be read, proposed, applied, read back and put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qtop.errors import Refused
from qtop.model.frame import Frame

Record = dict[str, Any]
"""What the journal keeps of one change, all JSON: targets with their old and new values. The knob alone knows more."""


def _deaf(_: str) -> None:
    """Progress that nobody wants to hear of."""


@dataclass(frozen=True)
class Work:
    """What a knob has at hand while it applies or restores."""

    save: Callable[[], None] = lambda: None
    """Writes the record to the journal once more; when it returns, what was added to the record is on disk."""
    say: Callable[[str], None] = _deaf
    """Progress in words, for what takes longer than a second."""
    cancelled: Callable[[], bool] = lambda: False
    """True once somebody wants it to end: what waits for long looks now and then, and raises Refused."""


@dataclass(frozen=True)
class Plan:
    """A change that could be made now: what it would do, in words, and the record that the journal keeps."""

    knob: str
    value: str
    """The value asked for or proposed, as a user would write it."""
    summary: str
    preview: tuple[str, ...]
    """One line each: what changes from what to what, for how many."""
    record: Record
    warnings: tuple[str, ...] = ()
    """What could go wrong, or hurt."""
    command: str = ""
    """What a person would type to do the same, "" where there is no such command."""
    root: bool = False
    """It takes root, and this process is not: the helper does it."""
    right: str = "none beyond your own"
    """Whose right it takes, in words."""
    hurts: str = "requests in flight go on"
    """Whether requests in flight are hurt."""
    undone: str = "`qtop undo` puts the old value back"
    """How it is undone."""
    settle_s: float = 1.0
    """Seconds from the change until a measurement means something."""
    restart: bool = False
    """The server is started anew, and again to put the change back."""
    keep: str = ""
    """What has to be shown for it to stay where it is wanted for more than speed: "unless worse" or "always" (nothing
    can put it back); "": whoever asks for the change decides."""
    repeats: bool = True
    """It can be put back for a moment and made again without harm, to see whether it was the change that helped."""

    @property
    def lines(self) -> tuple[str, ...]:
        """All of the preview but the warnings."""
        told = (
            ("the same by hand", self.command),
            ("right", self.right),
            ("while it is made", self.hurts),
            ("undone by", self.undone),
        )
        return (*self.preview, *(f"{what}: {text}" for what, text in told if text))


@dataclass(frozen=True)
class Drift:
    """A value that is neither the old one nor the one qtop wrote: somebody else changed it."""

    what: str
    old: str
    written: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: before qtop {self.old}, qtop wrote {self.written}, now {self.now}"


@dataclass(frozen=True)
class Value:
    """One target: its value before qtop, the one qtop wrote, and the one it holds now; None: it no longer exists."""

    what: str
    old: str
    new: str
    now: str | None


@dataclass
class Reading:
    """What a record's targets read now."""

    targets: int = 0
    new: int = 0
    """Targets that hold the value qtop wrote."""
    old: int = 0
    """Targets that hold the value from before."""
    gone: int = 0
    """Targets that no longer exist."""
    drifted: list[Drift] = field(default_factory=list)
    values: list[Value] = field(default_factory=list, compare=False)
    """Each target, for a person to read: no secret may stand in one."""
    elsewhere: str = ""
    """Why the targets cannot be seen from here although they may exist, one clause; else ""."""

    @property
    def all_gone(self) -> bool:
        """Nothing is left to restore."""
        return self.targets == self.gone and not self.elsewhere

    def put(self, what: str, old: str, new: str, now: str | None) -> None:
        """Count one target; None: it no longer exists."""
        self.targets += 1
        self.values.append(Value(what, old, new, now))
        if now is None:
            self.gone += 1
        elif now == new:
            self.new += 1
        elif now == old:
            self.old += 1
        else:
            self.drifted.append(Drift(what, old, new, now))


class Knob:
    """One setting of the server or the host. Subclasses have one instance each and no state of their own."""

    id: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[str]
    """The right it takes, in words."""
    example: ClassVar[str] = ""
    """A value as a user would write it."""
    by_neighbours: ClassVar[bool] = False
    """What it proposes depends on who else is on the server's CPUs, which takes some readings to see."""

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """What a change to ``value`` (None: what qtop proposes) would do.

        Errors: Refused when it cannot or need not be done; QtopError for a value that cannot be meant.
        """
        raise NotImplementedError

    def fits(self, frame: Frame) -> bool:
        """Whether a server of this kind has such a setting at all."""
        return True

    def apply(self, record: Record, work: Work) -> None:
        """Make the change; OSError or Refused when it fails part-way (the transaction then restores).

        A target found only now is added to the record, and ``work.save`` called, before it is touched.
        """
        raise NotImplementedError

    def read(self, record: Record) -> Reading:
        """What the targets hold now. Takes no right that the user has not."""
        raise NotImplementedError

    def restore(self, record: Record, work: Work) -> None:
        """Put each target that holds qtop's value back to its old one; Refused, after all others, if one cannot be."""
        raise NotImplementedError

    def check(self, record: Record) -> None:
        """For the helper, which is root and believes nobody: Refused unless every target and value in the record is one
        that this knob itself could have written there."""
        raise Refused(f"{self.id} is not done by root on somebody else's behalf")

    def shown(self, record: Record) -> Record:
        """What of a record may be shown: without secrets."""
        return record

    def lasting(self, plan: Plan) -> tuple[str, str] | None:
        """A file, and its text, that would make ``plan`` outlast a restart of the host; None where there is none."""
        return None

    def permanent(self, plan: Plan) -> str:
        """What a person writes or types to make ``plan`` permanent; "" where nothing does."""
        file = self.lasting(plan)
        if file is not None:
            return f"# {file[0]}\n{file[1].rstrip()}"
        return plan.command if plan.restart else ""
