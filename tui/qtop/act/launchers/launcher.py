"""What a launcher is: the way in which a server was started, with which it can be stopped and started again.

The knob ``server-flags`` knows which words to change and when; a launcher knows how. Its launch is JSON and lies in the
journal, so that a later qtop can start the old server again after a kill -9 at any point. It may hold keys: nothing of
it but what ``describe`` and ``warnings`` say is ever shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from qtop.act.change import Work

Launch = dict[str, Any]
"""All that it takes to start the server as it was: at least "argv" (its words as /proc shows them, the executable
first) and, where they can be had, "environ" (list of "NAME=value"), "cwd" and "exe", with which new words are checked
by the server's own parser. ``running`` may leave "ended" in it: how what was started has ended, in words."""


SAY_S = 5.0
"""Between two words on something that takes its time."""


def sayer(work: Work, text: str) -> Callable[[], None]:
    """What a loop that waits calls at each turn: it says "text, 10 s" every few seconds."""
    begun = last = time.monotonic()

    def say() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SAY_S:
            last = now
            work.say(f"{text}, {now - begun:.0f} s")

    return say


class Launcher(Protocol):
    """One kind of launcher, without a state of its own."""

    kind: ClassVar[str]
    """"serve", "bare", "systemd", "docker" or "compose": how the journal calls it."""
    title: ClassVar[str]
    """How a person calls it: "the systemd unit", "the Docker container"."""

    def capture(self, pid: int) -> Launch | None:
        """How the server of this process (the root of its tree) was started; None where it was not in this way.

        Errors: Refused where it was, but not all that a new start takes can be read: says what.
        """
        ...

    def root(self, launch: Launch) -> bool:
        """Whether stopping and starting it takes root, and this process is not."""
        ...

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """What starting it with these words changes and does, a line each, for the preview: files written, commands.
        No secrets, and not the words themselves: the knob shows those."""
        ...

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """What will not be as it was: a terminal that cannot be given back, a supervisor that interferes."""
        ...

    def running(self, launch: Launch) -> list[str] | None:
        """The words of the server that runs now under this launcher, whoever started it; None when none does, also
        when what was started has ended (a zombie has). It takes no right that the user has not."""
        ...

    def configured(self, launch: Launch) -> list[str] | None:
        """The words with which it would be started again while it does not run; None where nothing would start it."""
        ...

    def tidy(self, launch: Launch, work: Work) -> None:
        """Put back what a start with new words left behind, without starting anything: for a server that is down."""
        ...

    def stop(self, launch: Launch, work: Work) -> None:
        """End it: drained where it can drain, then by force; returns when it and its children have ended. No error when
        it has already. What is needed to go on after a kill -9 is in ``launch`` and saved first.

        Errors: Refused when it cannot be stopped.
        """
        ...

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """Start it with these words; returns when it was started, not when it answers. What is needed to find it again
        goes into ``launch`` and is saved before it runs.

        Errors: Refused when it cannot be started, with the reason.
        """
        ...

    def pid(self, launch: Launch) -> int | None:
        """The server's main process now, None when there is none."""
        ...

    def log(self, launch: Launch) -> list[str]:
        """The lines that the server wrote since it was last started here, newest last, a few hundred at most; none
        where they cannot be had."""
        ...

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """What a person does to make these words permanent, as commands or the text of a file; "" if they are."""
        ...

    def check(self, launch: Launch, argv: list[str]) -> None:
        """For the helper: Refused unless this launch is one that ``capture`` finds, and ``argv`` starts the same
        executable."""
        ...
