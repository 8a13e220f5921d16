"""Streams one request from an OpenAI-compatible server and stamps what comes back.

Everything is synchronous on one thread: a blocking read returns straight into the stamp, with no event loop between.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from qtop import __version__
from qtop.errors import QtopError
from qtop.probe import refusal
from qtop.probe.answer import Answer, Delta
from qtop.probe.messages import ProbeRequest
from qtop.probe.prompts import tagged
from qtop.probe.sse import SseParser
from qtop.probe.timing import ProbeResult, Stamps, measure

CONNECT_S = 10.0
LINGER_S = 0.5
"""After [DONE] the end of the body is awaited this long: a proxy logs a client that leaves before it as a failure."""
MAX_ERROR_BODY = 64 * 1024

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

OnDelta = Callable[[Delta], None]

_NO_CHAT = ("chat template", "chat_template", "does not support chat")


def base_url(url: str) -> str:
    """The server's address without a trailing slash and without ``/v1``."""
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def is_here(url: str) -> bool:
    """Whether an address is this machine's: localhost or a loopback address. Such a request never goes to a proxy."""
    with suppress(httpx.InvalidURL):
        host = httpx.URL(url).host.lower().rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        with suppress(ValueError):
            address = ipaddress.ip_address(host)
            return address.is_loopback or address.is_unspecified
    return False


class ProbeClient:
    """Sends the requests of one ProbeRequest; remembers what the server refused, so only the first one stumbles."""

    def __init__(self, request: ProbeRequest) -> None:
        """Raises QtopError where the key, the certificates or the environment's proxy cannot be used."""
        self._request = request
        self._base = base_url(request.url)
        self._path = CHAT
        self._usage = True
        self._ignore_eos = request.ignore_eos
        self._notes: dict[str, str] = {}
        read_s = min(request.stall_s, request.timeout_s)
        headers = {
            "User-Agent": f"qtop/{__version__}",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressor in between would hold tokens back
        }
        if request.api_key:
            if not (request.api_key.isascii() and request.api_key.isprintable()):
                raise QtopError("the API key holds characters that cannot be sent")
            headers["Authorization"] = f"Bearer {request.api_key}"
        tls = _tls(request.verify) if self._base.lower().startswith("https:") else _no_tls()
        try:
            self._http = httpx.Client(
                headers=headers,
                verify=tls,
                trust_env=request.trust_env and not is_here(request.url),
                timeout=httpx.Timeout(read_s, connect=min(CONNECT_S, request.timeout_s)),
                # A connection for each request, so that all are measured alike; and llama.cpp promises to keep one
                # open after a stream, yet closes it often, which would look like a failed request.
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:  # a proxy's address may hold a password
            raise QtopError("the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def ask(self, on_delta: OnDelta, t_due: float | None = None) -> ProbeResult:
        """Stream one request; ``on_delta`` gets each piece of text as it comes. Never raises for what a server does.

        A request that the server refuses for its form is sent again without what it refused (usage counts, ignore_eos,
        the chat endpoint); the figures are those of the attempt that counted.
        """
        prompt = tagged(self._request.prompt) if self._request.unique_prefix else self._request.prompt
        due = t_due
        while True:
            attempt = _Attempt(self._http, self._request, self._notes, time.monotonic() if due is None else due)
            try:
                status, message = attempt.send(self._base + self._path, self._body(prompt), on_delta)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, QtopError, ValueError, OSError) as error:
                return attempt.failed(error)
            if status == 200:
                return attempt.result()
            if not self._give_way(status, message.lower()):
                if status == 404 and self._path == COMPLETIONS:
                    return attempt.refused(f"neither {CHAT} nor {COMPLETIONS} is there (404)")
                said = refusal.clean(message, self._request.prompt, self._request.api_key)
                return attempt.refused(refusal.status_text(status, said))
            due = None

    def _body(self, prompt: str) -> dict[str, Any]:
        request = self._request
        body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "stream": True}
        body["temperature"] = request.temperature
        if self._path == CHAT:
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if self._usage:
            body["stream_options"] = {"include_usage": True}
        if self._ignore_eos:
            body["ignore_eos"] = True
        return body

    def _give_way(self, status: int, message: str) -> bool:
        """Drop what the server refused and say whether to ask again."""
        if self._path == CHAT:
            # A 404 that speaks of the model would be the same from the other endpoint.
            missing = status in (404, 405, 501) and "model" not in message
            if missing or (status in (400, 422, 500) and any(words in message for words in _NO_CHAT)):
                self._path = COMPLETIONS
                self._notes["endpoint"] = "the server has no chat for this model; /v1/completions was used"
                return True
        if status not in (400, 422):
            return False
        if self._ignore_eos and ("ignore_eos" in message or not self._usage):
            self._ignore_eos = False
            self._notes["ignore_eos"] = "the server refuses ignore_eos, so answers may end early"
            return True
        if self._usage:
            self._usage = False
            self._notes["usage"] = "the server refuses stream_options, so it gives no token counts"
            return True
        return False


class _Attempt:
    """One request on the wire."""

    def __init__(self, http: httpx.Client, request: ProbeRequest, notes: dict[str, str], t_due: float) -> None:
        self._http = http
        self._request = request
        self._notes = notes
        self._t_due = t_due
        self._t_send: float | None = None
        self._t_connect: float | None = None
        self._connect_ms: float | None = None
        self._t_last = t_due
        self._started = time.time()
        self._waited = _run_queue_ns()
        self._answer = Answer()
        self._guard = _Guard(request, t_due)

    def send(self, url: str, body: dict[str, Any], on_delta: OnDelta) -> tuple[int, str]:
        """Stream the answer; the HTTP status (200 for any success) and the raw message of a refusal."""
        http_request = self._http.build_request("POST", url, json=body, extensions={"trace": self._trace})
        with self._guard:
            response = self._http.send(http_request, stream=True)
            try:
                self._guard.watch(response)
                if not response.is_success:
                    return response.status_code, refusal.body_message(_at_most(response.iter_bytes(), MAX_ERROR_BODY))
                self._read(response, on_delta)
            finally:
                response.close()
        return 200, ""

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self._t_send = time.monotonic()
            if self._t_connect is not None:
                self._connect_ms = round((self._t_send - self._t_connect) * 1000, 3)
        elif event == "connection.connect_tcp.started" and self._t_connect is None:
            self._t_connect = time.monotonic()

    def _read(self, response: httpx.Response, on_delta: OnDelta) -> None:
        parser = SseParser()
        answer = self._answer
        guard = self._guard
        try:
            for chunk in response.iter_bytes():
                t = time.monotonic()
                self._t_last = t
                for delta in answer.take(parser.feed(chunk), t):
                    guard.token(t)
                    on_delta(delta)
                if answer.error is not None:
                    return
                if answer.t_done is not None:
                    guard.linger(t)
        except httpx.TransportError:
            if not answer.whole:
                raise
        for delta in answer.take(parser.end(), self._t_last):
            on_delta(delta)

    def result(self) -> ProbeResult:
        """The figures of a stream that was read to its end, whatever that end was."""
        answer = self._answer
        error = ""
        if answer.error is not None:
            said = refusal.clean(refusal.value_message(answer.error), self._request.prompt, self._request.api_key)
            error = f"the server broke off: {said}" if said else "the server broke off with an error"
        elif not answer.whole:
            error = self._guard.fired or _early_end(answer)
        elif not answer.events:
            error = "the answer carried no text"
        return self._measure(error)

    def refused(self, clause: str) -> ProbeResult:
        """The figures of a request that the server answered with an HTTP error."""
        return self._measure(clause)

    def failed(self, error: Exception) -> ProbeResult:
        """The figures of a request that ended in an exception."""
        if self._guard.fired:
            return self._measure(self._guard.fired)
        if isinstance(error, QtopError):
            return self._measure(error.message)
        begun = bool(self._answer.events)
        patience = min(self._request.stall_s, self._request.timeout_s)
        return self._measure(refusal.transport_text(error, begun=begun, stall_s=patience, connect_s=CONNECT_S))

    def _measure(self, error: str) -> ProbeResult:
        answer = self._answer
        waited = _run_queue_ns()
        wait_ms = None
        if waited is not None and self._waited is not None:
            wait_ms = round((waited - self._waited) / 1e6, 3)
        sent = self._t_send if self._t_send is not None else self._t_due
        stamps = Stamps(
            t_due=self._t_due,
            t_send=sent,
            t_end=answer.t_done or self._t_last,
            events=tuple(answer.events),
            silent=tuple(answer.silent),
            t_first_output=answer.t_first_output,
        )
        return measure(
            stamps,
            usage=answer.usage,
            error=error,
            finish_reason=answer.finish_reason,
            text_chars=answer.text_chars,
            started=self._started,
            connect_ms=self._connect_ms,
            client_wait_ms=wait_ms,
            notes=self._notes,
        )


class _Guard:
    """Ends a request that goes on for too long, from a thread that looks four times a second.

    A read timeout alone would be reset by every comment a server sends to keep the line open, and would let a stream
    overrun its total by a whole stall. Shutting the socket down wakes the blocked read at once.
    """

    def __init__(self, request: ProbeRequest, t_start: float) -> None:
        self.fired = ""
        """Why the request was ended, or ""."""
        self._stall_s = request.stall_s
        self._token_at = t_start
        self._ends_at = t_start + request.timeout_s
        self._timeout_s = request.timeout_s
        self._linger_at = float("inf")
        self._socket: socket.socket | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe-guard", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()

    def watch(self, response: httpx.Response) -> None:
        """Take charge of the socket that the answer comes through."""
        stream = response.extensions.get("network_stream")
        sock = stream.get_extra_info("socket") if stream is not None else None
        self._socket = sock if isinstance(sock, socket.socket) else None

    def token(self, t: float) -> None:
        """A token came at monotonic second ``t``."""
        self._token_at = t

    def linger(self, t: float) -> None:
        """The answer is whole; only the end of the body may still come."""
        self._linger_at = min(self._linger_at, t + LINGER_S)

    def _run(self) -> None:
        while not self._over.wait(0.25):
            now = time.monotonic()
            if self._socket is None:
                continue
            if now >= self._linger_at:
                self._shut()
                return
            if now >= self._ends_at:
                self.fired = f"not done after {self._timeout_s:g} s"
            elif now >= self._token_at + self._stall_s:
                self.fired = f"no token for {self._stall_s:g} s"
            if self.fired:
                self._shut()
                return

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # The base class's method: an SSLSocket's own would drop its TLS state under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _early_end(answer: Answer) -> str:
    if answer.events:
        return "the stream ended before the answer did"
    if answer.garbled:
        return "the server answered with something that is not a chat stream"
    return "the server sent no event stream"


def _at_most(chunks: Iterator[bytes], limit: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _tls(verify: bool | str) -> ssl.SSLContext:
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise QtopError(f"the certificate file {Path(verify).name} cannot be used") from error
    try:
        return httpx.create_ssl_context(verify=verify, trust_env=True)  # SSL_CERT_FILE counts for local servers too
    except (OSError, ValueError) as error:
        raise QtopError("the certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be used") from error


def _no_tls() -> ssl.SSLContext:
    # httpx loads its certificates (tens of ms) even for plain http unless it is given a context.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _run_queue_ns() -> int | None:
    """Nanoseconds this thread has waited for a CPU since it began (second field of /proc/thread-self/schedstat)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
