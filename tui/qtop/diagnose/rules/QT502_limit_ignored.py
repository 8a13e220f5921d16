"""QT502: a limit of the answer's length that the server does not know by that name, or does not keep."""

from __future__ import annotations

from qtop.diagnose.rule import Evidence, Told
from qtop.diagnose.rules.requests import ANY, PROBE, FaultyPrompts, sent, share, times
from qtop.model.requests import RequestsView
from qtop.sample import PromptEnds


class LimitIgnored(FaultyPrompts):
    """Share of the test prompts of the last two minutes whose limit was ignored, 0–1."""

    id = "QT502"
    title = "max_new_tokens ignored"
    explains = ("QT503",)

    def faulty(self, own: PromptEnds) -> int:
        """Bodies with a limit under a name that the route ignores, and answers cut elsewhere than asked."""
        return own.limit_ignored + own.sent_unknown_limit

    def told(self, view: RequestsView, own: PromptEnds) -> Told:
        """What to change, and where."""
        lines = (
            Evidence(
                "bodies of yours with a limit that is ignored", float(own.sent_unknown_limit), "requests", None, PROBE
            ),
            Evidence("answers cut elsewhere than asked", float(own.limit_ignored), "requests", None, PROBE),
            Evidence("of all, cut after 16 tokens without a limit", float(own.cut_at_16), "requests"),
            Evidence("share", share(self.faulty(own), own.ended), "of test prompts", ANY[0].at),
            sent(own, view),
        )
        if not self.faulty(own):
            return Told("", lines)
        if own.sent_unknown_limit:
            return Told(
                f"LIMIT IGNORED in {times(own.sent_unknown_limit, 'request', 'requests')} of yours — max_new_tokens "
                "does nothing here: use max_tokens",
                lines,
                reason="the server answers with success all the same; on /v1/completions 16 tokens come",
            )
        return Told(
            f"LIMIT NOT KEPT {times(own.limit_ignored, 'answer was', 'answers were')} cut after another number of "
            "tokens than asked for",
            lines,
            reason="the server may cap answers (vLLM: --override-generation-config with max_new_tokens)",
        )


RULE = LimitIgnored()
