"""Values that are worth a try for a flag now: arithmetic on what is seen, as the findings reckon, or none."""

from __future__ import annotations

from qtop.diagnose.rule import Observed, Rule
from qtop.diagnose.rules import (
    QT203_api_server_saturated,
    QT301_kv_cache_full,
    QT406_memory_share_too_high,
    QT407_memory_share_too_low,
)
from qtop.diagnose.rules.queueing import FREE, for_capacity
from qtop.errors import Refused
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of, how_many
from qtop.model.vllm_defaults import version_of
from qtop.sample import Absent, Reading, ServerInfo

FULL = 0.8
"""Of the KV cache: below it more requests could run than do."""
NAME_ONE = "Name a value to try one all the same."
AUTO_SINCE = (0, 14, 0)
"""vLLM's --max-model-len auto."""


def _told(reading: Reading[float] | Reading[int], what: str) -> float:
    if isinstance(reading, Absent):
        raise Refused(f"{what} is not known: {reading}", NAME_ONE)
    return float(reading)


def _engine(frame: Frame) -> EngineView:
    if isinstance(frame.engine, Absent):
        raise Refused(f"what the server does is not known: {frame.engine}", NAME_ONE)
    return frame.engine


def fires(rule: Rule, frame: Frame) -> bool:
    """Whether a rule sees, in this frame, what it warns of."""
    answer = rule.look(frame)
    return isinstance(answer, Observed) and answer.value >= min(enter.at for enter in rule.enter)


def max_num_seqs(frame: Frame) -> str:
    """Of each engine: more where requests wait for the limit alone, as many as fit where they are preempted."""
    engine = _engine(frame)
    engines = max(1, len(engine.engines))
    cap = int(_told(cap_of(frame), "how many requests run at once"))
    running, use = _told(engine.running, "how many run"), _told(engine.kv_use, "the use of the KV cache")
    preempts = not isinstance(engine.preempt_s, Absent) and engine.preempt_s > 0.1
    if use >= FULL and preempts and running >= 1 and int(running / use) < cap:
        return str(max(1, int(running / use / engines)))
    if for_capacity(engine) > 0 and running >= cap and use < FREE:
        fit = int(FREE * running / use) if use > 0 else 2 * cap
        if fit > cap:
            return str(min(fit, 2 * cap) // engines)
    raise Refused(f"nothing waits for the limit of {cap} requests", NAME_ONE)


def parallel(frame: Frame) -> str:
    """Twice the slots where requests wait for one."""
    engine = _engine(frame)
    cap = int(_told(cap_of(frame), "how many slots there are"))
    if for_capacity(engine) > 0 and _told(engine.running, "how many run") >= cap:
        return str(2 * cap)
    raise Refused(f"nothing waits for one of the {cap} slots", NAME_ONE)


def gpu_memory_utilization(frame: Frame) -> str:
    """What fits beside others, or what is idle; as QT406 and QT407 reckon."""
    lower = QT406_memory_share_too_high.fitting(frame)
    if lower is not None and fires(QT406_memory_share_too_high.RULE, frame):
        return f"{lower:.2f}"
    higher = QT407_memory_share_too_low.fitting(frame)
    if higher is not None and fires(QT407_memory_share_too_low.RULE, frame):
        return f"{higher:.2f}"
    raise Refused("neither is memory short beside others, nor do requests wait for what is idle", NAME_ONE)


def max_model_len(frame: Frame) -> str:
    """What fits, where the longest request does not."""
    server = frame.server
    if not isinstance(server, ServerInfo):
        raise Refused("the server is not known")
    longest = _told(server.max_model_len, "the longest request")
    held = _told(frame.kv_tokens, "the size of the KV cache")
    if isinstance(frame.engine, EngineView):
        held /= max(1, len(frame.engine.engines))
    if held >= longest:
        raise Refused(f"the longest request ({longest:.0f} tokens) fits the KV cache ({held:.0f})", NAME_ONE)
    known = version_of(server.version) if isinstance(server.version, str) else None
    return "auto" if server.engine == "vllm" and known is not None and known >= AUTO_SINCE else str(int(held))


def kv_cache_dtype(frame: Frame) -> str:
    """Half the bytes a token, where requests wait for the cache of a GPU."""
    if isinstance(frame.gpus, Absent) or not frame.gpus or not fires(QT301_kv_cache_full.RULE, frame):
        raise Refused("nothing waits for the KV cache of a GPU", NAME_ONE)
    if _setting(frame, "kv_cache_dtype").startswith("fp8"):
        raise Refused("the KV cache is fp8 already", NAME_ONE)
    return "fp8"


def api_server_count(frame: Frame) -> str:
    """One more, where one is saturated."""
    if not fires(QT203_api_server_saturated.RULE, frame):
        raise Refused("no API server is saturated", NAME_ONE)
    return str(how_many(frame.sched, frame.settings) + 1)


def enforce_eager(frame: Frame) -> str:
    """Off, where it is on."""
    if _setting(frame, "enforce_eager") != "on":
        raise Refused("CUDA graphs are not turned off by --enforce-eager", NAME_ONE)
    return "off"


def chunked_prefill(frame: Frame) -> str:
    """On, where it is off."""
    if _setting(frame, "enable_chunked_prefill") != "off":
        raise Refused("chunked prefill is not off", NAME_ONE)
    return "on"


def async_scheduling(frame: Frame) -> str:
    """On, where somebody turned it off."""
    if _setting(frame, "async_scheduling") != "off":
        raise Refused("asynchronous scheduling is not off", NAME_ONE)
    return "on"


def _setting(frame: Frame, name: str) -> str:
    one = None if isinstance(frame.settings, Absent) else frame.settings.get(name)
    return "" if one is None else one.value.lower()
