"""A request of the user's: the JSON of its body, or a whole curl command as documentation and logs hold it. Pure, but
for files that the command names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from qtop.errors import QtopError

MOST = 8 << 20
"""Bytes of a body."""
DEEPEST = 32
_JSON = "application/json"
_ROUTES = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/generate_stream", "/generate"),
    *("/completion", "/api/chat", "/api/generate"),
)
_ALIASES = {"/chat/completions": "/v1/chat/completions", "/completions": "/v1/completions"}
_WITH_VALUE = frozenset("AbcCDEeFHKmoPQrTtuUwxXYyz")
_DATA = ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--json")
_LONG_WITH_VALUE = frozenset(
    {
        *("--header", "--request", "--url", "--max-time", "--connect-timeout", "--output", "--user", "--user-agent"),
        *("--cacert", "--cert", "--key", "--proxy", "--resolve", "--retry", "--retry-delay", "--retry-max-time"),
        *("--write-out", "--cookie", "--referer", "--interface", "--form", "--form-string", "--unix-socket"),
        *("--noproxy", "--limit-rate", "--config", "--data-urlencode", "--cookie-jar", "--dump-header", "--range"),
        *_DATA[1:],
    }
)
_HINT = "Give the JSON body of a request, or a whole curl command."


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """What the user would send. Neither texts nor the key are in its repr."""

    path: str
    """As sent: with what precedes the route in the command's URL."""
    route: str
    """The route that it is, such as "/v1/chat/completions"."""
    body: dict[str, Any] = field(repr=False)
    key: str = field(default="", repr=False)
    """The command's bearer token."""
    origin: str = ""
    """"host:port" that the command names; "" for a bare body."""
    headers: frozenset[str] = frozenset()
    """Names, lower case."""
    content_type: str = ""
    command: bool = False
    """It was a curl command."""
    after: str = ""
    """What the command pipes the answer to."""
    wait_s: float | None = None
    """curl's --max-time."""

    @property
    def json(self) -> str:
        """The body, to be sent."""
        return msgspec.json.encode(self.body).decode()

    @property
    def texts(self) -> str:
        """All texts in the body but the model's name, so that what quotes one of them can be held back."""
        return "\n".join(_texts({name: value for name, value in self.body.items() if name != "model"}, DEEPEST))

    @property
    def prompt(self) -> str:
        """The texts that the model reads, without its chat template."""
        parts = [self.body.get(name) for name in ("system", "instructions", "prompt", "inputs", "input")]
        messages = self.body.get("messages")
        if isinstance(messages, list):
            parts += [one.get("content") for one in messages if isinstance(one, dict)]
        return "\n".join(_texts(parts, DEEPEST))


def parse(text: str, folder: Path | None = None) -> OwnRequest:
    """Read a body or a command. Raises QtopError, which quotes neither. ``folder``: where ``-d @FILE`` looks."""
    if len(text) > MOST:
        raise QtopError(f"the request is larger than {MOST >> 20} MiB")
    stripped = text.strip().removeprefix("$ ").lstrip()
    if stripped.startswith("curl") and stripped[4:5].isspace():
        return _command(stripped, folder or Path())
    body = _body(stripped)
    return OwnRequest(*_place(_guess(body)), body)


def _body(text: str) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        # The position and no more: the rest of the message may hold a piece of the prompt.
        at = re.search(r"byte (\d+)", str(error))
        where = f" (byte {at[1]})" if at else ""
        raise QtopError(f"the body is no JSON{where}", _HINT) from None
    except RecursionError:
        raise QtopError("the body is nested too deeply", _HINT) from None
    if not isinstance(body, dict):
        raise QtopError("the body is no JSON object", _HINT)
    return body


def _guess(body: dict[str, Any]) -> str:
    """The route that a bare body is for."""
    for field_name, route in (
        ("messages", _ROUTES[0]),
        ("prompt", _ROUTES[1]),
        ("inputs", "/generate"),
        ("input", _ROUTES[2]),
    ):
        if field_name in body:
            return route
    raise QtopError('the body has neither "messages" nor "prompt"', _HINT)


def _place(path: str) -> tuple[str, str]:
    """The path and the route that it ends in."""
    plain = re.sub(r"/+", "/", path).rstrip("/")
    for route in (*_ROUTES, *_ALIASES):
        if plain.endswith(route) and re.fullmatch(r"[\w./~-]*", plain):
            return plain, _ALIASES.get(route, route)
    raise QtopError("the command's URL is no route that completes prompts", f"qtop knows {', '.join(_ROUTES)}.")


def _command(text: str, folder: Path) -> OwnRequest:
    words, after = _words(text)
    url, key, data, wait, content_type = "", "", [], None, ""
    headers: set[str] = set()
    for option, value in _options(words):
        if option == "":
            url = url or value
        elif option == "--url":
            url = value
        elif option in ("-H", "--header"):
            name, _, said = value.partition(":")
            headers.add(name.strip().lower())
            if name.strip().lower() == "authorization":
                key = _token(said)
            elif name.strip().lower() == "content-type":
                content_type = said.partition(";")[0].strip().lower()
        elif option in _DATA:
            data.append(_data(option, value, folder))
            if option == "--json":
                content_type = content_type or _JSON
        elif option in ("-m", "--max-time"):
            wait = _seconds(value)
    if not data:
        raise QtopError("the curl command has no body (-d, --data, --json)", _HINT)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        origin = f"{parts.hostname or ''}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError:
        raise QtopError("the curl command's URL cannot be read") from None
    path, route = _place(parts.path)
    body = _body("&".join(data))
    return OwnRequest(path, route, body, key, origin, frozenset(headers), content_type, True, after, wait)


def _words(text: str) -> tuple[list[str], str]:
    """The command's words, and what stands behind the first pipe."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lexer = shlex.shlex(joined, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= set("|;<>&"):
                return words[1:], " ".join(lexer)
            words.append(word)
    except ValueError:
        raise QtopError("the curl command cannot be read: a quotation mark is missing", _HINT) from None
    return words[1:], ""


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; what is no option comes with ""."""
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield (name, value if equals else next(rest, "") if name in _LONG_WITH_VALUE else "")
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word[1:], lambda: next(rest, ""))
        else:
            yield "", word


def _short(letters: str, following: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """``-sSX POST`` and ``-XPOST``: flags run together, the last may have a value."""
    for at, letter in enumerate(letters):
        if letter in _WITH_VALUE or letter == "d":
            yield f"-{letter}", letters[at + 1 :] or following()
            return
        yield f"-{letter}", ""


def _data(option: str, value: str, folder: Path) -> str:
    if option == "--data-raw" or not value.startswith("@"):
        return value
    try:
        with (folder / value[1:]).open("rb") as file:
            return file.read(MOST).decode("utf-8", errors="replace")
    except OSError as error:
        raise QtopError(f"the file that the command names cannot be read ({error.strerror})") from None


def _token(said: str) -> str:
    """The token of "Bearer TOKEN"; none where a shell would have to fill it in."""
    scheme, _, token = said.strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token and not token.startswith(("$", "<")) else ""


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict):
        for one in value.values():
            yield from _texts(one, depth - 1)
    elif depth and isinstance(value, list):
        for one in value:
            yield from _texts(one, depth - 1)
