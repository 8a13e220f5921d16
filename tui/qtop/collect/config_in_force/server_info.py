"""vLLM's /server_info: the whole configuration as resolved. Routed in development mode only, and the first call costs
the server about 3 s of a core (it gathers facts on its host): asked once, of one's own server, on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtop.collect.config_in_force.answers import ask, cut_short, pick
from qtop.collect.http import Access, open_client
from qtop.errors import QtopError
from qtop.sample import Absent, Setting, Why
from qtop.sample.settings import OPENAPI, SERVER_INFO

PATIENCE_S = 30.0
QUERY = "?config_format=json"
CLOSED = Absent(Why.UNSUPPORTED, "the server answers it in development mode only")
TURNED_OFF = Absent(Why.UNSUPPORTED, "turned off: server_info = false in qtop's settings")

DEV_ROUTES = ("/collective_rpc", "/sleep", "/reset_prefix_cache")
"""Routed in development mode only (source: entrypoints/serve/… of 0.20 to 0.33)."""

# fmt: off
_SECTIONS: dict[str, tuple[str | tuple[str, str], ...]] = {
    "cache_config": (
        "gpu_memory_utilization", ("cache_dtype", "kv_cache_dtype"), "block_size", "kv_cache_size_tokens",
        "num_gpu_blocks", "kv_cache_memory_bytes", "kv_offloading_size", "enable_prefix_caching",
        "num_gpu_blocks_override", "swap_space", "cpu_offload_gb",
    ),
    "model_config": ("max_model_len", "dtype", "quantization", "enforce_eager", "renderer_num_workers", "seed"),
    "scheduler_config": (
        "max_num_seqs", "max_num_batched_tokens", ("policy", "scheduling_policy"), "async_scheduling",
        "stream_interval", "long_prefill_token_threshold", "enable_chunked_prefill", "max_num_queued_reqs",
    ),
    "parallel_config": (
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel",
        "distributed_executor_backend", ("_api_process_count", "api_server_count"), "numa_bind",
        "disable_custom_all_reduce",
    ),
    "compilation_config": ("cudagraph_mode", "max_cudagraph_capture_size"),
    "attention_config": (("backend", "attention_backend"),),
    "load_config": ("load_format",),
    "lora_config": ("max_loras", "max_lora_rank", "max_cpu_loras"),
    "speculative_config": (("method", "speculative_method"), "num_speculative_tokens"),
    "kv_transfer_config": ("kv_connector",),
}
# fmt: on
_GRAPH_MODES = {0: "none", 1: "piecewise", 2: "full", (2, 0): "full_decode_only", (2, 1): "full_and_piecewise"}
"""vLLM's CUDAGraphMode (config/compilation.py), which its JSON gives as numbers."""
_TOP = ("optimization_level", "performance_mode", "shutdown_timeout")


def is_open(environment: Sequence[Setting] | Absent) -> bool:
    """Whether the server was started in development mode, by an environment that only its owner can read."""
    if isinstance(environment, Absent):
        return False
    told = next((one.value for one in environment if one.name == "VLLM_SERVER_DEV_MODE"), "0")
    return told.strip().lstrip("+-").isdigit() and int(told) != 0  # bool(int(…)), as vLLM's envs.py reads it


def dev_mode(access: Access) -> tuple[Setting, ...] | Absent:
    """Whether it runs in development mode, by the routes that it lists: where its environment may not be read."""
    try:
        with open_client(access, PATIENCE_S) as client:
            answer = ask(client, OPENAPI, PATIENCE_S)
    except QtopError as error:
        return Absent(Why.FAILED, str(error))
    if isinstance(answer, Absent):
        return answer
    paths = answer.get("paths")
    if not isinstance(paths, dict):
        return Absent(Why.FAILED, f"{OPENAPI} lists no routes")
    open_ = [path for path in DEV_ROUTES if path in paths]
    return (Setting("VLLM_SERVER_DEV_MODE", "1" if open_ else "0", OPENAPI, f"routes {', '.join(open_)}"),)


def settings(access: Access) -> tuple[Setting, ...] | Absent:
    """Ask, with much patience; Absent where the answer is not understood (before 0.11 it was one line of text)."""
    try:
        with open_client(access, PATIENCE_S) as client:
            answer = ask(client, SERVER_INFO + QUERY, PATIENCE_S)
    except QtopError as error:
        return Absent(Why.FAILED, str(error))
    if isinstance(answer, Absent):
        return Absent(answer.why, answer.detail.replace(QUERY, ""))
    return understood(answer)


def understood(answer: dict[str, Any]) -> tuple[Setting, ...] | Absent:
    """The settings that an answer holds."""
    config = answer.get("vllm_config")
    if not isinstance(config, dict):
        return Absent(Why.UNSUPPORTED, f"{SERVER_INFO} of this version is not JSON")
    found = pick(config, _TOP, SERVER_INFO)
    for section, names in _SECTIONS.items():
        if isinstance(held := config.get(section), dict):
            found += pick(_named(held), names, SERVER_INFO)
    return cut_short(found, SERVER_INFO)


def _named(section: dict[str, Any]) -> dict[str, Any]:
    """A section with its mode of CUDA graphs by name, where it has one that is known."""
    mode = section.get("cudagraph_mode")
    key = tuple(mode) if isinstance(mode, list) else mode
    name = _GRAPH_MODES.get(key) if isinstance(key, int | tuple) and not isinstance(key, bool) else None
    return section if name is None else {**section, "cudagraph_mode": name}
