"""Triton over HTTP: /v2 on its HTTP port, /metrics on another one. Never run against a real one.

The metrics port is another listener, so no API key goes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import msgspec

from qtop.collect.engine.argv import integer
from qtop.collect.engine.base import METRICS, has_series, read_metrics, series_of, url_of
from qtop.collect.http import fetch, fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why

META = "/v2"
STATS = "/v2/models/stats"
METRICS_PORT = 8002
_SHOWN = 3
_NOT_TOLD = Absent(Why.UNSUPPORTED, "Triton does not tell it over HTTP")


class Meta(msgspec.Struct):
    """The answer to /v2."""

    name: str
    version: str = ""


class _Model(msgspec.Struct):
    name: str


class _Stats(msgspec.Struct):
    model_stats: list[_Model]


class Triton:
    """A tritonserver."""

    name = "triton"
    prefixes: tuple[str, ...] = ("nv_inference_", "nv_trt_llm_")

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}
        self._port = METRICS_PORT
        self._here = True
        """Whether the URL may itself be that of the metrics, or of a front end that has them."""

    def told(self, argv: Sequence[str]) -> None:
        """The port of the metrics."""
        self._port = integer(argv, "--metrics-port") or METRICS_PORT

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Version from /v2, models from /v2/models/stats."""
        self.told(argv)
        meta = fetch_json(client, META, Meta)
        stats = fetch_json(client, STATS, _Stats)
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=meta if isinstance(meta, Absent) else meta.version or _NOT_TOLD,
            model=stats if isinstance(stats, Absent) else _models(stats),
            max_model_len=_NOT_TOLD,
            max_running=_NOT_TOLD,
            verified=False,
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """The series of the core and of its TensorRT-LLM backend, from this port or the metrics port."""
        sample: EngineSample | Absent = _NOT_TOLD
        if self._here:
            sample = read_metrics(client, self.prefixes)
            if isinstance(sample, Absent) and sample.why in (Why.LOST, Why.NOT_YET):
                return self._note(sample)
            self._here = not isinstance(sample, Absent) and has_series(sample, "nv_inference_")
        if not self._here:
            sample = self._elsewhere(client)
        return self._note(sample)

    def _elsewhere(self, client: httpx.Client) -> EngineSample | Absent:
        address = str(client.base_url.copy_with(scheme="http", port=self._port, path=METRICS))
        body = fetch(client, address, keyless=True)
        if isinstance(body, Absent):
            self._here = True  # look again where it may come back
            how = (
                f"no metrics on port {self._port} ({body}): is Triton run with --allow-metrics=false or --metrics-port?"
            )
            return Absent(body.why, how)
        series = series_of(body, self.prefixes)
        if isinstance(series, Absent):
            return series
        if not series:
            return Absent(Why.UNSUPPORTED, f"port {self._port} has no nv_inference_ series")
        return EngineSample(at=body.at, scrape_ms=body.took_ms, series=series)

    def _note(self, sample: EngineSample | Absent) -> EngineSample | Absent:
        self.missing = {METRICS: sample} if isinstance(sample, Absent) else {}
        return sample


def _models(stats: _Stats) -> Reading[str]:
    names = sorted({model.name for model in stats.model_stats})
    if not names:
        return Absent(Why.UNSUPPORTED, "no model is loaded")
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
