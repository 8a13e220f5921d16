"""QT501: answers come in one piece: ``stream`` is not in the body, or somebody on the way gathers the stream."""

from __future__ import annotations

from qtop.diagnose.rule import Evidence, Told
from qtop.diagnose.rules.requests import ANY, PROBE, FaultyPrompts, sent, share, times
from qtop.model.requests import RequestsView
from qtop.sample import PromptEnds


class StreamMissing(FaultyPrompts):
    """Share of the test prompts of the last two minutes that were not streamed, 0–1."""

    id = "QT501"
    title = "stream missing or misplaced"

    def faulty(self, own: PromptEnds) -> int:
        """Those that should have been and were not, and bodies that did not ask for it."""
        return own.unstreamed + own.sent_unstreamed

    def told(self, view: RequestsView, own: PromptEnds) -> Told:
        """What to change, and where."""
        lines = [
            Evidence("asked to stream, came in one piece", float(own.unstreamed), "requests", None, PROBE),
            Evidence(
                "bodies of yours without stream: true", float(own.sent_unstreamed), "requests", None, "probe --body"
            ),
            Evidence("share", share(self.faulty(own), own.ended), "of test prompts", ANY[0].at),
            sent(own, view),
        ]
        if not self.faulty(own):
            return Told("", tuple(lines))
        if own.unstreamed >= own.sent_unstreamed:
            headline = (
                f"ANSWERS COME IN ONE PIECE though a stream was asked for ({own.unstreamed} of {own.ended}) — "
                "turn off buffering in the proxy"
            )
            reason = "nginx: proxy_buffering off; without a proxy in between it is the server that ignores stream"
        else:
            headline = (
                f"STREAM IS NOT ASKED FOR by {times(own.sent_unstreamed, 'request', 'requests')} of yours — put "
                '"stream": true into the JSON body'
            )
            reason = "a header does nothing; without a stream no first token can be seen, and proxies may time out"
        return Told(headline, tuple(lines), reason=reason)


RULE = StreamMissing()
