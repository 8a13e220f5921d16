"""What servers other than vLLM tell of their settings over HTTP, on routes that are cheap and open by default.

llama.cpp /props; SGLang /server_info (/get_server_info before); TGI /info. Source of names: the captures of a
llama.cpp, sglang/srt/server_args.py, text-generation-inference's router (Info in router/src/lib.rs).
"""

from __future__ import annotations

from typing import Any

import httpx

from qtop.collect.config_in_force.answers import ask, cut_short, pick
from qtop.collect.http import Access, open_client
from qtop.errors import QtopError
from qtop.sample import Absent, Setting, Why
from qtop.sample.settings import INFO, PROPS, SERVER_INFO

ROUTES = {"llamacpp": PROPS, "sglang": SERVER_INFO, "tgi": INFO}
"""Where each engine tells its settings."""

# fmt: off
_SGLANG: tuple[str | tuple[str, str], ...] = (
    "mem_fraction_static", "kv_cache_dtype", "page_size", "context_length", "max_total_tokens",
    "max_total_num_tokens", "max_running_requests", "max_queued_requests", "chunked_prefill_size",
    "max_prefill_tokens", "schedule_policy", "schedule_conservativeness", "disable_radix_cache",
    "disable_overlap_schedule", "stream_interval", "tp_size", "pp_size", "dp_size", "ep_size",
    "tokenizer_worker_num", "disable_cuda_graph", "cuda_graph_max_bs", "attention_backend", "sampling_backend",
    "quantization", "dtype", "speculative_algorithm", "speculative_num_steps", "enable_torch_compile",
    "cpu_offload_gb", "enable_hierarchical_cache", "load_format", "enable_mixed_chunk",
)
_TGI: tuple[str | tuple[str, str], ...] = (
    ("model_dtype", "dtype"), "max_concurrent_requests", "max_input_tokens", ("max_input_length", "max_input_tokens"),
    "max_total_tokens", "waiting_served_ratio", "max_batch_total_tokens", "max_waiting_tokens", "max_batch_size",
    "validation_workers", "max_client_batch_size",
)
# fmt: on


def settings(access: Access, engine: str) -> tuple[Setting, ...] | Absent | None:
    """Ask this engine's route; None for an engine that has none."""
    route = ROUTES.get(engine)
    if route is None:
        return None
    try:
        with open_client(access) as client:
            answer = _answer(client, engine, route)
    except QtopError as error:
        return Absent(Why.FAILED, str(error))
    return answer if isinstance(answer, Absent) else cut_short(_understood(engine, answer, route), route)


def _answer(client: httpx.Client, engine: str, route: str) -> dict[str, Any] | Absent:
    answer = ask(client, route)
    if engine == "sglang" and isinstance(answer, Absent) and answer.why is Why.UNSUPPORTED:
        return ask(client, "/get_server_info")
    return answer


def _understood(engine: str, answer: dict[str, Any], route: str) -> list[Setting]:
    if engine == "sglang":
        return pick(answer, _SGLANG, route)
    if engine == "tgi":
        return pick(answer, _TGI, route)
    found = pick(answer, (("total_slots", "parallel"), ("model_ftype", "quantization")), route)
    held = answer.get("default_generation_settings")
    if isinstance(held, dict):
        found += pick(held, (("n_ctx", "ctx_size_slot"),), route)
        params = held.get("params")
        if isinstance(params, dict):
            found += pick(params, (("speculative.types", "speculative"),), route)
    return found
