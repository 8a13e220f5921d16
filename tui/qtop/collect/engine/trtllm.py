"""TensorRT-LLM (trtllm-serve) over HTTP: /prometheus/metrics, /version, /v1/models. Never run against a real one.

Its /metrics is a list of iteration statistics in JSON, and reading them takes them away from whoever else reads them:
it is asked only where /prometheus/metrics is missing, for builds or gateways that put the exposition there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import msgspec

from qtop.collect.engine.argv import integer, served_model
from qtop.collect.engine.base import METRICS, MODELS, ModelList, has_series, positive, read_metrics, url_of
from qtop.collect.http import fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why

PROMETHEUS = "/prometheus/metrics"
HOW_TO_METRICS = Absent(
    Why.UNSUPPORTED,
    "no trtllm_ series: start trtllm-serve with return_perf_metrics and enable_iter_perf_stats (PyTorch backend)",
)
_NOT_TOLD = Absent(Why.UNSUPPORTED, "TensorRT-LLM does not tell it over HTTP")


class _Version(msgspec.Struct):
    version: str


class TrtLlm:
    """A trtllm-serve."""

    name = "trtllm"
    prefixes: tuple[str, ...] = ("trtllm_", "process_cpu_seconds_total")

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}
        self._path = PROMETHEUS

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Version and model over HTTP, limits from ``argv`` and a gauge."""
        version = fetch_json(client, "/version", _Version)
        models = fetch_json(client, MODELS, ModelList)
        base = None if isinstance(models, Absent) else models.base()
        model: Reading[str] = (
            base.id
            if base
            else served_model(argv)
            or (models if isinstance(models, Absent) else Absent(Why.FAILED, f"{MODELS} lists no model"))
        )
        length = integer(argv, "--max-seq-len") or (base.max_model_len if base else None)
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=version if isinstance(version, Absent) else version.version,
            model=model,
            max_model_len=positive(length, _NOT_TOLD),
            max_running=positive(integer(argv, "--max-batch-size"), _NOT_TOLD),
            verified=False,
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """All trtllm_ series."""
        sample = read_metrics(client, self.prefixes, self._path)
        if isinstance(sample, Absent) and sample.why is Why.UNSUPPORTED and self._path == PROMETHEUS:
            elsewhere = read_metrics(client, self.prefixes, METRICS)
            if not isinstance(elsewhere, Absent) and has_series(elsewhere, "trtllm_"):
                self._path, sample = METRICS, elsewhere
            else:
                sample = HOW_TO_METRICS
        elif not isinstance(sample, Absent) and not has_series(sample, "trtllm_"):
            sample = HOW_TO_METRICS
        self.missing = {self._path: sample} if isinstance(sample, Absent) else {}
        return sample
