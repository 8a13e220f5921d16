"""Triton: the core's series are per model, durations cumulative µs; its TensorRT-LLM backend adds nv_trt_llm_*.

An ensemble counts a request in each of its models, so the counts of the busiest model stand for the server.
"""

from __future__ import annotations

import msgspec

from qtop.model.engines.scrapes import Read, Scrapes
from qtop.model.engines.table import Computed, EngineTable, Level, Rate, SplitRate
from qtop.model.frame import Stage
from qtop.model.series import Layout, ratio
from qtop.sample import Absent, Reading, Why

_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
_REQUESTS = ("nv_trt_llm_request_metrics",)
_TYPE = "kv_cache_block_type"
_LLM = "told only by Triton's TensorRT-LLM backend"
_PENDING = Level(("nv_inference_pending_request_count",), pick="max")
_SUCCESS = ("nv_inference_request_success",)
_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


class _Either(msgspec.Struct, frozen=True):
    """The backend's figure, else the core's."""

    first: Level
    second: Level

    def plan(self, layout: Layout) -> Read:
        """The first that is there."""
        return (self.first if layout.first(self.first.names, self.first.match) else self.second).plan(layout)


def _capacity(scrapes: Scrapes) -> Reading[float]:
    blocks = scrapes.now.largest(_BLOCKS, match=((_TYPE, "max"),))
    size = scrapes.now.largest(_BLOCKS, match=((_TYPE, "tokens_per"),))
    if isinstance(blocks, Absent) or isinstance(size, Absent):
        return Absent(Why.UNSUPPORTED, _LLM)
    return blocks * size


def _kv_use(scrapes: Scrapes) -> Reading[float]:
    used = scrapes.now.largest(_BLOCKS, match=((_TYPE, "used"),))
    most = scrapes.now.largest(_BLOCKS, match=((_TYPE, "max"),))
    if isinstance(used, Absent) or isinstance(most, Absent):
        return Absent(Why.UNSUPPORTED, _LLM)
    return ratio(used, most, "the KV pool is empty")


def busiest(scrapes: Scrapes) -> str | None:
    """The model with the most requests since the window began; None where none had any."""
    groups = scrapes.now.layout.groups(_SUCCESS[0], "model")
    grown = {
        model: sum(scrapes.now.series[key] - scrapes.begin.series.get(key, 0.0) for key in keys)
        for model, keys in groups.items()
    }
    best = max(grown, key=lambda model: grown[model], default=None)
    return best if best is not None and grown[best] > 0 else None


def stages(scrapes: Scrapes) -> tuple[Stage, ...]:
    """Mean ms a request of the busiest model: outside the model's queue and computation, queue, computation."""
    model = busiest(scrapes)
    nothing = Absent(Why.NOT_YET, "nothing finished in the window")
    if model is None:
        return tuple(Stage(name, nothing) for name in ("frontend", "queue", "compute"))

    def grown(name: str) -> float:
        keys = scrapes.now.layout.groups(name, "model").get(model, ())
        return sum(scrapes.now.series[key] - scrapes.begin.series.get(key, 0.0) for key in keys)

    n = grown(_SUCCESS[0])
    whole = grown("nv_inference_request_duration_us")
    queue, *compute = (grown(f"nv_inference_{part}_duration_us") for part in _PARTS)
    if n <= 0 or min(whole, queue, *compute) < 0:
        return tuple(Stage(name, nothing) for name in ("frontend", "queue", "compute"))
    source = f"of model {model}"
    return (
        Stage("frontend", max(0.0, whole - queue - sum(compute)) / n / 1000.0, f"request less the rest, {source}"),
        Stage("queue", queue / n / 1000.0, f"nv_inference_queue_duration_us {source}"),
        Stage("compute", sum(compute) / n / 1000.0, f"nv_inference_compute_*_duration_us {source}"),
    )


TABLE = EngineTable(
    engine="triton",
    title="Triton",
    fields={
        "running": Level(_REQUESTS, match=(("request_type", "scheduled"),), absent=_LLM),
        "waiting": _Either(Level(_REQUESTS, match=(("request_type", "waiting"),)), _PENDING),
        "kv_use": Computed(_kv_use, f"{_BLOCKS}: used / max"),
        "kv_capacity_tokens": Computed(_capacity, f"{_BLOCKS}: max × tokens_per"),
        "steps_s": Rate(("nv_inference_exec_count",), pick="largest", note=", executions of the busiest model"),
        "finished_s": Rate(_SUCCESS, pick="largest", note=", of the busiest model"),
        "rejections_s": Rate(
            ("nv_inference_request_failure",), match=(("reason", "REJECTED"),), absent="Triton tells it from 24.06 on"
        ),
        "finished_by_reason": SplitRate(("nv_inference_request_failure",), "reason"),
    },
    missing={
        "gen_tok_s": "Triton counts requests, not tokens",
        "prompt_tok_s": "Triton counts requests, not tokens",
        "itl_ms": "Triton counts requests, not tokens",
    },
    rank_label="model",
    ranks={
        "running": Level(_REQUESTS, match=(("request_type", "scheduled"),)),
        "waiting": _PENDING,
        "steps_s": Rate(("nv_inference_exec_count",)),
    },
    token_counters=_SUCCESS,
)
