"""What every engine adapter offers, and what the adapters share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import httpx
import msgspec

from qtop.collect.engine.exposition import parse
from qtop.collect.http import Body, fetch
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why

METRICS = "/metrics"
MOST = 1 << 53
"""Of what is counted in an answer: beyond it a float is no longer exact."""
MODELS = "/v1/models"


class EngineAdapter(Protocol):
    """How to read one kind of server. An adapter belongs to one thread, like the client it is given."""

    name: str
    """As in ``ServerInfo.engine``."""
    prefixes: tuple[str, ...]
    """Of the series that a sample keeps."""
    missing: Mapping[str, Absent]
    """Routes that gave nothing at the last scrape, with why and how to get them."""

    def told(self, argv: Sequence[str]) -> None:
        """Learn from the server's command line what its routes do not tell (Triton: where its metrics are)."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Who the server is, by its HTTP routes and, where those keep silent, its command line; never raises."""

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """Its metrics now; never raises."""


class ModelMeta(msgspec.Struct):
    """llama.cpp's addition to a model."""

    n_ctx: int | None = None


class Model(msgspec.Struct):
    """One entry of /v1/models; what qtop has no use for is not kept."""

    id: str
    owned_by: str = ""
    parent: str | None = None
    """The base model of a LoRA adapter."""
    max_model_len: int | None = None
    meta: ModelMeta | None = None


class ModelList(msgspec.Struct):
    """The answer to /v1/models."""

    data: list[Model] | None
    """None: Ollama without a model."""

    def base(self) -> Model | None:
        """The model served (the first that is not an adapter on another), None in an empty list."""
        models = self.data or []
        return next((x for x in models if x.parent is None), models[0] if models else None)


def url_of(client: httpx.Client) -> str:
    """The server's base URL without a trailing slash."""
    return str(client.base_url).rstrip("/")


def read_metrics(client: httpx.Client, prefixes: tuple[str, ...], path: str = METRICS) -> EngineSample | Absent:
    """One scrape of /metrics: the series of these prefixes, stamped with the moment the answer began."""
    body = fetch(client, path)
    if isinstance(body, Absent):
        return body
    series = series_of(body, prefixes, path)
    return series if isinstance(series, Absent) else EngineSample(at=body.at, scrape_ms=body.took_ms, series=series)


def has_series(sample: EngineSample, prefix: str) -> bool:
    """Whether a series of the engine itself is among those kept."""
    return any(key.startswith(prefix) for key in sample.series)


def hint(reason: Absent, how: str) -> Absent:
    """The reason, with how to get the route where the server does not have it."""
    return Absent(reason.why, how) if reason.why is Why.UNSUPPORTED else reason


def positive(value: int | None, otherwise: Absent) -> Reading[int]:
    """A number that means something only above 0, and that a server could mean."""
    return value if value is not None and 0 < value < MOST else otherwise


def series_of(body: Body, prefixes: tuple[str, ...], path: str = METRICS) -> dict[str, float] | Absent:
    """The series of an answer, or Absent when it is no exposition."""
    try:
        return parse(body.text(), prefixes, cut=body.cut)
    except ValueError as error:
        return Absent(Why.FAILED, f"{path} holds {error}")
