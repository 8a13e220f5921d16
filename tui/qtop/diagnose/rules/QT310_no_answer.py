"""QT310: the server does not answer although its process is there, or its process is gone."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import said
from qtop.model.frame import Frame, SchedView
from qtop.sample import Absent, ServerInfo, Why, unanswered
from qtop.units import percent

SECONDS = 5.0
IDLE_CPU = 0.02
"""CPUs' worth of time below which a server does nothing."""


class NoAnswer(Rule):
    """1 while the server does not answer, or is gone, having been there before."""

    id = "QT310"
    title = "server does not answer"
    enter = (Enter(Severity.CRITICAL, at=1.0, seconds=SECONDS, of=SECONDS),)
    clear = Clear(below=1.0, seconds=2.0)
    explains = ("QT305",)

    def look(self, frame: Frame) -> Answer:
        """Whether the last scrape brought an answer, of whatever kind."""
        server = frame.server
        if isinstance(server, Absent):
            before = frame.server_before
            if server.why is not Why.LOST or isinstance(before, Absent):
                return CannotTell(server.detail or "no server")
            return Observed(1.0, lambda: _gone(server, before), impact=1.0, figure="")
        engine = frame.engine
        if isinstance(engine, Absent):
            if not unanswered(engine):
                # An HTTP answer that holds no metrics is an answer; what qtop has not asked yet is none.
                if engine.why in (Why.UNSUPPORTED, Why.DENIED, Why.FAILED):
                    return Observed(0.0, lambda: Told("", (Evidence("the server", said(engine), ""),)), figure="")
                return CannotTell(said(engine))
            return Observed(1.0, lambda: _silence(frame, server, engine), impact=1.0, figure="")
        took = engine.scrape_ms
        return Observed(0.0, lambda: Told("", (Evidence("the server answers within", took, "ms"),)), figure="")


RULE = NoAnswer()


def _gone(server: Absent, before: ServerInfo) -> Told:
    lines = [Evidence("the server", server.detail, ""), Evidence("it was", _name(before), "")]
    return Told(f"SERVER IS GONE: {server.detail} — see its log, and dmesg", tuple(lines))


def _silence(frame: Frame, server: ServerInfo, engine: Absent) -> Told:
    sched = frame.sched
    lines = [Evidence("the last request for its metrics", said(engine), "", None, "one a second, 2 s for its answer")]
    if isinstance(sched, Absent):
        lines.append(Evidence("its processes", said(sched), ""))
    else:
        lines.append(Evidence("its processes", float(sched.processes), "there"))
        if not isinstance(sched.cpu, Absent):
            lines.append(Evidence("CPU they use", sched.cpu, "CPUs"))
        lines += [Evidence("stopped by a signal or a debugger", one, "") for one in sched.stopped]
    return Told(f"SERVER DOES NOT ANSWER: {_why(sched, server, engine)}", tuple(lines))


def _why(sched: SchedView | Absent, server: ServerInfo, engine: Absent) -> str:
    if isinstance(sched, Absent):
        if not server.on_host:
            return f"{said(engine)} — is its host, or the network, down?"
        return f"{said(engine)} — see its log"
    if sched.stopped:
        return f"a signal or a debugger stopped {sched.stopped[0]} — kill -CONT it"
    if engine.why is Why.LOST:
        return f"{said(engine)}, though its process is there — see its log"
    if isinstance(sched.cpu, Absent):
        return "its process is there — see its log"
    if sched.cpu < IDLE_CPU:
        return "its process is there and does nothing — it hangs: see its log, restart"
    return f"its process uses {percent(sched.cpu)} of a CPU and stays silent — its event loop is blocked: see its log"


def _name(server: ServerInfo) -> str:
    model = server.model if isinstance(server.model, str) else ""
    url = server.url if isinstance(server.url, str) else ""
    return " ".join(word for word in (server.engine, model, url) if word)
