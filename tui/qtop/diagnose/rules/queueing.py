"""What the rules of the engine's queue share: who waits for what, and how full the KV cache is."""

from __future__ import annotations

from qtop.diagnose.rule import CannotTell, Evidence
from qtop.diagnose.rules.common import engine_of, known, said
from qtop.model.frame import EngineView, Frame
from qtop.sample import Absent, ServerInfo

FULL = 0.90
"""KV cache use from which it counts as full."""
FREE = 0.85
"""KV cache use below which it is not what requests wait for, if another request as large as the others fits."""
COARSE = 0.70
"""KV cache use from which it is asked whether another request fits: few large ones never fill a cache to the brim."""
TITLES = {
    "vllm": "vLLM",
    "llamacpp": "llama.cpp",
    "sglang": "SGLang",
    "tgi": "TGI",
    "trtllm": "TensorRT-LLM",
    "triton": "Triton",
    "ollama": "Ollama",
}


def kind_of(frame: Frame) -> str:
    """The engine's name as in ``ServerInfo.engine``; vLLM where a recording holds metrics and no server."""
    return frame.server.engine if isinstance(frame.server, ServerInfo) else "vllm"


def title_of(frame: Frame) -> str:
    """How a person calls this server."""
    return TITLES.get(kind_of(frame), "the server")


def queue_of(frame: Frame) -> tuple[EngineView, float, float] | CannotTell:
    """The engine, requests that run, and requests that wait for capacity (all that wait, where it gives no reasons)."""
    engine = engine_of(frame)
    if isinstance(engine, CannotTell):
        return engine
    if isinstance(engine.running, Absent):
        return CannotTell(f"how many requests run: {said(engine.running)}")
    if isinstance(engine.waiting, Absent):
        return CannotTell(f"how many requests wait: {said(engine.waiting)}")
    return engine, engine.running, for_capacity(engine)


def for_capacity(engine: EngineView) -> float:
    """Requests that wait for room; those put off for another reason (an adapter, a grammar, a transfer) are not."""
    reasons = engine.waiting_by_reason
    if not isinstance(reasons, Absent) and "capacity" in reasons:
        return reasons["capacity"]
    return known(engine.waiting) or 0.0


def effective(use: float, running: float) -> float:
    """KV cache use, or ``FULL`` where it is lower because one more request as large as those that run does not fit."""
    if COARSE <= use < FULL and running > 0 and use * (running + 1.0) / running > 1.0:
        return FULL
    return use


def queue_ms(frame: Frame) -> float | None:
    """Mean ms that requests of the window queued; None where the server does not tell."""
    if isinstance(frame.waterfall, Absent):
        return None
    for stage in frame.waterfall.stages:
        if stage.name == "queue":
            return known(stage.ms)
    return None


def queue_lines(frame: Frame, engine: EngineView) -> list[Evidence]:
    """The queue, as evidence."""
    lines = [
        Evidence("requests that run", known(engine.running), "requests", None, engine.sources.get("running", "")),
        Evidence("requests that wait", known(engine.waiting), "requests", None, engine.sources.get("waiting", "")),
    ]
    if (ms := queue_ms(frame)) is not None:
        lines.append(Evidence("mean time in the queue", ms, "ms", None, "requests that ended in the window"))
    return lines
