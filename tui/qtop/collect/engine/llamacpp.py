"""llama.cpp's server over HTTP: /metrics, /slots, /props. Each may be switched off; the others go on without it.

Answers are decoded into structs that name no text: no prompt is ever kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TypeVar

import httpx
import msgspec

from qtop.collect.engine.argv import integer
from qtop.collect.engine.base import METRICS, MODELS, Model, ModelList, hint, read_metrics, url_of
from qtop.collect.http import Body, decode, fetch, fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, SlotSample, Why

T = TypeVar("T")

SLOTS = "/slots"
PROPS = "/props"
HOW_TO_METRICS = "the server has no /metrics: start llama-server with --metrics"
HOW_TO_SLOTS = "the server has no /slots: start llama-server with --slots"


class _Next(msgspec.Struct):
    n_decoded: int = 0


class _Slot(msgspec.Struct):
    id: int
    n_ctx: int = 0
    is_processing: bool = False
    n_prompt_tokens: int = 0
    next_token: list[_Next] | _Next | None = None
    """A list since late 2025, one object before; an idle slot that never worked has none."""

    def sample(self) -> SlotSample:
        ahead = self.next_token if isinstance(self.next_token, list) else [self.next_token or _Next()]
        decoded = max((x.n_decoded for x in ahead), default=0)
        return SlotSample(self.id, self.n_ctx, self.is_processing, self.n_prompt_tokens, decoded)


class _Defaults(msgspec.Struct):
    n_ctx: int | None = None


class _Props(msgspec.Struct):
    total_slots: int | None = None
    model_alias: str = ""
    model_path: str = ""
    build_info: str = ""
    default_generation_settings: _Defaults | None = None


class LlamaCpp:
    """A llama.cpp server ("llama-server", or a library that embeds it)."""

    name = "llamacpp"
    prefixes: tuple[str, ...] = ("llamacpp:",)

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Build, model, tokens a slot holds, number of slots: from /props, else /v1/models, else ``argv``."""
        props = fetch_json(client, PROPS, _Props)
        models = fetch_json(client, MODELS, ModelList)
        base = None if isinstance(models, Absent) else models.base()
        if isinstance(props, Absent):
            slots = integer(argv, "--parallel", "-np")
            return ServerInfo(
                url=url_of(client),
                engine=self.name,
                version=props,
                model=base.id if base else props,
                max_model_len=_context(base) or props,
                max_running=slots if slots is not None and slots > 0 else props,
            )
        settings = props.default_generation_settings
        name = (base.id if base else "") or props.model_alias or PurePath(props.model_path).name
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=_or(props.build_info, "build_info"),
            model=_or(name, "model_path"),
            max_model_len=_or((settings.n_ctx if settings else None) or _context(base), "n_ctx"),
            max_running=_or(props.total_slots, "total_slots"),
        )

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """All llamacpp: series and the slots. With /metrics off the series are empty and ``missing`` says why.

        Absent when neither route answers.
        """
        metrics = read_metrics(client, self.prefixes)
        if isinstance(metrics, Absent):
            metrics = hint(metrics, HOW_TO_METRICS)
        if isinstance(metrics, Absent) and metrics.why in (Why.LOST, Why.NOT_YET, Why.FAILED):
            self.missing = {METRICS: metrics}
            return metrics  # the server is away or sick: a second wait would tell nothing new
        answer = fetch(client, SLOTS)
        slots = hint(answer, HOW_TO_SLOTS) if isinstance(answer, Absent) else _slots(answer)
        routes = {METRICS: metrics, SLOTS: slots}
        self.missing = {path: x for path, x in routes.items() if isinstance(x, Absent)}
        if not isinstance(metrics, Absent):
            return msgspec.structs.replace(metrics, slots=slots)
        if isinstance(answer, Absent) or isinstance(slots, Absent):
            return metrics
        return EngineSample(at=answer.at, scrape_ms=answer.took_ms, series={}, slots=slots)


def _slots(answer: Body) -> tuple[SlotSample, ...] | Absent:
    slots = decode(answer, SLOTS, list[_Slot])
    return slots if isinstance(slots, Absent) else tuple(x.sample() for x in slots)


def _context(model: Model | None) -> int | None:
    return model.meta.n_ctx if model and model.meta else None


def _or(value: T | None, name: str) -> Reading[T]:
    return value if value else Absent(Why.UNSUPPORTED, f"/props has no {name}")
