"""A server that answers /v1/models and offers no metrics that qtop reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx

from qtop.collect.engine.argv import served_model
from qtop.collect.engine.base import METRICS, MODELS, ModelList, positive, url_of
from qtop.collect.http import fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why, unanswered

NOT_TOLD = Absent(Why.UNSUPPORTED, "the server does not tell it over HTTP")


class OpenAi:
    """A server with the OpenAI routes; ``what`` names it where more is known."""

    name = "openai"
    prefixes: tuple[str, ...] = ()

    def __init__(self, what: str = "this server") -> None:
        self.reason = Absent(Why.UNSUPPORTED, f"{what} offers no metrics that qtop reads")
        self.missing: Mapping[str, Absent] = {METRICS: self.reason}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """The model, and its longest request where the list says so."""
        models = fetch_json(client, MODELS, ModelList)
        base = None if isinstance(models, Absent) else models.base()
        reason = models if isinstance(models, Absent) else NOT_TOLD
        model: Reading[str] = base.id if base else served_model(argv) or reason
        length = base.max_model_len if base else None
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=NOT_TOLD,
            model=model,
            max_model_len=positive(length, reason),
            max_running=NOT_TOLD,
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """Always absent; a server that has gone away is noticed, though."""
        models = fetch_json(client, MODELS, ModelList)
        return models if isinstance(models, Absent) and unanswered(models) else self.reason
