"""Text Generation Inference over HTTP: /metrics, /info. Never run against a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import msgspec

from qtop.collect.engine.argv import flag
from qtop.collect.engine.base import METRICS, has_series, positive, read_metrics, url_of
from qtop.collect.http import fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why

INFO = "/info"
NO_SERIES = Absent(Why.UNSUPPORTED, "/metrics has no tgi_ series yet: the first requests make them")
_NOT_TOLD = Absent(Why.UNSUPPORTED, "/info does not tell")
_BY_TOKENS = Absent(Why.UNSUPPORTED, "TGI limits a batch by tokens, not by requests")


class _Info(msgspec.Struct):
    model_id: str
    version: str = ""
    max_total_tokens: int | None = None
    max_batch_size: int | None = None


class Tgi:
    """A TGI server: its router."""

    name = "tgi"
    prefixes: tuple[str, ...] = ("tgi_",)

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """All from /info, else the model by ``argv``."""
        info = fetch_json(client, INFO, _Info)
        if isinstance(info, Absent):
            model: Reading[str] = flag(argv, "--model-id") or info
            return ServerInfo(
                url=url_of(client),
                engine=self.name,
                version=info,
                model=model,
                max_model_len=info,
                max_running=info,
                verified=False,
            )
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=info.version or _NOT_TOLD,
            model=info.model_id or _NOT_TOLD,
            max_model_len=positive(info.max_total_tokens, _NOT_TOLD),
            max_running=positive(info.max_batch_size, _BY_TOKENS),
            verified=False,
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """All tgi_ series."""
        sample = read_metrics(client, self.prefixes)
        if not isinstance(sample, Absent) and not has_series(sample, "tgi_"):
            sample = NO_SERIES
        self.missing = {METRICS: sample} if isinstance(sample, Absent) else {}
        return sample
