"""Which engine answers at an address, by its public routes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import msgspec

from qtop.collect.engine import ollama, triton
from qtop.collect.engine.base import METRICS, MODELS, EngineAdapter, ModelList
from qtop.collect.engine.exposition import first_prefix
from qtop.collect.engine.llamacpp import PROPS, LlamaCpp
from qtop.collect.engine.ollama import Ollama
from qtop.collect.engine.openai import OpenAi
from qtop.collect.engine.sglang import SgLang
from qtop.collect.engine.tgi import Tgi
from qtop.collect.engine.triton import Triton
from qtop.collect.engine.trtllm import PROMETHEUS, TrtLlm
from qtop.collect.engine.vllm import Vllm
from qtop.collect.http import Body, ask, decode, refusal
from qtop.sample import Absent, Why

PEEK = 256 * 1024
"""Bytes of /metrics that are looked at; the prefix stands in the first few KB."""
_BY_PREFIX: Mapping[str, Callable[[], EngineAdapter]] = {
    "vllm:": Vllm,
    "llamacpp:": LlamaCpp,
    "sglang:": SgLang,
    "tgi_": Tgi,
    "trtllm_": TrtLlm,
    "nv_inference_": Triton,
}
_BY_OWNER: Mapping[str, Callable[[], EngineAdapter]] = {
    "vllm": Vllm,
    "sglang": SgLang,
    "tensorrt_llm": TrtLlm,
    "triton inference server": Triton,
}
"""By ``owned_by`` of the model."""


class _Version(msgspec.Struct):
    version: str


class _Props(msgspec.Struct):
    total_slots: int


def identify(client: httpx.Client) -> EngineAdapter | Absent:
    """The adapter for the server behind ``client``; Absent when none answers, it is still loading, or is no LLM server.

    Looked at in turn: /v1/models (``owned_by``, the ``Server:`` header), the prefixes on /metrics, then /version,
    /props, /api/version, /v2. A route that is locked, foreign, huge or cut is passed over.
    """
    models = ask(client, MODELS, allow_cut=True)
    if isinstance(models, Absent):
        return models
    listed = decode(models, MODELS, ModelList) if models.status == httpx.codes.OK else refusal(client, MODELS, models)
    if isinstance(listed, Absent) and listed.why is Why.NOT_YET:
        return listed
    owner = "" if isinstance(listed, Absent) else _owner(listed)
    if owner == "llamacpp" or models.server.lower().startswith("llama.cpp"):
        return _loaded(client)
    if owner in _BY_OWNER:
        return _BY_OWNER[owner]()
    adapter = _by_metrics(client) or _by_other_routes(client, models)
    if adapter is not None:
        return adapter
    if not isinstance(listed, Absent):
        return OpenAi()
    if listed.why is Why.DENIED or models.status >= httpx.codes.TOO_MANY_REQUESTS:
        return listed
    return Absent(Why.UNSUPPORTED, f"something answers there, but not as an LLM server: {listed.detail}")


def _owner(models: ModelList) -> str:
    base = models.base()
    return base.owned_by.lower() if base else ""


def _loaded(client: httpx.Client) -> LlamaCpp | Absent:
    """llama.cpp lists its model while it still loads it (some builds); /health knows, and needs no key."""
    health = ask(client, "/health", allow_cut=True)
    if not isinstance(health, Absent) and health.status != httpx.codes.OK:
        reason = refusal(client, "/health", health)
        if reason.why is Why.NOT_YET:
            return reason
    return LlamaCpp()


def _by_metrics(client: httpx.Client) -> EngineAdapter | None:
    body = ask(client, METRICS, limit=PEEK, allow_cut=True)
    if isinstance(body, Absent) or body.status != httpx.codes.OK:
        return None
    if body.data.lstrip()[:1] == b"[":  # TensorRT-LLM's iteration statistics: its exposition is elsewhere
        body = ask(client, PROMETHEUS, limit=PEEK, allow_cut=True)
        if isinstance(body, Absent) or body.status != httpx.codes.OK:
            return None
    prefix = first_prefix(body.text(), tuple(_BY_PREFIX))
    return _BY_PREFIX[prefix]() if prefix is not None else None


def _by_other_routes(client: httpx.Client, models: Body) -> EngineAdapter | None:
    """Engines whose metrics are off, hidden or elsewhere, by routes that others do not have in this form."""
    version = ask(client, "/version", allow_cut=True)
    # Many services have a /version: only beside a /v1/models, and from vLLM's own HTTP server.
    if models.status in (200, 401, 403) and models.server == "uvicorn" and _is(version, "/version", _Version):
        return Vllm()
    if _is(ask(client, PROPS, allow_cut=True), PROPS, _Props):
        return LlamaCpp()
    if models.status == httpx.codes.OK:  # Ollama always lists its models, if only none
        told = ask(client, ollama.VERSION, allow_cut=True)
        return Ollama() if _is(told, ollama.VERSION, ollama.Version) else None
    return Triton() if _is_triton(client) else None


def _is_triton(client: httpx.Client) -> bool:
    body = ask(client, triton.META, allow_cut=True)
    if isinstance(body, Absent) or body.status != httpx.codes.OK:
        return False
    meta = decode(body, triton.META, triton.Meta)
    return not isinstance(meta, Absent) and meta.name == "triton"


def _is(body: Body | Absent, path: str, kind: type[msgspec.Struct]) -> bool:
    if isinstance(body, Absent) or body.status != httpx.codes.OK:
        return False
    return not isinstance(decode(body, path, kind), Absent)
