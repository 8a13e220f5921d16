"""vLLM, 0.8 to 0.33. Names of the V0 engine (num_requests_swapped, *_prefix_cache_hit_rate, time_in_queue_requests, …)
went with it and are not read. Renames: gpu_cache_usage_perc → kv_cache_usage_perc (both 0.9.2 to 0.11),
gpu_prefix_cache_* → prefix_cache_*, time_per_output_token_seconds → inter_token_latency_seconds (0.10.2).
"""

from __future__ import annotations

from qtop.model.engines.scrapes import Scrapes
from qtop.model.engines.table import (
    Computed,
    EngineTable,
    Gain,
    Histogram,
    Level,
    Mean,
    Rate,
    Share,
    Split,
    SplitRate,
    Stages,
)
from qtop.model.serving import LoraView
from qtop.sample import Absent, Reading, Why
from qtop.sample.series import count, split_series

_CONFIG = "vllm:cache_config_info"
_LORA = "vllm:lora_requests_info"


def _v(*names: str) -> tuple[str, ...]:
    return tuple(f"vllm:{name}" for name in names)


_FIRST = "not told: several API servers tell it from the first request on"
_RUNNING = Level(_v("num_requests_running"), absent=_FIRST)
_WAITING = Level(_v("num_requests_waiting"), absent=_FIRST)
_KV_USE = Level(_v("kv_cache_usage_perc", "gpu_cache_usage_perc"), pick="max", absent=_FIRST)
_GENERATED = Rate(_v("generation_tokens_total"))
# iteration_tokens_total is a histogram in spite of its name: its count is the number of engine steps.
_STEPS = Rate(_v("iteration_tokens_total_count"))
_ITL = _v("inter_token_latency_seconds", "time_per_output_token_seconds")
_HITS = _v("prefix_cache_hits_total", "gpu_prefix_cache_hits_total")
_QUERIES = _v("prefix_cache_queries_total", "gpu_prefix_cache_queries_total")


def _capacity(scrapes: Scrapes) -> Reading[float]:
    """Tokens in the KV pools of all engines: kv_cache_size_tokens (0.24 and later), else blocks × block size."""
    found = 0.0
    for key in scrapes.now.layout.named(_CONFIG):
        labels = split_series(key)[1]
        tokens, blocks, size = (
            count(labels.get(name, "")) for name in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
        )
        if tokens is not None:
            found += tokens
        elif blocks is not None and size is not None:
            found += blocks * size
    return found or Absent(Why.UNSUPPORTED, "the server does not tell the size of its KV pool")


def _loras(scrapes: Scrapes) -> LoraView | Absent:
    """The newest of the lora_requests_info series: its value is the Unix time of writing, and old ones stay."""
    keys = scrapes.now.layout.named(_LORA)
    if not keys:
        return Absent(Why.UNSUPPORTED, "no LoRA adapter is in use")
    labels = split_series(max(keys, key=lambda key: scrapes.now.series[key]))[1]
    most = count(labels.get("max_lora", ""))
    return LoraView(
        running=_names(labels.get("running_lora_adapters", "")),
        waiting=_names(labels.get("waiting_lora_adapters", "")),
        max=most if most is not None else Absent(Why.UNSUPPORTED, "the server has no max_lora"),
        used=Absent(Why.UNSUPPORTED, "vLLM does not tell"),
    )


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def _sleep(scrapes: Scrapes) -> Reading[str]:
    """The state whose gauge is 1; of several engines the deepest."""
    groups = scrapes.now.layout.groups("vllm:engine_sleep_state", "sleep_state")
    if not groups:
        return Absent(Why.UNSUPPORTED, "vLLM tells it from 0.12 on")
    for state in ("discard_all", "weights_offloaded", "awake"):
        if any(scrapes.now.series[key] > 0 for key in groups.get(state, ())):
            return state
    return Absent(Why.FAILED, "no sleep state is set")


TABLE = EngineTable(
    engine="vllm",
    title="vLLM",
    fields={
        "running": _RUNNING,
        "waiting": _WAITING,
        "waiting_by_reason": Split(_v("num_requests_waiting_by_reason"), "reason", absent="vLLM tells it from 0.20 on"),
        "kv_use": _KV_USE,
        "kv_capacity_tokens": Computed(_capacity, f"labels of {_CONFIG}"),
        "preempt_s": Rate(_v("num_preemptions_total")),
        "prefix_hit": Share(_HITS, whole=_QUERIES),
        "prefix_queries": Gain(_QUERIES),
        "gen_tok_s": _GENERATED,
        "prompt_tok_s": Rate(_v("prompt_tokens_total")),
        "steps_s": _STEPS,
        "tokens_step": Mean(_v("iteration_tokens_total"), scale=1.0),
        "finished_s": Rate(_v("request_success_total")),
        "finished_by_reason": SplitRate(_v("request_success_total"), "finished_reason"),
        "itl_ms": Mean(_ITL),
        "loras": Computed(_loras, f"labels of the newest {_LORA}"),
        "rejections_s": Rate(
            _v("admission_rejections_total"), absent="vLLM tells it from 0.32 on, with --max-num-queued-reqs or -tokens"
        ),
        "spec_accept": Share(
            _v("spec_decode_num_accepted_tokens_total"),
            whole=_v("spec_decode_num_draft_tokens_total"),
            absent="no speculative decoding",
            nothing="nothing drafted in the window",
        ),
        "sleep": Computed(_sleep, "vllm:engine_sleep_state"),
        "api_cpu": Rate(("process_cpu_seconds_total",), absent="neither several API servers nor older recordings tell"),
    },
    missing={"models": "vLLM holds one model", "scheduler_cpu": "vLLM does not tell; its threads show it"},
    rank_label="engine",
    ranks={
        "running": _RUNNING,
        "waiting": _WAITING,
        "kv_use": _KV_USE,
        "gen_tok_s": _GENERATED,
        "steps_s": _STEPS,
    },
    latencies={
        "queue": Histogram(_v("request_queue_time_seconds")),
        "prefill": Histogram(_v("request_prefill_time_seconds")),
        "decode": Histogram(_v("request_decode_time_seconds")),
        "ttft": Histogram(_v("time_to_first_token_seconds")),
        "itl": Histogram(_ITL),
        "e2e": Histogram(_v("e2e_request_latency_seconds")),
    },
    stages=Stages(
        parts={
            "queue": Mean(_v("request_queue_time_seconds")),
            "prefill": Mean(_v("request_prefill_time_seconds")),
            "decode": Mean(_v("request_decode_time_seconds")),
            "ttft": Mean(_v("time_to_first_token_seconds")),
            "itl": Mean(_ITL),
        },
        differences={"frontend": ("ttft", "queue", "prefill")},  # tokenising, IPC, lag of the event loop
        finished=_v("request_success_total"),
        first_tokens=_v("time_to_first_token_seconds_count"),
        tokens=Mean(_v("request_generation_tokens"), scale=1.0),
    ),
    token_counters=_v("generation_tokens_total"),
)
