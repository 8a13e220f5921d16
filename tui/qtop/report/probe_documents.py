"""Results of test prompts as JSON and CSV.

The document carries, beside qtop's own ``summary`` and ``results``, the fields of a result file of ``vllm bench serve``
under their names where they mean the same (seconds in ``ttfts`` and ``itls``, ms elsewhere), so that what reads those
reads these. A figure that the number of requests does not support is left out rather than made up.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from qtop.probe.messages import ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.summary import Stat, Summary
from qtop.probe.timing import ProbeResult
from qtop.report.documents import SCHEMA, plain
from qtop.watch import ServerWindow

COLUMNS = (
    *("i", "ok", "error", "timed_out", "started", "ended", "endpoint", "stamps", "client_queue_ms", "connect_ms"),
    *("ttft_ms", "ttft_due_ms", "ttfo_ms", "gap_kind", "tpot_ms", "e2e_ms", "tokens_per_s", "prompt_tokens"),
    *("completion_tokens", "events", "finish_reason", "read_lag_ms", "client_wait_ms"),
)
GAPS = ("n", "mean", "p50", "p90", "p99", "max")


def probe_document(
    request: ProbeRequest,
    results: Sequence[ProbeResult],
    summary: Summary,
    check: SelfCheck | None,
    window: ServerWindow | None,
) -> dict[str, Any]:
    """One test."""
    return {
        "schema": SCHEMA,
        "url": request.url,
        "model": request.model,
        "test": asked_document(request),
        "summary": msgspec.to_builtins(summary),
        "self_check": None if check is None else msgspec.to_builtins(check),
        "server": None if window is None else plain(window),
        **bench_fields(request, results, summary),
        "results": [msgspec.to_builtins(result) for result in results],
    }


def asked_document(request: ProbeRequest) -> dict[str, Any]:
    """What was asked for; never the text of a prompt of the user's."""
    return {
        "prompt": "body" if request.body else request.prompt_name or "own",
        "prompt_chars": len(request.prompt),
        "fill_tokens": request.fill,
        "max_tokens": request.asked_tokens or None,
        "requests": request.requests,
        "warmup": request.warmup,
        "concurrency": request.concurrency,
        "rate": request.rate,
        "seconds": request.seconds,
        "seed": request.seed,
        "temperature": request.temperature,
        "exact_length": request.ignore_eos,
        "unique_prefix": request.unique_prefix,
    }


def bench_fields(request: ProbeRequest, results: Sequence[ProbeResult], summary: Summary) -> dict[str, Any]:
    """The fields that ``vllm bench serve --save-result --save-detailed`` has too."""
    good = [result for result in results if result.ok]
    began = min((result.started for result in results), default=0.0)
    fields: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S", time.localtime(began)),
        "model_id": request.model,
        "num_prompts": len(results),
        "request_rate": request.rate or "inf",
        "burstiness": 1.0,
        "max_concurrency": request.concurrency or None,
        "duration": summary.seconds,
        "completed": summary.ok,
        "failed": summary.failed,
        "total_input_tokens": summary.input_tokens,
        "total_output_tokens": summary.output_tokens,
        "request_throughput": summary.requests_s,
        "request_goodput": summary.goodput_s,
        "output_throughput": summary.output_tok_s,
        "total_token_throughput": summary.total_tok_s,
        "input_lens": [result.prompt_tokens or 0 for result in results],
        "output_lens": [result.completion_tokens or 0 for result in results],
        "start_times": [result.started for result in results],
        "ttfts": [(result.ttft_ms or 0.0) / 1000 if result.ok else 0.0 for result in results],
        "itls": [[round(gap / 1000, 6) for gap in result.gaps_ms] if result.ok else [] for result in results],
        "errors": [result.error for result in results],
    }
    tpot = summary.tpot_ms if all(result.completion_tokens is not None for result in good) else None
    for name, stat in (
        ("ttft", summary.ttft_ms),
        ("tpot", tpot),
        ("itl", summary.itl_ms),
        ("e2el", summary.e2e_ms),
    ):
        fields |= _stat(name, stat)
    return fields


def _stat(name: str, stat: Stat | None) -> dict[str, float]:
    if stat is None:
        return {}
    named = {"mean": stat.mean, "median": stat.p50, "std": stat.std, "p90": stat.p90, "p95": stat.p95, "p99": stat.p99}
    return {f"{what}_{name}_ms": value for what, value in named.items() if value is not None}


def probe_csv(results: Sequence[ProbeResult]) -> str:
    """A line a request under a line of names; times in ms, instants in Unix seconds."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*COLUMNS, *(f"gap_{name}" if name == "n" else f"gap_{name}_ms" for name in GAPS)])
    for result in results:
        gaps = result.itl_ms
        values = [getattr(result, name) for name in COLUMNS]
        values += [None if gaps is None else getattr(gaps, name) for name in GAPS]
        rows.writerow(["" if value is None else value for value in values])
    return out.getvalue()
