"""TensorRT-LLM (trtllm-serve), by the names on its main branch: most counters move only with ``return_perf_metrics``,
and most gauges only with ``enable_iter_perf_stats``.
"""

from __future__ import annotations

from qtop.model.engines.scrapes import Scrapes
from qtop.model.engines.table import Computed, EngineTable, Histogram, Level, Mean, Rate, Share, SplitRate, Stages
from qtop.sample import Absent, Reading

_ITER = "start trtllm-serve with enable_iter_perf_stats"
_PERF = "start trtllm-serve with return_perf_metrics"


def _t(*names: str) -> tuple[str, ...]:
    return tuple(f"trtllm_{name}" for name in names)


def _capacity(scrapes: Scrapes) -> Reading[float]:
    blocks = scrapes.now.largest(*_t("kv_cache_max_blocks"))
    size = scrapes.now.largest(*_t("kv_cache_tokens_per_block"))
    if isinstance(blocks, Absent):
        return blocks
    return size if isinstance(size, Absent) else blocks * size


TABLE = EngineTable(
    engine="trtllm",
    title="TensorRT-LLM",
    fields={
        "running": Level(_t("num_requests_running"), absent=_ITER),
        "waiting": Level(_t("num_requests_waiting"), absent=_ITER),
        "kv_use": Level(_t("kv_cache_utilization"), pick="max", absent=_ITER),
        "kv_capacity_tokens": Computed(_capacity, "trtllm_kv_cache_max_blocks × trtllm_kv_cache_tokens_per_block"),
        "prefix_hit": Share(_t("kv_cache_reused_blocks_total"), rest=_t("kv_cache_missed_blocks_total"), absent=_ITER),
        "gen_tok_s": Rate(_t("generation_tokens_total"), absent=_PERF, note=", counted when a request ends"),
        "prompt_tok_s": Rate(_t("prompt_tokens_total"), absent=_PERF, note=", counted when a request ends"),
        "finished_s": Rate(_t("request_success_total"), absent=_PERF),
        "finished_by_reason": SplitRate(_t("request_success_total"), "finished_reason", absent=_PERF),
        "itl_ms": Mean(_t("time_per_output_token_seconds"), absent=_PERF, note=", a mean of each request"),
        "spec_accept": Share(
            _t("spec_decode_num_accepted_tokens_total"),
            whole=_t("spec_decode_num_draft_tokens_total"),
            absent="no speculative decoding",
            nothing="nothing drafted in the window",
        ),
        "api_cpu": Rate(("process_cpu_seconds_total",), absent="TensorRT-LLM does not tell"),
    },
    missing={
        "preempt_s": "TensorRT-LLM tells how many are paused, not how often",
        "prefix_queries": "TensorRT-LLM counts blocks, not tokens",
        "steps_s": "TensorRT-LLM tells only how long the last step took",
        "models": "TensorRT-LLM holds one model",
    },
    latencies={
        "queue": Histogram(_t("request_queue_time_seconds")),
        "prefill": Histogram(_t("request_prefill_time_seconds")),
        "decode": Histogram(_t("request_decode_time_seconds")),
        "ttft": Histogram(_t("time_to_first_token_seconds")),
        "itl": Histogram(_t("time_per_output_token_seconds")),
        "e2e": Histogram(_t("e2e_request_latency_seconds")),
    },
    stages=Stages(
        parts={
            "queue": Mean(_t("request_queue_time_seconds")),
            "prefill": Mean(_t("request_prefill_time_seconds")),
            "decode": Mean(_t("request_decode_time_seconds")),
            "ttft": Mean(_t("time_to_first_token_seconds")),
            "itl": Mean(_t("time_per_output_token_seconds")),
        },
        differences={"frontend": ("ttft", "queue", "prefill")},
        finished=_t("request_success_total"),
        first_tokens=_t("time_to_first_token_seconds_count"),
    ),
    token_counters=_t("generation_tokens_total"),
)
