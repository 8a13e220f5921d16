"""``qtop probe --body``: a request of the user's, examined, sent as it is, and what came of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from qtop.errors import QtopError
from qtop.probe.body import MOST, OwnRequest, parse
from qtop.probe.client import ProbeClient, is_here
from qtop.probe.lint import Fault, Served, limit_of, lint, streams
from qtop.probe.messages import ProbeRequest
from qtop.probe.timing import ProbeResult
from qtop.sample import ServerInfo
from qtop.session import Session
from qtop.units import milliseconds
from qtop.verbs.testing import request_of


def read_own(name: str) -> OwnRequest:
    """The request in a file, or on standard input for "-" and "@-"."""
    path = name.removeprefix("@")
    try:
        if path == "-":
            return parse(sys.stdin.read(MOST + 1))
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return parse(file.read(MOST + 1), Path(path).parent)
    except OSError as error:
        raise QtopError(f"{path}: {error.strerror or 'cannot be read'}") from None


def test_of(args: argparse.Namespace, session: Session, own: OwnRequest) -> tuple[ProbeRequest, tuple[Fault, ...]]:
    """The test that sends it, and what is wrong with it for the server that qtop watches."""
    for option in ("prompt", "max_tokens", "exact"):
        if getattr(args, option):
            raise QtopError(f"--{option.replace('_', '-')} does not go with --body", "The body says what is sent.")
    plain = request_of(args, session, "en", 1, args.requests or 1)
    frame = session.latest.frame if session.latest is not None else None
    server = frame.server if frame is not None else None
    assert isinstance(server, ServerInfo)
    model = server.model if isinstance(server.model, str) else ""
    request = replace(
        plain,
        prompt=own.texts,
        prompt_name="",
        fill=0,
        body=own.json,
        path=_below(plain.url, own.path),
        streaming=streams(own),
        limit=limit_of(own, server.engine),
        max_tokens=min(max(1, limit_of(own, server.engine)), 1_000_000),
        unique_prefix=False,
        warmup=args.warmup or 0,
        api_key=own.key if own.key and same_server(own.origin, plain.url) else plain.api_key,
    )
    context = session.context()
    faults = lint(own, Served(server.engine, model, context, _counted(request, own, context)))
    return replace(request, faults=tuple(one.code for one in faults)), faults


def same_server(origin: str, url: str) -> bool:
    """Whether "host:port" of a command is the server at ``url``: its key goes to no other."""
    host, _, port = url.partition("://")[2].partition("/")[0].rpartition(":")
    if not port.isdigit():
        host, port = f"{host}:{port}".strip(":"), "443" if url.startswith("https") else "80"
    theirs, _, their_port = origin.rpartition(":")
    ours = host.strip("[]").lower()
    here = is_here(f"http://{ours}") and is_here(f"http://{theirs}")
    return their_port == port and (here or theirs.lower() == ours)


def before_lines(own: OwnRequest, request: ProbeRequest, faults: tuple[Fault, ...]) -> list[str]:
    """What to know before it is sent."""
    lines = [f"request: POST {own.route}, {'a stream' if request.streaming else 'no stream'} is asked for"]
    if own.origin and not same_server(own.origin, request.url):
        key = ", without its key" if own.key else ""
        lines.append(f"  the command names {own.origin}: it is sent to the server that qtop watches{key}")
    return lines + fault_lines(faults)


def fault_lines(faults: tuple[Fault, ...]) -> list[str]:
    """A line a fault."""
    if not faults:
        return ["  nothing is wrong with it that qtop knows of"]
    return [f"  {one.rule or '-':5}  {one.text}" for one in faults]


def after_lines(results: list[ProbeResult]) -> list[str]:
    """What came of it."""
    return [came(one) for one in results]


def came(result: ProbeResult) -> str:
    """One answer in one line."""
    if not result.ok:
        return f"came: nothing; {result.error}"
    piece = result.ttft_ms is None or result.unstreamed
    how = "in one piece" if piece else f"streamed in {result.events} events, TTFT {milliseconds(result.ttft_ms)}"
    tokens = "tokens not told" if result.completion_tokens is None else f"{result.completion_tokens} tokens"
    why = {"length": "cut at its limit", "stop": "ended by itself"}.get(
        result.finish_reason or "", result.finish_reason or "reason not told"
    )
    return f"came: {how}, {tokens}, {why}, {milliseconds(result.e2e_ms)} in all"


def own_document(own: OwnRequest, request: ProbeRequest, faults: tuple[Fault, ...]) -> dict[str, Any]:
    """The examined request as JSON, without its texts and key."""
    return {
        "route": own.route,
        "stream": request.streaming,
        "limit": request.limit or None,
        "faults": [{"code": one.code, "rule": one.rule or None, "text": one.text} for one in faults],
    }


def _below(url: str, path: str) -> str:
    """The path without what the server's own address holds of it already."""
    base = "/" + url.partition("://")[2].partition("/")[2].strip("/").removesuffix("v1").rstrip("/")
    return path[len(base) :] if base != "/" and path.startswith(f"{base}/") else path


def _counted(request: ProbeRequest, own: OwnRequest, context: int | None) -> int | None:
    """Tokens of the prompt by the server's own count; asked for only where it may matter: a token is a byte or more."""
    text = own.prompt
    if context is None or len(text.encode()) + request.limit <= context:
        return None
    with ProbeClient(request) as client:
        return client.count_tokens(text)
