"""What went wrong with a request, as one short clause that quotes neither the prompt nor the key. Pure."""

from __future__ import annotations

import re
from typing import Any

import httpx
import msgspec

MAX_CHARS = 160
DEEPEST = 16
"""Levels of an error object that are looked into."""

LATE = (408, 504, 524)
"""Statuses of a server or proxy that gave up waiting."""
_TOO_LONG = re.compile(
    r"context (length|size|window)|max_model_len|maximum (input|model|sequence) length|max_(input|seq)_?(len|tokens)"
    r"|(longer|larger) than the (model|context|maximum)|prompt (is )?too long|must have less than \d+ tokens"
    r"|must be <= ?\d+",
    re.IGNORECASE,
)
"""How servers say it: vLLM (0.32 tested), llama.cpp (tested), SGLang, TGI, TensorRT-LLM and Ollama by their sources."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_MESSAGE_KEYS = ("message", "detail", "error", "msg", "title")


def body_message(body: bytes) -> str:
    """The message inside an error body of an OpenAI-like server, "" if there is none fit to show (HTML, binary)."""
    try:
        return value_message(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError):
        text = body.decode("utf-8", errors="replace").strip()
        return "" if text.startswith("<") or "\ufffd" in text else text.partition("\n")[0]


def value_message(value: Any, depth: int = DEEPEST) -> str:
    """The message in a decoded error: a string, or the first of message, detail, error, msg, title some levels deep."""
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return value_message(value[0], depth - 1) if value else ""
    if isinstance(value, dict):
        for key in _MESSAGE_KEYS:
            if value.get(key) and (found := value_message(value[key], depth - 1)):
                return found
    return ""


def clean(message: str, prompt: str, key: str) -> str:
    """The message on one line of at most MAX_CHARS, safe for a terminal; withheld where it quotes prompt or key."""
    line = " ".join(_CONTROL.sub(" ", message).split())
    if _quotes(line, " ".join(prompt.split())) or _quotes(message, prompt) or (key and _bare(key) in _bare(message)):
        return "the server's message is withheld because it quotes the request"
    return line if len(line) <= MAX_CHARS else line[: MAX_CHARS - 1] + "…"


def _bare(text: str) -> str:
    """Letters and digits alone: what hides a key is neither."""
    return "".join(char for char in text.casefold() if char.isalnum())


def _quotes(message: str, prompt: str) -> bool:
    """Whether any stretch of the prompt is in the message: 16 characters of it, or 6 in scripts without spaces."""
    width = min(len(prompt), 16 if prompt.isascii() else 6)
    if width == 0 or not message:
        return False
    # Only windows of the (short) message are looked up, so a prompt of a megabyte costs one search each.
    return any(message[at : at + width] in prompt for at in range(len(message[:4000]) - width + 1))


def status_text(status: int, message: str) -> str:
    """The clause for an HTTP status that is not success; ``message`` has been through clean()."""
    if 300 <= status < 400:
        return f"the server redirects to another address ({status}); give that one instead"
    what = {
        401: "the server wants an API key (401)",
        403: "the server refuses access (403)",
        404: "not found (404)",
        429: "the server refuses more requests for now (429)",
        503: "the server is not ready or too busy (503)",
        504: "a proxy gave up waiting for the server (504)",
    }.get(status, f"the server answered {status}")
    return f"{what}: {message}" if message else what


def too_long(status: int, message: str) -> bool:
    """Whether a request was refused because it is longer than the model takes; ``message`` as the server sent it."""
    return status in (400, 413, 422, 500) and _TOO_LONG.search(message) is not None


def transport_text(error: Exception, *, begun: bool, timeout_s: float, connect_s: float) -> str:
    """The clause for a request that failed below HTTP; ``begun`` says whether text had already come."""
    text = str(error)
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {connect_s:g} s"
        case httpx.ReadTimeout():  # a read may take as long as the whole request: what stalls sooner is the guard's
            return f"not done after {timeout_s:g} s"
        case httpx.TimeoutException():
            return "the server does not take the request"
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in text:
            return "the server's certificate is not trusted"
        case httpx.ConnectError() if "SSL" in text:
            return "no TLS connection; is the address http and not https?"
        case httpx.ConnectError() if "refused" in text:
            return "connection refused; nothing listens there"
        case httpx.ConnectError() if "Name or service" in text or "name resolution" in text or "nodename" in text:
            return "the host name is not known"
        case httpx.ConnectError():
            return "no connection to the server"
        case httpx.ProxyError():
            return "the proxy refuses the connection"
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "the address is not one of http or https"
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            return (
                "the connection was cut in the middle of the answer"
                if begun
                else "the connection was cut before an answer"
            )
    return f"the request failed ({type(error).__name__})"
