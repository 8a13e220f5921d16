"""QT504: the server refuses requests that are longer than the model takes."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Evidence, Observed, Rule, Told
from qtop.diagnose.rules.requests import ANY, NONE, PROBE, WRONG, own_of, requests_of, share, times
from qtop.model.frame import Frame
from qtop.model.requests import RequestsView
from qtop.sample import Absent, PromptEnds, ServerInfo
from qtop.units import number

_OTHERS = CannotTell(
    "requests of other clients were refused (4xx) in the last 2 min, and no metric says why: "
    "qtop probe --body FILE tells what is wrong with one"
)


class PromptTooLong(Rule):
    """Share of the test prompts of the last two minutes that the server refused for their length, 0–1."""

    id = "QT504"
    title = "prompt longer than the model takes"
    enter = ANY
    clear = NONE

    def look(self, frame: Frame) -> Answer:
        """qtop's own by the server's words; where no client at all was refused, none was for its length."""
        view = requests_of(frame)
        if isinstance(view, CannotTell):
            return view
        own, refused = own_of(view), view.served.refused
        if isinstance(own, CannotTell):
            if isinstance(refused, Absent):
                return own
            own = PromptEnds()
        if not own.too_long and not isinstance(refused, Absent) and refused > own.failed:
            return _OTHERS
        value = share(own.too_long, own.ended)
        return Observed(value, lambda: _told(frame, view, own), impact=WRONG if value else 0.0, figure="")


RULE = PromptTooLong()


def _told(frame: Frame, view: RequestsView, own: PromptEnds) -> Told:
    room = frame.server.max_model_len if isinstance(frame.server, ServerInfo) else None
    takes = f" ({number(room)} tokens)" if isinstance(room, int) else ""
    lines = [
        Evidence("refused for their length", float(own.too_long), "requests", None, PROBE),
        Evidence("share", share(own.too_long, own.ended), "of test prompts", ANY[0].at),
    ]
    if isinstance(room, int):
        lines.append(Evidence("the model takes, prompt and answer", float(room), "tokens", None, "/v1/models, /props"))
    refused = view.served.refused
    if not isinstance(refused, Absent):
        lines.append(Evidence("refused (4xx), of all clients", refused, f"requests in {view.seconds:.0f} s"))
    if not own.too_long:
        return Told("", tuple(lines))
    return Told(
        f"PROMPT TOO LONG {times(own.too_long, 'request', 'requests')} refused: more than the model takes{takes} — "
        "shorten it, or start with more context",
        tuple(lines),
        reason="nothing is cut off silently: the client gets HTTP 400; vLLM: --max-model-len, llama.cpp: --ctx-size",
    )
