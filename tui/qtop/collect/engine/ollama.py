"""Ollama over HTTP: /api/version, /api/ps, /api/tags. It has no /metrics. Never run against a real one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import httpx
import msgspec

from qtop.clock import wall
from qtop.collect.engine.base import METRICS, positive, url_of
from qtop.collect.http import decode, fetch, fetch_json
from qtop.sample import Absent, EngineSample, ModelSample, Reading, ServerInfo, Why

VERSION = "/api/version"
LOADED = "/api/ps"
ON_DISK = "/api/tags"
NO_METRICS = Absent(Why.UNSUPPORTED, "Ollama has no /metrics: it tells only which models are in memory")
_PARALLEL = Absent(Why.UNSUPPORTED, "Ollama takes it from its environment (OLLAMA_NUM_PARALLEL)")
_NO_MODEL = Absent(Why.UNSUPPORTED, "no model is loaded, and none is on disk")
_FOREVER_S = 10 * 365 * 86_400.0
"""A model that is to stay gets an end some centuries ahead."""


class Version(msgspec.Struct):
    """The answer to /api/version."""

    version: str


class _Model(msgspec.Struct):
    name: str
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0

    def sample(self) -> ModelSample:
        return ModelSample(self.name, self.size, self.size_vram, _expires(self.expires_at), self.context_length)


class _Models(msgspec.Struct):
    models: list[_Model] | None = None


class Ollama:
    """An Ollama server."""

    name = "ollama"
    prefixes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {METRICS: NO_METRICS}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Version; the model that is in memory, else one on disk: that is what a prompt can be sent to."""
        version = fetch_json(client, VERSION, Version)
        loaded = fetch_json(client, LOADED, _Models)
        first = _first(loaded)
        model: Reading[str]
        if first is not None:
            model = first.name
        else:
            stored = fetch_json(client, ON_DISK, _Models)
            kept = _first(stored)
            model = kept.name if kept is not None else stored if isinstance(stored, Absent) else _NO_MODEL
        length = first.context_length if first is not None else None
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=version if isinstance(version, Absent) else version.version,
            model=model,
            max_model_len=positive(length, Absent(Why.UNSUPPORTED, "Ollama tells it of a loaded model")),
            max_running=_PARALLEL,
            verified=False,
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """The models in memory; no series."""
        body = fetch(client, LOADED)
        loaded = body if isinstance(body, Absent) else decode(body, LOADED, _Models)
        if isinstance(body, Absent) or isinstance(loaded, Absent):
            why = loaded if isinstance(loaded, Absent) else NO_METRICS
            self.missing = {METRICS: NO_METRICS, LOADED: why}
            return why
        self.missing = {METRICS: NO_METRICS}
        models = tuple(one.sample() for one in loaded.models or ())
        return EngineSample(at=body.at, scrape_ms=body.took_ms, series={}, models=models)


def _first(models: _Models | Absent) -> _Model | None:
    return models.models[0] if not isinstance(models, Absent) and models.models else None


def _expires(text: str) -> float:
    """Unix time of an RFC 3339 stamp with up to nanoseconds; 0 for none, for never, for what is no stamp."""
    try:
        stamp = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return stamp if 0.0 < stamp < wall() + _FOREVER_S else 0.0
