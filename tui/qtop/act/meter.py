"""Measuring a change with test prompts: short blocks of requests without and with it, compared with a noise band."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from qtop.act.load import Load, LoadWatch, mean_of, spoils
from qtop.act.proof import Judgement
from qtop.errors import Refused
from qtop.model.frame import Frame
from qtop.probe.compare import NEEDS, Change, Comparison, compare, compare_in_turn, known_within
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.runner import ProbeRun
from qtop.probe.timing import ProbeResult

REQUESTS = 6
"""A block has at least so many, and so many more at a time."""
MOST = 24
BLOCK_S = 3.0
"""A block ends after so long, once it has its least number."""
LONG_S = 60.0
"""Requests that have taken so long stand in a queue: a block then ends with as few as can be compared."""
ENOUGH_PCT = 3.0
"""Or when TTFT and the time between tokens are known within this."""
ROUNDS = 3
CLEAR = 3.0
"""A difference so many times as wide as the band needs no third round."""
WARMUP = 1
TOKENS = 32
VERDICTS = {"better": "improved", "within noise": "no effect"}
"""What a comparison of two tests says, in the words for a change."""

Results = list[ProbeResult]


@dataclass
class Block:
    """Test prompts that were sent one after the other, and what others asked of the server meanwhile."""

    results: Results = field(default_factory=list)
    load: Load | None = None
    """None where it is not known."""
    start: int = 0
    """Which start of the server it was measured on, counted from the meter's first."""


class ProbeMeter:
    """Sends what ``request`` gives, in blocks; ``cancel`` stops it between or within requests.

    Asked for anew each time: a server that was started with other flags may call its model something else. ``frame``
    is what is known of the server now.
    """

    rounds = ROUNDS

    def __init__(
        self,
        request: Callable[[], ProbeRequest],
        frame: Callable[[], Frame],
        on_event: Callable[[ProbeEvent], None] | None = None,
    ) -> None:
        self._request = request
        self._frame = frame
        self._on_event = on_event
        self._cancelled = threading.Event()
        self._run: ProbeRun | None = None
        self._start = 0

    def cancel(self) -> None:
        """Stop measuring; the measurement under way raises Refused, and the transaction puts things back."""
        self._cancelled.set()
        run = self._run
        if run is not None:
            run.cancel()

    def before(self) -> Block:
        """Measure now. Refused when no request succeeds: what cannot be measured is not changed."""
        block = self._block()
        if not any(result.ok for result in block.results):
            why = next((result.error for result in block.results if result.error), "") or "no answer"
            raise Refused(
                f"cannot measure: the test prompt failed ({why})", "Nothing was changed. --no-measure changes without."
            )
        return block

    @property
    def cancelled(self) -> bool:
        """Somebody wants it to end."""
        return self._cancelled.is_set()

    def after(self, settle_s: float) -> Block:
        """Let the change settle, then measure."""
        if self._cancelled.wait(settle_s):
            raise Refused("cancelled")
        return self._block()

    def warm_up(self) -> None:
        """A block that nobody looks at: measured on an idle vLLM, the TTFT of the first after a start is a quarter
        longer."""
        self._start += 1
        self._block()

    def judge(self, befores: list[Block], afters: list[Block]) -> Judgement:
        """TTFT and ITL medians against the noise band."""
        return self.compared(befores, afters)

    @staticmethod
    def compared(befores: list[Block], afters: list[Block]) -> Judgement:
        """As ``judge``; it takes no server."""
        once = len(befores) == len(afters) == 1
        sides = [[block.results for block in side] for side in (befores, afters)]
        anew = once and befores[0].start != afters[0].start
        told = compare(sides[0][0], sides[1][0], halves=True, anew=anew) if once else compare_in_turn(*sides)
        verdict = VERDICTS.get(told.verdict, told.verdict)
        text = told.text.replace(told.verdict, verdict, 1)
        loads = [mean_of([block.load for block in side]) for side in (befores, afters)]
        if why := spoils(verdict, *loads):
            verdict, text = "cannot tell", f"cannot tell: {why}; {text.partition(': ')[2]}"
        data = {**msgspec.to_builtins(told), "requests": [_count(side) for side in sides]}
        data["others"] = [load and {"in_flight": load.in_flight, "tok_s": load.tok_s} for load in loads]
        return Judgement(verdict, text, data, not once and _is_clear(told))

    def _block(self) -> Block:
        """Requests one by one, until their figures are known well enough or the time is over."""
        request, watch = self._request(), LoadWatch(self._frame)
        begun = time.monotonic()
        results = self._measure(request, watch)
        while (
            all(result.ok for result in results)
            and len(results) < MOST
            and time.monotonic() - begun < BLOCK_S
            and not known_within(results, ENOUGH_PCT)
        ):
            results += self._measure(msgspec.structs.replace(request, warmup=0), watch)
        return Block(results, watch.load(results, time.monotonic() - begun), self._start)

    def _measure(self, request: ProbeRequest, watch: LoadWatch) -> Results:
        if self._cancelled.is_set():
            raise Refused("cancelled")

        begun, ended = time.monotonic(), 0

        def heard(event: ProbeEvent) -> None:
            nonlocal ended
            watch.look()
            ended += event.kind == "done"
            if event.kind == "done" and ended >= NEEDS and time.monotonic() - begun > LONG_S:
                run.cancel("the server takes too long for more")
            if self._on_event is not None:
                self._on_event(event)

        run = self._run = ProbeRun()
        try:
            run.start(request, heard)
            if self._cancelled.is_set():  # it came before there was a run to cancel
                run.cancel()
            results = run.wait(request.timeout_s * (request.requests + request.warmup) + 10)
        except BaseException:  # Ctrl-C, SIGTERM: the server must not go on generating for nobody
            run.cancel()
            raise
        if run.running:
            run.cancel()
        if self._cancelled.is_set():
            raise Refused("cancelled")
        if run.error and not results:
            raise Refused(f"cannot measure: {run.error}")
        return results


def _count(blocks: Sequence[Results]) -> int:
    return sum(len(block) for block in blocks)


def _is_clear(told: Comparison) -> bool:
    return any(_times_the_band(change) >= CLEAR for change in (told.ttft, told.itl))


def _times_the_band(change: Change) -> float:
    return abs(change.change_pct) / change.band_pct if change.change_pct is not None and change.band_pct else 0.0
