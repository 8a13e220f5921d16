"""Remedies that several rules offer, or that go by the kind of server; which value, the knob proposes."""

from __future__ import annotations

from qtop.diagnose.rule import Remedy
from qtop.diagnose.rules.queueing import kind_of
from qtop.model.frame import Frame
from qtop.sample import Absent

WIDEN = Remedy("cpu-affinity", "widen affinity")
NICE, AWAY = Remedy("neighbours-nice", "lower the others"), Remedy("neighbours-cpus", "move the others off")
_AT_ONCE = Remedy("max-num-seqs", "restart: more at once")
MORE_AT_ONCE = {"vllm": _AT_ONCE, "sglang": _AT_ONCE, "llamacpp": Remedy("parallel", "restart: more slots")}
FEWER_AT_ONCE = Remedy("max-num-seqs", "restart: fewer at once")
SMALLER_CACHE = Remedy("kv-cache-dtype", "restart: fp8 KV cache")
API_SERVERS = Remedy("api-server-count", "restart: one more")
CUDA_GRAPHS = Remedy("enforce-eager", "restart: with graphs")
CHUNKED_PREFILL = Remedy("enable-chunked-prefill", "restart: chunked")
ASYNC_SCHEDULING = Remedy("async-scheduling", "restart: async")
LESS_MEMORY = Remedy("gpu-memory-utilization", "restart: less memory")
MORE_MEMORY = Remedy("gpu-memory-utilization", "restart: more memory")
GOVERNOR = Remedy("cpu-governor", "performance")
PREFERENCE = Remedy("energy-preference", "performance")
NO_BALANCING = Remedy("numa-balancing", "switch it off")
SWAPPINESS = Remedy("swappiness", "swap less")


def more_at_once(frame: Frame) -> tuple[Remedy, ...]:
    """A higher limit of running requests, where this kind of server has one."""
    remedy = MORE_AT_ONCE.get(kind_of(frame))
    return () if remedy is None else (remedy,)


def fewer_at_once(frame: Frame) -> tuple[Remedy, ...]:
    """A lower limit, so that what runs is not preempted."""
    return (FEWER_AT_ONCE,) if kind_of(frame) == "vllm" else ()


def smaller_cache(frame: Frame) -> tuple[Remedy, ...]:
    """Half the bytes a token; on a GPU alone."""
    on_gpu = not isinstance(frame.gpus, Absent) and bool(frame.gpus)
    return (SMALLER_CACHE,) if on_gpu and kind_of(frame) == "vllm" else ()
