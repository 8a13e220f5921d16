"""``python -m tests.fakes.apply_driver PID VERDICT``: the transaction on a process that is no server.

The real transaction, knob, journal and frame; only the measurement is made up: VERDICT is what it says ("improved",
"no effect", "worse"), "none" for no measurement, "raise" for one that fails, "wait" for one that never ends.
VERDICT "undo" undoes instead, as ``qtop undo`` does, in half its time.
"""

from __future__ import annotations

import sys
import threading

from qtop.act.knobs import knob
from qtop.act.proof import Judgement
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.errors import QtopError, Refused


class Said:
    """A meter that says what it was told to say, at once; with ``rounds`` it wants to see it more often."""

    rounds = 1

    def __init__(self, verdict: str) -> None:
        self._verdict = verdict

    def before(self) -> str:
        return "before"

    def after(self, settle_s: float) -> str:
        if self._verdict == "raise":
            raise Refused("the test prompt failed")
        if self._verdict == "wait":
            threading.Event().wait()
        return "after"

    def warm_up(self) -> None:
        """It takes no time."""

    def judge(self, befores: list[str], afters: list[str]) -> Judgement:
        return Judgement(self._verdict, f"{self._verdict}: made up")


def main() -> int:
    """0 kept, 1 put back or refused, 130 interrupted."""
    pid, verdict = int(sys.argv[1]), sys.argv[2]
    if verdict == "undo":
        print(undo().text)
        return 0
    from tests.fakes.crash import frame_of

    affinity, frame = knob("cpu-affinity"), frame_of(pid)
    meter = None if verdict == "none" else Said(verdict)

    def say(step: str, text: str) -> None:
        print(f"{step}: {text}", flush=True)

    try:
        from qtop.verbs.live import orderly_signals

        with orderly_signals():
            outcome = run([(affinity, lambda: affinity.plan(frame, None))], meter, say)
    except QtopError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return outcome.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
