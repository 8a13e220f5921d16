"""QT308: the server refuses requests because its queue is full."""

from __future__ import annotations

from functools import lru_cache

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, NotApplicable, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import engine_of, known, said
from qtop.diagnose.rules.queueing import kind_of, queue_lines, title_of
from qtop.model.frame import EngineView, Frame
from qtop.model.settings import SettingsView
from qtop.model.vllm_defaults import version_of
from qtop.sample import Absent, ServerInfo
from qtop.units import number, percent

LIMITS = ("max_num_queued_reqs", "max_num_queued_tokens")
SINCE = (0, 29, 0)
"""The vLLM that has the flags first."""
WITHOUT = frozenset({"llamacpp", "ollama"})


class AdmissionRejections(Rule):
    """Requests refused a second."""

    id = "QT308"
    title = "requests are refused"
    enter = (Enter(Severity.WARNING, at=0.01, seconds=2.0, of=10.0),)
    clear = Clear(below=0.01, seconds=30.0)

    def look(self, frame: Frame) -> Answer:
        """The rate over the tick."""
        if kind_of(frame) in WITHOUT:
            return NotApplicable(f"{title_of(frame)} refuses no request because of its queue")
        engine = engine_of(frame)
        if isinstance(engine, CannotTell):
            return engine
        rate = engine.rejections_s
        if isinstance(rate, Absent):
            why = _unlimited(frame)
            return NotApplicable(why) if why else CannotTell(f"requests refused: {said(rate)}")
        finished = known(engine.finished_s) or 0.0
        impact = rate / (rate + finished) if rate > 0 else 0.0
        return Observed(rate, lambda: _told(frame, engine, rate, impact), impact=impact, figure=f"{number(rate)}/s")


RULE = AdmissionRejections()


def _unlimited(frame: Frame) -> str:
    """Why this vLLM refuses nothing; "" where it may."""
    server = frame.server
    if not isinstance(server, ServerInfo) or server.engine != "vllm":
        return ""
    if isinstance(server.version, str) and _before(server.version):
        return "this vLLM has no limit to its queue (since 0.29)"
    return ""


@lru_cache(maxsize=64)
def _before(version: str) -> bool:
    found = version_of(version)
    return found is not None and found < SINCE


def _told(frame: Frame, engine: EngineView, rate: float, share: float) -> Told:
    lines = [
        Evidence("requests refused", rate, "a second", 0.0, engine.sources.get("rejections_s", "")),
        Evidence("of all that ended", share, "of requests"),
        *queue_lines(frame, engine),
    ]
    limits = _limits(frame)
    lines += [Evidence(f"--{name.replace('_', '-')}", value, "", None, source) for name, value, source in limits]
    limit = f" of {limits[0][1]} (--{limits[0][0].replace('_', '-')})" if len(limits) == 1 else ""
    return Told(
        f"REQUESTS ARE REFUSED: {number(rate)} a second ({percent(share)}) find the queue full{limit} — send less, "
        "or raise it",
        tuple(lines),
    )


def _limits(frame: Frame) -> list[tuple[str, str, str]]:
    if not isinstance(frame.settings, SettingsView):
        return []
    found = [(name, frame.settings.get(name)) for name in LIMITS]
    return [(name, one.value, one.source) for name, one in found if one is not None and one.value != "none"]
