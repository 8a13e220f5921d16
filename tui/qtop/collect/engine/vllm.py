"""vLLM over HTTP: /metrics, /version, /v1/models. /server_info is not asked: it is for development and slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import msgspec

from qtop.collect.engine.argv import integer, served_model
from qtop.collect.engine.base import METRICS, MODELS, MOST, ModelList, has_series, read_metrics, url_of
from qtop.collect.http import fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why
from qtop.sample.series import split_series

NO_SERIES = Absent(Why.UNSUPPORTED, "/metrics has no vllm: series: start vLLM without --disable-log-stats")
NO_MAX_RUNNING = Absent(Why.UNSUPPORTED, "vLLM tells --max-num-seqs only on its command line")


class _Version(msgspec.Struct):
    version: str


class Vllm:
    """A vLLM server (0.8 to 0.33)."""

    name = "vllm"
    prefixes: tuple[str, ...] = ("vllm:", "process_cpu_seconds_total", "http_requests_total")

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Version, model and its longest request over HTTP; --max-num-seqs from ``argv``, which alone has it."""
        version = fetch_json(client, "/version", _Version)
        model, length = self._model(client, argv)
        running = integer(argv, "--max-num-seqs")
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=version if isinstance(version, Absent) else version.version,
            model=model,
            max_model_len=length,
            max_running=running if running is not None and running > 0 else NO_MAX_RUNNING,
        )

    def _model(self, client: httpx.Client, argv: Sequence[str]) -> tuple[Reading[str], Reading[int]]:
        models = fetch_json(client, MODELS, ModelList)
        base = None if isinstance(models, Absent) else models.base()
        reason = models if isinstance(models, Absent) else Absent(Why.FAILED, f"{MODELS} lists no model")
        model: Reading[str] = base.id if base else served_model(argv) or self._labelled(client) or reason
        length = base.max_model_len if base else integer(argv, "--max-model-len")
        if length is None or not 0 < length < MOST:  # -1 on the command line: as long as the memory allows
            return model, reason if base is None else Absent(Why.UNSUPPORTED, f"{MODELS} has no max_model_len")
        return model, length

    def _labelled(self, client: httpx.Client) -> str | None:
        """The model by the labels of /metrics, which no API key guards."""
        sample = read_metrics(client, self.prefixes)
        if isinstance(sample, Absent):
            return None
        names = (split_series(key)[1].get("model_name") for key in sample.series)
        return next((x for x in names if x), None)

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """All vllm: series, buckets included, the CPU time of the API server and its count of HTTP answers."""
        sample = read_metrics(client, self.prefixes)
        if not isinstance(sample, Absent) and not has_series(sample, "vllm:"):
            sample = NO_SERIES
        self.missing = {METRICS: sample} if isinstance(sample, Absent) else {}
        return sample
