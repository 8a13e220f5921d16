"""What qtop's test prompts add up to, and how they ended: the counters that a sample carries."""

from __future__ import annotations

from msgspec.structs import replace

from qtop.probe.lint import LIMIT_IGNORED, LIMIT_MISSING, STREAM_FAULTS
from qtop.probe.messages import ProbeRequest
from qtop.probe.timing import ProbeResult
from qtop.sample import ClientSample, PromptEnds

DEFAULT = 16


class Tally:
    """Counts the requests that ended, warm-ups left out."""

    def __init__(self) -> None:
        self._sums = ClientSample(0.0, 0, 0.0, 0.0, PromptEnds())

    def take(self, request: ProbeRequest, result: ProbeResult, context: int | None = None) -> None:
        """Add a request; ``context`` is what the model takes, tokens, where it is known."""
        old = self._sums
        assert isinstance(old.ends, PromptEnds)
        ends = added(old.ends, request, result, context)
        if result.ttft_ms is None:
            self._sums = replace(old, ends=ends)
            return
        self._sums = ClientSample(
            0.0, old.requests + 1, old.queue_ms + result.client_queue_ms, old.ttft_ms + result.ttft_ms, ends
        )

    def sample(self, at: float) -> ClientSample:
        """The sums so far, stamped with a monotonic second."""
        return replace(self._sums, at=at)


def added(old: PromptEnds, request: ProbeRequest, result: ProbeResult, context: int | None) -> PromptEnds:
    """The counters with one more request. A fault in a body counts where the server took it without a word: one that it
    refused has told its client."""
    ok = result.ok
    return PromptEnds(
        ended=old.ended + 1,
        failed=old.failed + (not ok),
        timed_out=old.timed_out + (not ok and result.timed_out),
        too_long=old.too_long + result.too_long,
        unstreamed=old.unstreamed + result.unstreamed,
        limit_ignored=old.limit_ignored + (ok and limit_ignored(request, result, context)),
        cut_at_16=old.cut_at_16 + (ok and _cut(request, result)),
        sent_unstreamed=old.sent_unstreamed + (ok and not STREAM_FAULTS.isdisjoint(request.faults)),
        sent_unknown_limit=old.sent_unknown_limit + (ok and LIMIT_IGNORED in request.faults),
    )


def limit_ignored(request: ProbeRequest, result: ProbeResult, context: int | None) -> bool:
    """Whether an answer ended for its length after another number of tokens than asked for, with room for more."""
    tokens, prompt = result.completion_tokens, result.prompt_tokens
    if result.finish_reason != "length" or not tokens or not request.asked_tokens or tokens == request.asked_tokens:
        return False
    full = context is not None and prompt is not None and prompt + tokens >= context - 1
    return not full


def _cut(request: ProbeRequest, result: ProbeResult) -> bool:
    """Whether an answer without a limit that the route knows ended after the default of ``/v1/completions``."""
    unlimited = request.asked_tokens == 0 and not {LIMIT_IGNORED, LIMIT_MISSING}.isdisjoint(request.faults)
    return unlimited and result.finish_reason == "length" and result.completion_tokens == DEFAULT
