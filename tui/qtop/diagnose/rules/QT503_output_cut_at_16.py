"""QT503: answers end after 16 tokens, the default of ``/v1/completions``."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.requests import PROBE, WRONG, own_of, requests_of, share, times
from qtop.model.frame import Frame
from qtop.model.requests import RequestsView, ServedView
from qtop.sample import Absent, PromptEnds, ServerInfo

LEAST = 5.0
"""Requests of all clients: of fewer, most is one or two."""
_DEFAULT_16 = frozenset({"vllm", "sglang", "trtllm", "openai", "unknown"})
_NO_DEFAULT = NotApplicable("this server has no default of 16 tokens")


class OutputCutAt16(Rule):
    """Share of requests of the last two minutes that asked for 16 tokens and were cut there, 0–1."""

    id = "QT503"
    title = "output cut at 16"
    enter = (Enter(Severity.WARNING, at=0.5, seconds=2.0, of=3.0),)
    clear = Clear(below=0.3, seconds=5.0)

    def look(self, frame: Frame) -> Answer:
        """Of all clients by the server's histograms, of qtop's own by their answers; the larger."""
        if isinstance(frame.server, ServerInfo) and frame.server.engine not in _DEFAULT_16:
            return _NO_DEFAULT
        view = requests_of(frame)
        if isinstance(view, CannotTell):
            return view
        own, served = own_of(view), view.served
        if isinstance(own, CannotTell):
            if isinstance(served.cut, Absent) or isinstance(served.finished, Absent):
                return own
            own = PromptEnds()
        value = max(_share(served), share(own.cut_at_16, own.ended))
        return Observed(value, lambda: _told(view, own, served), impact=WRONG * value, figure="")


RULE = OutputCutAt16()


def _share(served: ServedView) -> float:
    """Of all clients' requests; 0 where there are too few."""
    if isinstance(served.cut, Absent) or isinstance(served.finished, Absent) or served.finished < LEAST:
        return 0.0
    return served.cut / served.finished


def _told(view: RequestsView, own: PromptEnds, served: ServedView) -> Told:
    lines = []
    cut, whole = float(own.cut_at_16), float(own.ended)
    if not isinstance(served.cut, Absent) and not isinstance(served.finished, Absent):
        source = "vllm:request_params_max_tokens, request_generation_tokens, request_success{length}"
        lines.append(Evidence("asked for 16 tokens and cut there", served.cut, "requests of all clients", None, source))
        lines.append(Evidence("finished", served.finished, f"requests in {view.seconds:.0f} s"))
        if served.finished >= LEAST:
            lines.append(Evidence("share", served.cut / served.finished, "of all requests", 0.5, "most of them"))
            cut, whole = served.cut, served.finished
    lines.append(Evidence("test prompts cut at 16 without a limit", float(own.cut_at_16), "requests", None, PROBE))
    if not cut:
        return Told("", tuple(lines))
    return Told(
        f"OUTPUT CUT AT 16 TOKENS in {cut:.0f} of {times(whole, 'request', 'requests')} — clients of /v1/completions "
        "must set max_tokens",
        tuple(lines),
        reason="16 is the default of /v1/completions; max_new_tokens and max_completion_tokens do nothing there",
    )
