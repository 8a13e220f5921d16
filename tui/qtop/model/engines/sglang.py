"""SGLang, to 0.5.23. The scheduler's series carry tp_rank, pp_rank and (with data parallelism) dp_rank: series that
agree in dp_rank are one engine, written by each of its processes with --enable-metrics-for-all-schedulers. The
tokenizer's carry the model only.
"""

from __future__ import annotations

from qtop.model.engines.scrapes import Scrapes, read
from qtop.model.engines.table import Computed, EngineTable, Gain, Histogram, Level, Mean, Rate, Stages, gain
from qtop.model.series import Copies, ratio
from qtop.model.serving import LoraView
from qtop.sample import Absent, Reading, Why

_RANK = "dp_rank"
_COPIES = Copies(_RANK, ("tp_rank", "pp_rank", "moe_ep_rank"))


def _s(*names: str) -> tuple[str, ...]:
    return tuple(f"sglang:{name}" for name in names)


_RUNNING = Level(_s("num_running_reqs"), copies=_COPIES)
_WAITING = Level(_s("num_queue_reqs"), copies=_COPIES)
_KV_USE = Level(_s("token_usage", "full_token_usage"), pick="max")
_ITL = _s("inter_token_latency_seconds", "time_per_output_token_seconds")


_QUEUES = {
    "capacity": _WAITING,
    "grammar": Level(_s("num_grammar_queue_reqs"), copies=_COPIES),
    "prefill bootstrap": Level(_s("num_prefill_bootstrap_queue_reqs"), copies=_COPIES),
    "decode preallocation": Level(_s("num_decode_prealloc_queue_reqs"), copies=_COPIES),
    "decode transfer": Level(_s("num_decode_transfer_queue_reqs"), copies=_COPIES),
}
"""Those that requests wait in: for capacity, for a grammar, and those of a split prefill and decode."""


def _waiting_by_reason(scrapes: Scrapes) -> dict[str, float] | Absent:
    found: dict[str, float] = {}
    for reason, queue in _QUEUES.items():
        level, _ = read(queue, scrapes)
        if not isinstance(level, Absent):
            found[reason] = level
    return found or Absent(Why.UNSUPPORTED, "SGLang does not tell")


def _prefix_hit(scrapes: Scrapes) -> Reading[float]:
    """Cached prompt tokens over all prompt tokens of the window; the gauge of the last batch where they are missing."""
    cached = gain(scrapes.begin, scrapes.now, _s("cached_tokens_total"))
    if isinstance(cached, Absent):
        return scrapes.now.largest(*_s("cache_hit_rate"))
    return ratio(cached, gain(scrapes.begin, scrapes.now, _s("prompt_tokens_total")), "no prompt in the window")


def _loras(scrapes: Scrapes) -> LoraView | Absent:
    most = scrapes.now.largest(*_s("lora_pool_slots_total"))
    if isinstance(most, Absent):
        return Absent(Why.UNSUPPORTED, "no LoRA adapter is in use")
    unnamed = Absent(Why.UNSUPPORTED, "SGLang tells their number only")
    return LoraView(unnamed, unnamed, most, scrapes.now.largest(*_s("lora_pool_slots_used")))  # of one engine


TABLE = EngineTable(
    engine="sglang",
    title="SGLang",
    fields={
        "running": _RUNNING,
        "waiting": _WAITING,
        "waiting_by_reason": Computed(_waiting_by_reason, "sglang:num_*queue_reqs"),
        "kv_use": _KV_USE,
        "kv_capacity_tokens": Level(_s("max_total_num_tokens"), copies=_COPIES),
        "preempt_s": Rate(
            _s("num_retracted_requests_total"),
            copies=_COPIES,
            absent="none so far, or not counted",
        ),
        "prefix_queries": Gain(_s("prompt_tokens_total")),
        "prefix_hit": Computed(_prefix_hit, "sglang:cached_tokens_total / sglang:prompt_tokens_total"),
        "gen_tok_s": Rate(_s("generation_tokens_total")),
        "prompt_tok_s": Rate(_s("prompt_tokens_total")),
        "steps_s": Rate(_s("cuda_graph_passes_total"), copies=_COPIES, note=", forward passes by CUDA graph mode"),
        "finished_s": Rate(_s("num_requests_total")),
        "itl_ms": Mean(_ITL),
        "loras": Computed(_loras, "sglang:lora_pool_slots_*"),
        "spec_accept": Level(_s("spec_accept_rate"), pick="max", absent="no speculative decoding"),
        "api_cpu": Rate(
            _s("process_cpu_seconds_total"),
            match=(("component", "tokenizer"),),
            absent="SGLang tells it from 0.5.9 on",
        ),
        "scheduler_cpu": Rate(
            _s("scheduler_process_cpu_seconds_total"), pick="largest", absent="SGLang tells it from 0.5.20 on"
        ),
        "scheduler_idle": Rate(
            _s("scheduler_idle_seconds_total"), pick="least", absent="SGLang tells it from 0.5.20 on"
        ),
    },
    missing={"models": "SGLang holds one model"},
    rank_label=_RANK,
    ranks={
        "running": _RUNNING,
        "waiting": _WAITING,
        "kv_use": _KV_USE,
        "gen_tok_s": Level(_s("gen_throughput"), copies=_COPIES),
        "steps_s": Rate(_s("cuda_graph_passes_total"), copies=_COPIES),
    },
    latencies={
        "queue": Histogram(_s("queue_time_seconds"), copies=_COPIES),
        "ttft": Histogram(_s("time_to_first_token_seconds")),
        "itl": Histogram(_ITL),
        "e2e": Histogram(_s("e2e_request_latency_seconds")),
    },
    stages=Stages(
        parts={
            "queue": Mean(_s("queue_time_seconds")),
            "ttft": Mean(_s("time_to_first_token_seconds")),
            "e2e": Mean(_s("e2e_request_latency_seconds")),
            "itl": Mean(_ITL),
        },
        differences={"prefill": ("ttft", "queue"), "decode": ("e2e", "ttft")},
        missing={"frontend": "SGLang does not tell it from prefill"},
        finished=_s("e2e_request_latency_seconds_count"),
        first_tokens=_s("time_to_first_token_seconds_count"),
        tokens=Mean(_s("generation_tokens_histogram"), scale=1.0),
    ),
    token_counters=_s("generation_tokens_total", "prompt_tokens_total"),
)
