"""Ollama has no /metrics: which models are in memory is all that it tells."""

from __future__ import annotations

from qtop.model.engines.scrapes import Scrapes
from qtop.model.engines.table import Computed, EngineTable
from qtop.model.serving import ModelView
from qtop.sample import Absent, Why


def _models(scrapes: Scrapes) -> tuple[ModelView, ...] | Absent:
    if isinstance(scrapes.new.models, Absent):
        why = scrapes.new.models
        return why if why.detail else Absent(why.why, "the recording holds no models")
    return tuple(
        ModelView(
            name=one.name,
            bytes=one.bytes,
            vram_bytes=one.vram_bytes,
            context=one.context or Absent(Why.UNSUPPORTED, "an older Ollama does not tell"),
            expires=one.expires or Absent(Why.UNSUPPORTED, "it stays"),
        )
        for one in scrapes.new.models
    )


TABLE = EngineTable(
    engine="ollama",
    title="Ollama",
    fields={"models": Computed(_models, "/api/ps")},
    missing={"running": "Ollama has no /metrics", "waiting": "Ollama has no /metrics"},
)
