"""Measuring a change with test prompts: short blocks of requests without and with it, compared with a noise band."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from qtop.act.proof import Judgement
from qtop.errors import Refused
from qtop.probe.compare import Change, Comparison, compare, compare_in_turn, known_within
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.runner import ProbeRun
from qtop.probe.timing import ProbeResult

REQUESTS = 6
"""A block has at least so many, and so many more at a time."""
MOST = 24
BLOCK_S = 3.0
"""A block ends after so long, once it has its least number."""
ENOUGH_PCT = 3.0
"""Or when TTFT and the time between tokens are known within this."""
ROUNDS = 3
CLEAR = 3.0
"""A difference so many times as wide as the band needs no third round."""
WARMUP = 1
TOKENS = 32
VERDICTS = {"better": "improved", "within noise": "no effect"}
"""What a comparison of two tests says, in the words for a change."""

Block = list[ProbeResult]


class ProbeMeter:
    """Sends what ``request`` gives, in blocks; ``cancel`` stops it between or within requests.

    Asked for anew each time: a server that was started with other flags may call its model something else.
    """

    rounds = ROUNDS

    def __init__(
        self, request: Callable[[], ProbeRequest], on_event: Callable[[ProbeEvent], None] | None = None
    ) -> None:
        self._request = request
        self._on_event = on_event
        self._cancelled = threading.Event()
        self._run: ProbeRun | None = None

    def cancel(self) -> None:
        """Stop measuring; the measurement under way raises Refused, and the transaction puts things back."""
        self._cancelled.set()
        run = self._run
        if run is not None:
            run.cancel()

    def before(self) -> Block:
        """Measure now. Refused when no request succeeds: what cannot be measured is not changed."""
        results = self._block()
        if not any(result.ok for result in results):
            why = next((result.error for result in results if result.error), "") or "no answer"
            raise Refused(
                f"cannot measure: the test prompt failed ({why})", "Nothing was changed. --no-measure changes without."
            )
        return results

    @property
    def cancelled(self) -> bool:
        """Somebody wants it to end."""
        return self._cancelled.is_set()

    def after(self, settle_s: float) -> Block:
        """Let the change settle, then measure."""
        if self._cancelled.wait(settle_s):
            raise Refused("cancelled")
        return self._block()

    def judge(self, befores: list[Block], afters: list[Block]) -> Judgement:
        """TTFT and ITL medians against the noise band."""
        return self.compared(befores, afters)

    @staticmethod
    def compared(befores: list[Block], afters: list[Block]) -> Judgement:
        """As ``judge``; it takes no server."""
        once = len(befores) == len(afters) == 1
        told = compare(befores[0], afters[0], halves=True) if once else compare_in_turn(befores, afters)
        verdict = VERDICTS.get(told.verdict, told.verdict)
        data = {**msgspec.to_builtins(told), "requests": [_count(befores), _count(afters)]}
        return Judgement(verdict, told.text.replace(told.verdict, verdict, 1), data, not once and _is_clear(told))

    def _block(self) -> Block:
        """Requests one by one, until their figures are known well enough or the time is over."""
        request = self._request()
        deadline = time.monotonic() + BLOCK_S
        results = self._measure(request)
        while (
            all(result.ok for result in results)
            and len(results) < MOST
            and time.monotonic() < deadline
            and not known_within(results, ENOUGH_PCT)
        ):
            results += self._measure(msgspec.structs.replace(request, warmup=0))
        return results

    def _measure(self, request: ProbeRequest) -> Block:
        if self._cancelled.is_set():
            raise Refused("cancelled")
        run = self._run = ProbeRun()
        try:
            run.start(request, self._on_event)
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


def _count(blocks: Sequence[Block]) -> int:
    return sum(len(block) for block in blocks)


def _is_clear(told: Comparison) -> bool:
    return any(_times_the_band(change) >= CLEAR for change in (told.ttft, told.itl))


def _times_the_band(change: Change) -> float:
    return abs(change.change_pct) / change.band_pct if change.change_pct is not None and change.band_pct else 0.0
