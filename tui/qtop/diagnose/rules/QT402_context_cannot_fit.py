"""QT402: the longest request that the server is to take needs more KV cache than there is."""

from __future__ import annotations

import msgspec

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import GIB
from qtop.diagnose.rules.configured import Subject, cpu_build, held, subject_of
from qtop.model.frame import Frame
from qtop.model.presets import preset, preset_decoder
from qtop.model.quantised import by_setting, marked
from qtop.model.roofline import Shape, shape_of
from qtop.model.settings import SettingsView
from qtop.sample import Absent
from qtop.units import number

STARTS, ENDED = 1.0, 2.0
OVERHEAD = 0.5 * GIB
"""The least that context, activations and graphs take on a GPU: 1.4 GiB on the H100 measured, so this is generous."""
_WHOLE = frozenset({"auto", "float16", "bfloat16", "none"})


class ContextCannotFit(Rule):
    """The share of the longest request that finds no room, 0–1; 1 more for a server that starts, 2 more for one that
    has ended before it answered."""

    id = "QT402"
    title = "context that cannot fit"
    explains = ("QT310",)
    enter = (
        Enter(Severity.INFO, at=0.01, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=STARTS, seconds=1.0, of=2.0),
        Enter(Severity.CRITICAL, at=ENDED, seconds=1.0, of=2.0),
    )
    clear = Clear(below=0.005, seconds=2.0)

    def look(self, frame: Frame) -> Answer:
        """What is needed against what there is: counted by one that runs, estimated for one that starts."""
        subject = subject_of(frame)
        if not isinstance(subject, Subject):
            return subject
        return _starting(frame, subject) if subject.starting else _running(frame, subject)


RULE = ContextCannotFit()


def _running(frame: Frame, subject: Subject) -> Answer:
    view = subject.settings
    length = None if isinstance(view, Absent) else held(view).number("max_model_len")
    if length is None:
        return CannotTell("the longest request that it takes: neither /v1/models nor its command line tells")
    if isinstance(frame.kv_tokens, Absent):
        return CannotTell(f"the size of its KV cache: {frame.kv_tokens}")
    engines = 1 if isinstance(frame.engine, Absent) else max(1, len(frame.engine.engines))
    pool = frame.kv_tokens / engines
    short = max(0.0, 1.0 - pool / length)
    return Observed(short, lambda: _counted(length, pool), figure="")


def _counted(length: float, pool: float) -> Told:
    lines = (
        Evidence("max_model_len", length, "tokens", pool, "must not exceed the KV cache of an engine"),
        Evidence("KV cache of an engine", pool, "tokens", None, "cache_config_info of /metrics"),
    )
    if pool >= length:
        return Told("the longest request fits the KV cache", lines)
    return Told(
        f"CONTEXT CANNOT FIT: requests may have {number(length)} tokens, the KV cache holds {number(pool)}; "
        "set --max-model-len auto",
        lines,
    )


class _Need(msgspec.Struct, frozen=True):
    length: float
    token: float
    """Bytes of KV cache."""
    room: float
    """Bytes at most."""
    how: str
    """How ``room`` came about."""


def _starting(frame: Frame, subject: Subject) -> Answer:
    view, model = subject.settings, subject.info.model
    if isinstance(view, Absent):
        return CannotTell(f"its configuration: {view}")
    length = _length(view, model if isinstance(model, str) else "")
    if isinstance(length, CannotTell):
        return length
    if length <= 0:
        return Observed(0.0, lambda: Told("--max-model-len auto takes what fits", ()), figure="")
    shape = shape_of(model) if isinstance(model, str) else None
    if shape is None:
        return CannotTell("how much KV cache a token takes: the shape of this model is not known here")
    need = _need(frame, subject, view, shape, length)
    if isinstance(need, CannotTell):
        return need
    asked = need.length * need.token
    if asked <= need.room:
        return Observed(0.0, lambda: _estimated(subject, need), figure="")
    short = min(0.99, 1.0 - max(0.0, need.room) / asked)
    grade = ENDED if subject.ended else STARTS
    return Observed(grade + short, lambda: _estimated(subject, need), impact=1.0, figure=f"{asked / GIB:.1f} GiB")


def _length(view: SettingsView, model: str) -> float | CannotTell:
    """Tokens; 0 for as many as fit."""
    one = held(view).by_name.get("max_model_len")
    if one is not None:
        if one.value in ("auto", "-1"):
            return 0.0
        told = held(view).number("max_model_len")
        if told is not None:
            return told
    known = preset(model)
    if known is None:
        return CannotTell("how long this model's context is: not known here")
    return float(preset_decoder(known.name).positions)


def _need(frame: Frame, subject: Subject, view: SettingsView, shape: Shape, length: float) -> _Need | CannotTell:
    token = shape.kv_token * _cache_factor(view)
    if cpu_build(subject.info, view):
        space = held(view).number("VLLM_CPU_KVCACHE_SPACE")
        if not space:
            return CannotTell("how much KV cache it takes: VLLM_CPU_KVCACHE_SPACE is not set or not readable")
        return _Need(length, token, space * GIB, f"VLLM_CPU_KVCACHE_SPACE={space:g}")
    world = (held(view).number("tensor_parallel_size") or 1.0) * (held(view).number("pipeline_parallel_size") or 1.0)
    exact = held(view).number("kv_cache_memory_bytes")
    if exact:
        return _Need(length, token, exact * world, "--kv-cache-memory-bytes")
    if isinstance(frame.gpus, Absent):
        return CannotTell(f"the memory of its GPU: {frame.gpus}")
    totals = [one.mem_total for one in frame.gpus if not isinstance(one.mem_total, Absent)]
    share = held(view).number("gpu_memory_utilization")
    if not totals or share is None:
        return CannotTell("the memory that it may use of its GPU")
    weights = (
        shape.resident * _weights_factor(subject, view) - (held(view).number("cpu_offload_gb") or 0.0) * GIB * world
    )
    room = world * (max(totals) * share - OVERHEAD) - max(0.0, weights)
    how = (
        f"{world:g} × ({max(totals) / GIB:.1f} GiB × {share:g} − {OVERHEAD / GIB:g}) − {max(0.0, weights) / GIB:.1f} "
        "GiB of weights"
    )
    return _Need(length, token, room, how)


def _cache_factor(view: SettingsView) -> float:
    """Bytes of a cached value against bf16's, at the least."""
    one = held(view).by_name.get("kv_cache_dtype")
    value = "auto" if one is None else one.value.lower()
    if value in _WHOLE:
        return 1.0
    return 0.5 if value.startswith(("fp8", "int8")) else 3 / 16


def _weights_factor(subject: Subject, view: SettingsView) -> float:
    """Bytes of the weights against bf16's, at the least: a checkpoint may be quantised without a word of it."""
    quantised = held(view).by_name.get("quantization")
    model = subject.info.model
    plain = quantised is None or not by_setting(quantised.value)
    known = isinstance(model, str) and model.startswith("Qwen/") and "-" in model and not marked(model)
    return 1.0 if plain and known else 0.25


def _estimated(subject: Subject, need: _Need) -> Told:
    asked = need.length * need.token
    lines = (
        Evidence("longest request", need.length, "tokens"),
        Evidence("KV cache of one token", need.token / 1024, "KiB", None, "2 · layers · KV heads · head size · bytes"),
        Evidence("KV cache needed", asked / GIB, "GiB", need.room / GIB, "the most there can be"),
        Evidence("the most there can be", f"{need.room / GIB:.1f} GiB", "", None, need.how),
    )
    if asked <= need.room:
        return Told("the longest request may fit", lines)
    fate = "and vLLM ended" if subject.ended else "and vLLM will end"
    return Told(
        f"CONTEXT CANNOT FIT {fate}: {number(need.length)} tokens × {need.token / 1024:.0f} KiB = "
        f"{asked / GIB:.1f} GiB of KV cache, room for {max(0.0, need.room) / GIB:.1f}; --max-model-len auto",
        lines,
    )
