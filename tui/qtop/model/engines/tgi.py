"""Text Generation Inference, by its metrics reference. Tokens are counted when a request ends."""

from __future__ import annotations

from qtop.model.engines.table import EngineTable, Histogram, Level, Mean, Rate, Stages

_END = ", counted when a request ends"
_PREFILL = (("method", "prefill"),)


def _t(*names: str) -> tuple[str, ...]:
    return tuple(f"tgi_{name}" for name in names)


TABLE = EngineTable(
    engine="tgi",
    title="TGI",
    fields={
        "running": Level(_t("batch_current_size")),
        "waiting": Level(_t("queue_size")),
        "gen_tok_s": Rate(_t("request_generated_tokens_sum"), note=_END),
        "prompt_tok_s": Rate(_t("request_input_length_sum"), note=_END),
        "steps_s": Rate(_t("batch_inference_count"), note=", prefill and decode calls"),
        "finished_s": Rate(_t("request_success")),
        "itl_ms": Mean(_t("request_mean_time_per_token_duration"), note=", a mean of each request"),
        "rejections_s": Rate(_t("request_failure"), match=(("err", "overloaded"),), absent="none so far"),
    },
    missing={
        "kv_capacity_tokens": "TGI tells only how many tokens the present batch may take",
        "models": "TGI holds one model",
    },
    latencies={
        "queue": Histogram(_t("request_queue_duration")),
        "prefill": Histogram(_t("batch_inference_duration"), match=_PREFILL),
        "itl": Histogram(_t("request_mean_time_per_token_duration")),
        "e2e": Histogram(_t("request_duration")),
    },
    stages=Stages(
        parts={
            "frontend": Mean(_t("request_validation_duration")),
            "queue": Mean(_t("request_queue_duration")),
            "prefill": Mean(_t("batch_inference_duration"), match=_PREFILL, note=", a mean of batches"),
            "inference": Mean(_t("request_inference_duration")),
            "itl": Mean(_t("request_mean_time_per_token_duration")),
        },
        differences={"decode": ("inference", "prefill")},
        sums={"ttft": ("frontend", "queue", "prefill")},
        finished=_t("request_success"),
        first_tokens=_t("request_queue_duration_count"),
        tokens=Mean(_t("request_generated_tokens"), scale=1.0),
    ),
    token_counters=_t("request_generated_tokens_sum", "request_count"),
)
