"""SGLang over HTTP: /metrics (with --enable-metrics), /server_info, /v1/models. Never run against a real one.

/server_info holds the server's API keys beside its settings: it is decoded into a struct that does not name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import msgspec

from qtop.collect.engine.argv import flag, integer, served_model
from qtop.collect.engine.base import METRICS, MODELS, ModelList, has_series, hint, positive, read_metrics, url_of
from qtop.collect.http import fetch_json
from qtop.sample import Absent, EngineSample, Reading, ServerInfo, Why

HOW_TO_METRICS = "the server has no /metrics: start SGLang with --enable-metrics"
NO_SERIES = Absent(Why.UNSUPPORTED, "/metrics has no sglang: series yet: the first requests make them")
_NOT_TOLD = Absent(Why.UNSUPPORTED, "/server_info does not tell")
_INFO = ("/server_info", "/get_server_info")
"""The route and its name before 0.5.5."""


class _State(msgspec.Struct):
    effective_max_running_requests_per_dp: int | None = None


class _Info(msgspec.Struct):
    version: str | None = None
    served_model_name: str | None = None
    model_path: str | None = None
    context_length: int | None = None
    max_running_requests: int | None = None
    internal_states: list[_State] = []

    def running(self) -> int | None:
        """Over all data-parallel ranks; the setting alone is None where SGLang chose it itself."""
        chosen = [state.effective_max_running_requests_per_dp or 0 for state in self.internal_states]
        return sum(chosen) or self.max_running_requests


class SgLang:
    """An SGLang server."""

    name = "sglang"
    prefixes: tuple[str, ...] = ("sglang:",)

    def __init__(self) -> None:
        self.missing: Mapping[str, Absent] = {}

    def told(self, argv: Sequence[str]) -> None:
        """Nothing that its routes do not tell."""

    def info(self, client: httpx.Client, argv: Sequence[str] = ()) -> ServerInfo:
        """Version and limits from /server_info, the model and its longest request from /v1/models, else ``argv``."""
        info = self._ask(client)
        models = fetch_json(client, MODELS, ModelList)
        base = None if isinstance(models, Absent) else models.base()
        told = _Info() if isinstance(info, Absent) else info
        reason = info if isinstance(info, Absent) else _NOT_TOLD
        name = base.id if base else told.served_model_name or told.model_path or served_model(argv) or _path(argv)
        length = (base.max_model_len if base else None) or told.context_length or integer(argv, "--context-length")
        model: Reading[str] = name or (models if isinstance(models, Absent) else reason)
        return ServerInfo(
            url=url_of(client),
            engine=self.name,
            version=told.version or reason,
            model=model,
            max_model_len=positive(length, reason),
            max_running=positive(told.running() or integer(argv, "--max-running-requests"), reason),
            verified=False,
        )

    def _ask(self, client: httpx.Client) -> _Info | Absent:
        info: _Info | Absent = _NOT_TOLD
        for path in _INFO:
            info = fetch_json(client, path, _Info)
            if not isinstance(info, Absent) or info.why is not Why.UNSUPPORTED:
                break
        return info

    def scrape(self, client: httpx.Client) -> EngineSample | Absent:
        """All sglang: series."""
        sample = read_metrics(client, self.prefixes)
        if isinstance(sample, Absent):
            sample = hint(sample, HOW_TO_METRICS)
        elif not has_series(sample, "sglang:"):
            sample = NO_SERIES
        self.missing = {METRICS: sample} if isinstance(sample, Absent) else {}
        return sample


def _path(argv: Sequence[str]) -> str | None:
    return flag(argv, "--model-path") or None
