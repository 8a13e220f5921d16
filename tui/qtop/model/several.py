"""Several vLLM API servers before the same engines, and several engines: what then means something else.

prometheus_client sums what the API servers observe. Each observes ``iteration_tokens_total`` for every engine step
that had a token of one of its own requests: with two API servers its count grows by up to twice the steps (vLLM 0.32,
metrics/loggers.py, has a TODO on it; seen on a running one: 75 counted a second where 38 were taken). The other sums
are of requests and tokens, and hold.
"""

from __future__ import annotations

from msgspec.structs import replace

from qtop.model.cpu import SchedView
from qtop.model.frame import EngineView, Frame
from qtop.model.settings import SettingsView
from qtop.sample import Absent, Reading, ServerInfo, Why

_OF_STEPS = ("steps_s", "tokens_step")


def how_many(sched: SchedView | Absent, settings: SettingsView | Absent) -> int:
    """API servers of a vLLM, by its processes and by its settings, whichever tell of more; 1 where neither does."""
    seen = 0 if isinstance(sched, Absent) else [one.role for one in sched.threads].count("api")
    told = None if isinstance(settings, Absent) else settings.number("api_server_count")
    return max(1, seen, int(told or 0))


def without_steps(engine: EngineView, api_servers: int) -> EngineView:
    """The server's numbers without those that rest on the count of steps, where several API servers count them."""
    if api_servers < 2:
        return engine
    why = Absent(Why.UNSUPPORTED, f"each of {api_servers} API servers counts the steps that its own requests were in")
    return replace(
        engine,
        steps_s=why,
        tokens_step=why,
        engines=tuple(replace(rank, steps_s=why) for rank in engine.engines),
        sources={name: source for name, source in engine.sources.items() if name not in _OF_STEPS},
    )


def cap_of(frame: Frame) -> Reading[int]:
    """Requests that the server runs at once, all its engines together: a vLLM's --max-num-seqs is each engine's."""
    server, engine = frame.server, frame.engine
    if not isinstance(server, ServerInfo):
        return server
    if isinstance(server.max_running, Absent) or server.engine != "vllm" or isinstance(engine, Absent):
        return server.max_running
    return server.max_running * max(1, len(engine.engines))
