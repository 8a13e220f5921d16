"""What vLLM takes where nobody says otherwise, by version.

Source: vllm/engine/arg_utils.py (get_batch_defaults, _set_default_…_args), vllm/config/*.py and
vllm/entrypoints/cli/serve.py of the wheels 0.9.2, 0.10.0, 0.10.2, 0.11.0–0.11.2, 0.12–0.20, 0.22–0.28, 0.30 and 0.32;
"since" is the first of these that has it. They are the defaults of ``vllm serve``, not of the offline class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

Version = tuple[int, int, int]

OLDEST: Version = (0, 9, 2)
NEWEST: Version = (0, 33, 0)
"""The newest version whose defaults are known; later ones are taken to have the same, and say so."""
GIB = 1 << 30


class Default(msgspec.Struct, frozen=True):
    """A value from version ``since`` to before ``until``."""

    name: str
    value: str
    since: Version = OLDEST
    until: Version | None = None
    note: str = ""


DEFAULTS = (
    # config/cache.py: 0.9 to 0.19, 0.92 since
    Default("gpu_memory_utilization", "0.9", until=(0, 20, 0)),
    Default("gpu_memory_utilization", "0.92", since=(0, 20, 0)),
    Default("kv_cache_dtype", "auto", note="the model's dtype"),
    Default("block_size", "16", note="some attention backends take more"),
    Default("swap_space", "4", until=(0, 18, 0), note="GiB; the V1 engine does not use it"),
    Default("cpu_offload_gb", "0"),
    Default("kv_offloading_size", "none", since=(0, 11, 1)),
    # arg_utils.py: on for every model that supports it
    Default("enable_chunked_prefill", "on", note="for models that support it"),
    Default("enable_prefix_caching", "on", note="for models that support it"),
    # config/scheduler.py: False to 0.13; config/vllm.py decides since 0.14
    Default("async_scheduling", "off", since=(0, 10, 0), until=(0, 14, 0)),
    Default("async_scheduling", "on", since=(0, 14, 0), note="unless the device or another setting forbids it"),
    Default("scheduling_policy", "fcfs"),
    Default("stream_interval", "1", since=(0, 11, 1)),
    Default("long_prefill_token_threshold", "0"),
    Default("performance_mode", "balanced", since=(0, 17, 0)),
    Default("optimization_level", "2", since=(0, 12, 0)),
    Default("tensor_parallel_size", "1"),
    Default("pipeline_parallel_size", "1"),
    Default("data_parallel_size", "1"),
    Default("renderer_num_workers", "1", since=(0, 19, 0)),
    Default("enforce_eager", "off", note="CUDA graphs are used"),
    Default("quantization", "none", note="unless the model's own configuration says otherwise"),
    Default("dtype", "auto"),
    Default("speculative_config", "none"),
)

RETIRED: Mapping[str, tuple[Version | None, str]] = {
    "num_scheduler_steps": ((0, 10, 2), ""),
    "multi_step_stream_outputs": ((0, 10, 2), ""),
    "use_v2_block_manager": ((0, 10, 0), ""),
    "device": ((0, 10, 0), ""),
    "enable_reasoning": ((0, 10, 0), ""),
    "scheduler_delay_factor": ((0, 11, 0), ""),
    "preemption_mode": ((0, 11, 0), ""),
    "max_seq_len_to_capture": ((0, 11, 0), ""),
    "disable_async_output_proc": ((0, 11, 0), ""),
    "num_lookahead_slots": ((0, 12, 0), ""),
    "guided_decoding_backend": ((0, 12, 0), "structured_outputs_config has taken its place"),
    "task": ((0, 13, 0), ""),
    "cuda_graph_sizes": ((0, 13, 0), ""),
    "disable_log_requests": ((0, 17, 0), "requests are logged only with enable_log_requests"),
    "swap_space": ((0, 18, 0), ""),
    "max_num_partial_prefills": ((0, 27, 0), ""),
    "calculate_kv_scales": ((0, 28, 0), ""),
    "load_in_4bit": (None, ""),
    "load_in_8bit": (None, ""),
    "max_new_tokens": (None, ""),
    "enable_metrics": (None, ""),
}
"""Flags that the parser refuses: since which version (None: it never knew them), and what is there instead."""


def version_of(text: str) -> Version | None:
    """The first three numbers of a version ("0.25.1", "v0.11.1rc2.dev1+g12"), None where there are none."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def described(version: Version) -> str:
    """ "default of vLLM 0.25", and which version's table is used for one newer than all."""
    if version >= (NEWEST[0], NEWEST[1] + 1, 0):
        return f"default of vLLM {NEWEST[0]}.{NEWEST[1]}, the newest that qtop knows"
    return f"default of vLLM {version[0]}.{version[1]}"


def defaults(version: Version) -> dict[str, Default]:
    """The defaults of a version that depend on nothing else; empty for one older than ``OLDEST``."""
    if version < OLDEST:
        return {}
    return {one.name: one for one in DEFAULTS if version >= one.since and (one.until is None or version < one.until)}


CPU_BUILD = (
    Default("block_size", "128", since=(0, 32, 0), note="the CPU build's"),
    Default("async_scheduling", "off", since=(0, 32, 0), note="the CPU build's"),
)
"""What platforms/cpu.py decides otherwise; read in 0.32, not known of those before."""


def of_cpu_build(found: Mapping[str, Default], version: Version) -> dict[str, Default]:
    """The defaults of the CPU build, of those of the same version for a GPU."""
    differing = {one.name: one for one in CPU_BUILD}
    kept = {name: one for name, one in found.items() if name not in differing}
    return kept | {name: one for name, one in differing.items() if version >= one.since}


class Gpu(msgspec.Struct, frozen=True):
    """What decides the batch: the device's memory in bytes and its name. ``memory`` 0: not a GPU but the CPU build."""

    memory: int
    name: str


def batch(version: Version, gpu: Gpu, world: int = 1, throughput: bool = False) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens) of an API server on this GPU, before the model's own bounds.

    ``world``: processes that share the model (TP × PP), which count on a CPU only. ``throughput``: performance_mode.
    """
    if gpu.memory == 0:
        seqs, tokens = (128 * world, 2048 * world) if version >= (0, 10, 0) else (32, 2048)
    elif version >= (0, 28, 0) and gpu.memory >= 160 * GIB:
        seqs, tokens = 1024, 16384
    elif gpu.memory >= 70 * GIB and "a100" not in gpu.name.lower():
        seqs, tokens = 1024, 8192
    else:
        seqs, tokens = 256, 2048
    if throughput and version >= (0, 17, 0):
        seqs, tokens = 2 * seqs, 2 * tokens
    return min(seqs, tokens), tokens


def retired(name: str, version: Version) -> str:
    """Why a flag is none of this version's, "" if nothing speaks against it."""
    if name not in RETIRED:
        return ""
    gone, instead = RETIRED[name]
    if gone is None:
        return "not a flag of vLLM"
    if version < gone:
        return ""
    told = f"not a flag of vLLM since {gone[0]}.{gone[1]}"
    return f"{told}: {instead}" if instead else told
