"""Routes of a vLLM that change something while it runs, and what they answer. (Source: vllm/entrypoints/serve/lora and
serve/dev/cache of 0.32.)"""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from qtop.act.watched import server_of
from qtop.collect.http import Body, ask, fetch_json
from qtop.errors import Refused
from qtop.model.frame import Frame
from qtop.sample import Absent, ServerInfo

_NOT_ALLOWED = httpx.codes.METHOD_NOT_ALLOWED
LOOK_S = 4.0
"""For an answer that needs no work."""


class _Card(msgspec.Struct):
    id: str = ""
    root: str | None = None
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[_Card] = []


class _Said(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Said | str = ""
    message: str = ""
    detail: Any = ""


def vllm_of(frame: Frame, what: str) -> ServerInfo:
    """The vLLM that is watched; Refused for another kind of server, Unreachable where there is none."""
    server = server_of(frame)
    if server.engine != "vllm":
        raise Refused(f"{what} is for vLLM, and this server is none")
    if not isinstance(server.url, str):
        raise Refused("the server does not answer yet", "Wait until it does.")
    return server


def has_route(client: httpx.Client, path: str) -> bool:
    """Whether the server takes a POST there; Refused where it does not tell.

    A GET of such a route is answered "method not allowed", at no cost. /openapi.json tells as well, but the server
    makes it when first asked, and answers nobody else meanwhile: more than 4 s on a busy core.
    """
    body = ask(client, path, deadline_s=LOOK_S)
    if isinstance(body, Absent) or body.status not in (_NOT_ALLOWED, httpx.codes.NOT_FOUND):
        raise Refused(f"the server does not tell whether it has {path}: {refusal(body) or 'it answers a GET'}")
    return body.status == _NOT_ALLOWED


def adapters(client: httpx.Client) -> dict[str, str] | Absent:
    """The LoRA adapters by name, with the path that each came from."""
    models = fetch_json(client, "/v1/models", _Models)
    if isinstance(models, Absent):
        return models
    return {card.id: card.root or "" for card in models.data if card.parent}


def names(client: httpx.Client) -> frozenset[str]:
    """All that a request may call a model."""
    models = fetch_json(client, "/v1/models", _Models)
    if isinstance(models, Absent):
        raise Refused(f"the server does not tell its models: {models.detail or models}")
    return frozenset(card.id for card in models.data)


def refusal(body: Body | Absent) -> str:
    """What the server says of a request that it did not do; "" where it did it."""
    if isinstance(body, Absent):
        return body.detail or str(body)
    if body.status == httpx.codes.OK:
        return ""
    if body.status in (401, 403):
        return "it wants its API key: set --api-key-file or QTOP_API_KEY"
    try:
        said = msgspec.json.decode(body.data, type=_Error)
    except msgspec.MsgspecError:
        return f"HTTP {body.status}"
    text = said.error if isinstance(said.error, str) else said.error.message
    text = text or said.message or (said.detail if isinstance(said.detail, str) else "")
    clean = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return clean[:200] or f"HTTP {body.status}"
