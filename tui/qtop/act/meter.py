"""Measuring a change with test prompts: the same few requests before and after, compared with a noise band."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from qtop.act.transaction import Judgement
from qtop.errors import Refused
from qtop.probe.compare import compare
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.runner import ProbeRun
from qtop.probe.timing import ProbeResult

REQUESTS = 5
WARMUP = 1
TOKENS = 32
VERDICTS = {"better": "improved", "within noise": "no effect"}
"""What a comparison of two tests says, in the words for a change."""


class ProbeMeter:
    """Runs what ``request`` gives before and after; ``cancel`` stops it between or within requests.

    Asked for anew each time: a server that was started with other flags may call its model something else.
    """

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

    def before(self) -> list[ProbeResult]:
        """Measure now. Refused when no request succeeds: what cannot be measured is not changed."""
        results = self._measure()
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

    def after(self, settle_s: float) -> list[ProbeResult]:
        """Let the change settle, then measure."""
        if self._cancelled.wait(settle_s):
            raise Refused("cancelled")
        return self._measure()

    def judge(self, before: list[ProbeResult], after: list[ProbeResult]) -> Judgement:
        """TTFT and ITL medians against the noise band."""
        result = compare(before, after)
        verdict = VERDICTS.get(result.verdict, result.verdict)
        return Judgement(verdict, result.text.replace(result.verdict, verdict, 1), msgspec.to_builtins(result))

    def _measure(self) -> list[ProbeResult]:
        if self._cancelled.is_set():
            raise Refused("cancelled")
        request = self._request()
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
