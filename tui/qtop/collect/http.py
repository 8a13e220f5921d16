"""HTTP to the server that is watched: one client per server, bounded in bytes and time, every failure a typed absence.

The server may be sick, foreign or hostile: an answer is read up to a size and a deadline, redirects are not followed
(the API key goes to nobody else), and a failure is one short clause that says what to do.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import httpcore
import httpx
import msgspec

from qtop import __version__
from qtop.clock import mono
from qtop.collect.address import is_local, normalise_url, quoted
from qtop.collect.http_failures import TooLarge, failure
from qtop.errors import QtopError
from qtop.sample import Absent, Why

TIMEOUT_S = 2.0
"""Seconds for connecting, and for each read."""
DEADLINE_S = 4.0
"""Seconds for a whole answer, however steadily it drips."""
LIMIT = 8 * 1024 * 1024
"""Bytes of an answer; a vLLM exposition has 60 KB."""
REFUSAL_LIMIT = 64 * 1024
"""Bytes read of an answer that is not 200."""

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """How to reach a server: base URL (normalised here), API key (never shown), TLS verification or a CA file."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    verify: bool | str = True
    near: bool = False
    """On this host although its address is none of this host's (a container's): then no proxy either."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", normalise_url(self.url))
        key = (self.api_key or "").strip()
        if not key.isascii() or not key.isprintable():
            raise QtopError("the API key holds characters that cannot be sent", "Check the key file")
        object.__setattr__(self, "api_key", key or None)


def open_client(access: Access, timeout: float = TIMEOUT_S) -> httpx.Client:
    """A keep-alive client for one server; ``timeout`` in seconds for connecting and for each read.

    A server on this host is never reached through a proxy, whatever the environment says; one elsewhere goes the way
    the environment asks for. QtopError when the CA file or the environment's proxy cannot be used.
    """
    url = httpx.URL(access.url)
    headers = {
        "User-Agent": f"qtop/{__version__}",
        "Accept-Encoding": "identity",  # on loopback compression only costs CPU, and a small answer stays small
    }
    if access.api_key:
        headers["Authorization"] = f"Bearer {access.api_key}"
    context = _tls(access.verify) if url.scheme == "https" else _no_tls()
    try:
        return httpx.Client(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(timeout),
            verify=context,
            trust_env=not (access.near or is_local(url.host)),
            follow_redirects=False,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=30.0),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # a proxy URL may hold a password: not repeated
        raise QtopError(
            "the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used", f"Name {url.host} in NO_PROXY"
        ) from error


def _tls(verify: bool | str) -> ssl.SSLContext:
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise QtopError(f"cannot read CA certificates from {quoted(verify)}", "It must be a PEM file") from error
    if not verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return httpx.create_ssl_context(trust_env=True)  # SSL_CERT_FILE counts for local servers too
    except (OSError, ValueError) as error:
        raise QtopError(
            "cannot read the CA certificates", "Check SSL_CERT_FILE and SSL_CERT_DIR, or pass --ca"
        ) from error


def _no_tls() -> ssl.SSLContext:
    # httpx loads the CA bundle (tens of ms) even for a plain http URL unless it is given a context.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Body:
    """An answer. ``at`` is the monotonic second its head arrived, ``took_ms`` the whole exchange."""

    status: int
    content_type: str
    server: str
    """The ``Server:`` header, "" without one."""
    data: bytes
    at: float
    took_ms: float
    cut: bool = False
    """The end is missing (only where the caller allowed that)."""

    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", "replace")


def _failures() -> tuple[type[Exception], ...]:
    """What an exchange may end with. A function: the name of a class of httpx loads it, which the first paint does not
    wait for."""
    return (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError, RuntimeError, TooLarge)


_limit = threading.local()


class Exchange:
    """One request and what is known of it; as httpx's trace it sees connections made and bounds their reads.

    httpx times each read on its own, so a server that drips header bytes could hold the thread for hours. The trace
    extension hands out each new stream; its reads then heed the deadline of the request that is under way.
    """

    def __init__(
        self,
        client: httpx.Client,
        path: str,
        limit: int,
        deadline_s: float,
        keyless: bool = False,
        document: Any = None,
    ) -> None:
        self.client, self.path, self.limit, self.document = client, path, limit, document
        self.keyless = keyless
        self.start = mono()
        self.deadline_s = deadline_s
        self.until = self.start + deadline_s
        self.peer: tuple[str, int] | None = None
        self.connected = False
        self.head: httpx.Response | None = None
        self.head_at = self.start
        self.data = bytearray()

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.started"):
            self.peer = (str(info["host"]), int(info["port"]))
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self.connected = True
            _bound(info["return_value"])

    def run(self) -> Body:
        if self.document is None:
            request = _request(self.client, self.path, self.keyless)
        else:
            request = self.client.build_request("POST", self.path, json=self.document)
        request.extensions = {"trace": self, "timeout": self.client.timeout.as_dict()}
        _limit.until = self.until
        response = self.client.send(request, stream=True)
        try:
            self.head, self.head_at = response, mono()
            refused = response.status_code != httpx.codes.OK
            limit = min(self.limit, REFUSAL_LIMIT) if refused else self.limit
            for chunk in response.iter_raw():
                self.data += chunk
                if len(self.data) > limit:
                    if refused:
                        return self.body(cut=True)
                    raise TooLarge
                if mono() >= self.until:
                    raise httpx.ReadTimeout("deadline")
            return self.body()
        finally:
            response.close()
            _limit.until = None

    def body(self, cut: bool = False) -> Body:
        assert self.head is not None
        headers = self.head.headers
        return Body(
            status=self.head.status_code,
            content_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
            server=headers.get("server", ""),
            data=bytes(self.data[: self.limit]),
            at=self.head_at,
            took_ms=(mono() - self.start) * 1000,
            cut=cut,
        )


_requests: WeakKeyDictionary[httpx.Client, dict[tuple[str, bool], httpx.Request]] = WeakKeyDictionary()
"""A GET without a body is the same each time, and making one costs a fifth of what a scrape does."""


def _request(client: httpx.Client, path: str, keyless: bool) -> httpx.Request:
    """A GET of ``path``, the one that was sent before unless there are cookies, which may have changed since."""
    known = _requests.setdefault(client, {})
    request = known.get((path, keyless))
    if request is None or client.cookies:
        request = client.build_request("GET", path)
        if keyless:
            request.headers.pop("authorization", None)
        if not client.cookies:
            known[path, keyless] = request
    return request


def _bound(stream: Any) -> None:
    plain = stream.read

    def read(max_bytes: int, timeout: float | None = None) -> bytes:
        until: float | None = getattr(_limit, "until", None)
        if until is not None:
            left = until - mono()
            if left <= 0:
                raise httpcore.ReadTimeout("deadline")
            timeout = left if timeout is None else min(timeout, left)
        return bytes(plain(max_bytes, timeout))

    stream.read = read


def ask(
    client: httpx.Client,
    path: str,
    limit: int = LIMIT,
    deadline_s: float = DEADLINE_S,
    *,
    allow_cut: bool = False,
    keyless: bool = False,
) -> Body | Absent:
    """GET ``path`` and give the answer whatever its status; Absent when there is no whole HTTP answer.

    ``path`` may be a whole URL, for another port of the same host; ``keyless`` keeps the API key from it.

    ``limit`` in bytes, ``deadline_s`` in seconds for the answer from request to last byte (resolving a name and
    connecting have the client's timeout). With ``allow_cut`` an answer that breaks off, drips or is larger than
    the limit comes back as far as it was read.
    """
    for last in (False, True):
        exchange = Exchange(client, path, limit, deadline_s, keyless)
        try:
            body = exchange.run()
        except _failures() as error:
            # A kept connection may have been closed by the server just now: that says nothing yet.
            stale = not exchange.connected and exchange.head is None
            if not last and stale and isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
                continue
            if allow_cut and exchange.head is not None and exchange.data:
                return exchange.body(cut=True)
            return failure(error, exchange)
        finally:
            _limit.until = None
        break
    if exchange.head is not None and exchange.head.headers.get("content-encoding", "identity").lower() != "identity":
        return Absent(Why.FAILED, f"{path} came compressed, which was not asked for")
    return body


def post(client: httpx.Client, path: str, document: Any, deadline_s: float) -> Body | Absent:
    """POST ``document`` as JSON, once, and give the answer whatever its status; Absent when there is none within
    ``deadline_s``: then nobody knows whether the server has done it. The client's timeout must allow for it too."""
    exchange = Exchange(client, path, LIMIT, deadline_s, document=document)
    try:
        return exchange.run()
    except _failures() as error:
        return failure(error, exchange)
    finally:
        _limit.until = None


def fetch(
    client: httpx.Client, path: str, limit: int = LIMIT, deadline_s: float = DEADLINE_S, *, keyless: bool = False
) -> Body | Absent:
    """GET ``path``: the whole answer if its status is 200, else why not. As ``ask``; never raises."""
    body = ask(client, path, limit, deadline_s, keyless=keyless)
    if isinstance(body, Absent) or body.status == httpx.codes.OK:
        return body
    return refusal(client, path, body)


def decode(body: Body, path: str, kind: type[T]) -> T | Absent:
    """The answer's JSON as ``kind``, or Absent when it is something else."""
    try:
        return msgspec.json.decode(body.data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        what = "a web page" if body.data.lstrip()[:1] == b"<" else "not what this route should hold"
        return Absent(Why.FAILED, f"{path} answered with {what}")


def fetch_json(client: httpx.Client, path: str, kind: type[T]) -> T | Absent:
    """GET ``path`` as JSON of a known shape; fields that ``kind`` does not name are never kept."""
    body = fetch(client, path)
    return body if isinstance(body, Absent) else decode(body, path, kind)


def refusal(client: httpx.Client, path: str, body: Body) -> Absent:
    """What a status other than 200 means for the reader."""
    status = body.status
    if status in (401, 403):
        if "authorization" in client.headers:
            return Absent(Why.DENIED, f"the server refuses this API key on {path}")
        return Absent(Why.DENIED, "the server wants an API key: set --api-key-file or QTOP_API_KEY")
    if status in (404, 405, 501):
        return Absent(Why.UNSUPPORTED, f"the server has no {path}")
    if status == httpx.codes.SERVICE_UNAVAILABLE and b"oading model" in body.data[:4096]:
        return Absent(Why.NOT_YET, "the server is loading its model")
    if 300 <= status < 400:
        return Absent(Why.FAILED, f"{path} redirects elsewhere (HTTP {status}): give the address it leads to")
    return Absent(Why.FAILED, f"{path} answered HTTP {status}")
