"""Streams requests from a server and stamps what comes back.

Everything is synchronous, a thread a request: a blocking read with no event loop between, stamped on arrival by the
kernel where it does that (``wire.py``).
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from qtop import __version__
from qtop.errors import QtopError
from qtop.probe import refusal
from qtop.probe.answer import Answer, Delta
from qtop.probe.guard import Guard, Watchdog
from qtop.probe.messages import ProbeRequest
from qtop.probe.prompts import tagged
from qtop.probe.protocol import DIALECTS, Dialect, Wanted, dialects
from qtop.probe.run_queue import RunQueue
from qtop.probe.timing import OWN_SHARE, ProbeResult, Reading, Stamps, measure
from qtop.probe.wire import StampedStream, StampedTransport

CONNECT_S = 10.0
LATE_S = 0.001
"""A reader that waited longer for a CPU may have found two tokens where it would have found one."""
MAX_ERROR_BODY = 64 * 1024

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
    """Sends the requests of one ProbeRequest, from any number of threads; remembers what the server refused, so that
    only the first one stumbles."""

    def __init__(self, request: ProbeRequest) -> None:
        """Raises QtopError where the key, the certificates or the environment's proxy cannot be used."""
        self._request = request
        self._base = base_url(request.url)
        self._dialects = dialects(request)
        self._dialect = self._dialects[0]
        self._wanted = Wanted(ignore_eos=request.ignore_eos)
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()
        self._watchdog = Watchdog()
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
        proxied = request.trust_env and not is_here(request.url) and _has_proxy(request.url)
        try:
            self._http = httpx.Client(
                headers=headers,
                verify=tls,
                trust_env=proxied,
                timeout=httpx.Timeout(request.timeout_s, connect=min(CONNECT_S, request.timeout_s)),
                transport=None if proxied else StampedTransport(tls, request.stamps == "auto"),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:  # a proxy's address may hold a password
            raise QtopError("the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watchdog.close()
        self._http.close()

    def ask(self, on_delta: OnDelta, t_due: float | None = None, i: int = 0) -> ProbeResult:
        """Stream one request; ``on_delta`` gets each piece of text as it comes. Never raises for what a server does.

        A request that the server refuses for its form is sent again without what it refused (usage counts, ignore_eos,
        the endpoint); the figures are those of the attempt that counted.
        """
        request = self._request
        prompt = tagged(request.prompt) if request.unique_prefix else request.prompt
        due = t_due
        while True:
            dialect, wanted = self._dialect, self._wanted
            attempt = _Attempt(self._http, request, dialect, prompt, due, i)
            self._watchdog.add(attempt.guard)
            try:
                url = self._base + dialect.path
                status, message = attempt.send(url, dialect.body(request, prompt, wanted), on_delta)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, QtopError, ValueError, OSError) as error:
                return attempt.failed(error, self._notes)
            finally:
                self._watchdog.remove(attempt.guard)
                attempt.close()
            if status == 200:
                return attempt.result(self._notes)
            if not self._give_way(dialect, wanted, status, message.lower()):
                if status == 404 and len(self._dialects) > 1 and dialect is self._dialects[-1]:
                    known = f"{DIALECTS[0].path} nor {DIALECTS[1].path}"
                    return attempt.refused(f"neither {known} is there (404)", self._notes)
                said = refusal.clean(message, request.prompt, request.api_key)
                return attempt.refused(refusal.status_text(status, said), self._notes, status, message)
            due = None

    def count_tokens(self, text: str) -> int | None:
        """How many tokens the server makes of a text; None where it does not say (POST /tokenize: vLLM answers with
        ``count``, llama.cpp and SGLang with ``tokens``)."""
        body = {"model": self._request.model, "prompt": text, "content": text}
        try:
            response = self._http.post(f"{self._base}/tokenize", json=body)
            answer = response.json() if response.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, RecursionError):
            return None
        if not isinstance(answer, dict):
            return None
        counted, tokens = answer.get("count"), answer.get("tokens")
        if not isinstance(counted, int):
            counted = len(tokens) if isinstance(tokens, list) else 0
        return counted if 0 < counted <= 4 * len(text) else None

    def _give_way(self, dialect: Dialect, wanted: Wanted, status: int, message: str) -> bool:
        """Drop what the server refused and say whether to ask again; another request may have done so already."""
        with self._lock:
            if (self._dialect, self._wanted) != (dialect, wanted):
                return True
            # A 404 that speaks of the model would be the same from the other endpoint.
            missing = status in (404, 405, 501) and "model" not in message
            no_chat = status in (400, 422, 500) and any(words in message for words in _NO_CHAT)
            if missing or (dialect.api == "chat" and no_chat):
                later = self._dialects[self._dialects.index(dialect) + 1 :]
                if not later:
                    return False
                self._dialect = later[0]
                self._notes["endpoint"] = f"the server has no {dialect.path} for this model; {later[0].path} was used"
                return True
            if status not in (400, 422):
                return False
            if wanted.ignore_eos and ("ignore_eos" in message or not wanted.usage):
                self._wanted = replace(wanted, ignore_eos=False)
                self._notes["ignore_eos"] = "the server refuses ignore_eos, so answers may end early"
                return True
            if wanted.usage and dialect.counts:
                self._wanted = replace(wanted, usage=False)
                self._notes["usage"] = "the server refuses stream_options, so it gives no token counts"
                return True
            return False


class _Attempt:
    """One request on the wire."""

    def __init__(
        self, http: httpx.Client, request: ProbeRequest, dialect: Dialect, prompt: str, due: float | None, i: int
    ) -> None:
        self._http = http
        self._request = request
        self._dialect = dialect
        self._i = i
        self._scheduled = due is not None
        t_due = self._t_due = time.monotonic() if due is None else due
        self._t_send: float | None = None
        self._t_connect: float | None = None
        self._connect_ms: float | None = None
        self._t_last = t_due
        self._ended = False
        self._send_s = 0.0
        self._lag = 0.0
        self._by_kernel = True
        self._queue = RunQueue()
        self._waited = self._waited_last = self._queue.waited_ns()
        self._answer = Answer(prompt)
        self._too_long = False
        self.guard = Guard(request.stall_s, request.timeout_s, time.monotonic())

    def close(self) -> None:
        """Take the last reading of the thread's waiting, and let its file go."""
        self._waited_last = self._queue.waited_ns()
        self._queue.close()

    def send(self, url: str, body: dict[str, Any], on_delta: OnDelta) -> tuple[int, str]:
        """Stream the answer; the HTTP status (200 for any success) and the raw message of a refusal."""
        http_request = self._http.build_request("POST", url, json=body, extensions={"trace": self._trace})
        if (early := self._t_due - time.monotonic()) > 0:  # all is ready: now nothing but the connection is missing
            time.sleep(early)
        response = self._http.send(http_request, stream=True)
        try:
            stream = response.extensions.get("network_stream")
            self.guard.watch(stream)
            stamped = stream if isinstance(stream, StampedStream) else None
            if stamped is not None and stamped.sent_at is not None:
                self._sent(stamped.sent_at)
                self._send_s = stamped.send_s
            if not response.is_success:
                return response.status_code, refusal.body_message(_at_most(response.iter_bytes(), MAX_ERROR_BODY))
            self._read(response, stamped, on_delta)
        finally:
            response.close()
        return 200, ""

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self._sent(time.monotonic())
        elif event == "connection.connect_tcp.started" and self._t_connect is None:
            self._t_connect = time.monotonic()
        elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.guard.watch(info.get("return_value"))

    def _sent(self, t: float) -> None:
        self._t_send = t
        if self._t_connect is not None and self._connect_ms is None:
            self._connect_ms = round((t - self._t_connect) * 1000, 3)

    def _read(self, response: httpx.Response, stamped: StampedStream | None, on_delta: OnDelta) -> None:
        framer = self._dialect.framer()
        answer = self._answer
        guard = self.guard
        # What a server compresses against our wish has to be unpacked; else the bytes are taken as they come.
        chunks = response.iter_bytes() if "content-encoding" in response.headers else response.iter_raw()
        try:
            for chunk in chunks:
                t = self._stamp(stamped)
                for delta in answer.take(framer.feed(chunk), t, self._late(stamped)):
                    guard.token(t)
                    on_delta(delta)
                if answer.error is not None:
                    return
                if answer.t_done is not None:
                    guard.linger(t)
            self._ended = True
        except httpx.TransportError:
            if not answer.whole:
                raise
        for delta in answer.take(framer.end(), self._t_last):
            on_delta(delta)

    def _stamp(self, stamped: StampedStream | None) -> float:
        """When the bytes at hand arrived."""
        if stamped is None or not stamped.by_kernel:
            self._by_kernel = False
            self._t_last = time.monotonic() if stamped is None else stamped.stamp
        else:
            # Later than the one before, whatever was done to the realtime clock meanwhile.
            self._t_last = max(self._t_last, stamped.stamp)
            self._lag = max(self._lag, stamped.lag_s)
        return self._t_last

    def _late(self, stamped: StampedStream | None) -> bool:
        """Whether qtop came late to the read at hand: it had other things to do, or waited for a CPU."""
        waited = self._queue.waited_ns()
        before, self._waited_last = self._waited_last, waited
        if stamped is None or not stamped.by_kernel:
            return False
        return stamped.behind or (waited is not None and before is not None and waited - before > LATE_S * 1e9)

    def result(self, notes: dict[str, str]) -> ProbeResult:
        """The figures of a stream that was read to its end, whatever that end was."""
        answer = self._answer
        whole = answer.whole or (self._dialect.ends_with_stream and self._ended and bool(answer.events))
        error = ""
        if answer.error is not None:
            raw = refusal.value_message(answer.error)
            self._too_long = refusal.too_long(400, raw)
            said = refusal.clean(raw, self._request.prompt, self._request.api_key)
            error = f"the server broke off: {said}" if said else "the server broke off with an error"
        elif not whole:
            error = self.guard.fired or _early_end(answer)
        elif not answer.events:
            error = "the answer carried no text"
        return self._measure(error, notes)

    def refused(self, clause: str, notes: dict[str, str], status: int = 404, message: str = "") -> ProbeResult:
        """The figures of a request that the server answered with an HTTP error."""
        self._too_long = refusal.too_long(status, message)
        return self._measure(clause, notes, late=status in refusal.LATE)

    def failed(self, error: Exception, notes: dict[str, str]) -> ProbeResult:
        """The figures of a request that ended in an exception."""
        if self.guard.fired:
            return self._measure(self.guard.fired, notes)
        if isinstance(error, QtopError):
            return self._measure(error.message, notes)
        begun = bool(self._answer.events)
        clause = refusal.transport_text(error, begun=begun, timeout_s=self._request.timeout_s, connect_s=CONNECT_S)
        return self._measure(clause, notes, late=isinstance(error, httpx.TimeoutException))

    def _measure(self, error: str, notes: dict[str, str], late: bool = False) -> ProbeResult:
        answer = self._answer
        self.close()
        waited = self._waited_last
        wait_ms = None
        if waited is not None and self._waited is not None:
            wait_ms = round((waited - self._waited) / 1e6, 3)
        sent = self._t_send if self._t_send is not None else self._t_due
        if answer.events and self._send_s > OWN_SHARE * (answer.events[0] - sent):
            notes = {**notes, "t_send": f"handing the request over took {self._send_s * 1000:.1f} ms, which TTFT holds"}
        stamps = Stamps(
            t_due=self._t_due,
            t_send=sent,
            t_end=time.monotonic() if error else answer.t_done or self._t_last,
            events=tuple(answer.events),
            silent=tuple(answer.silent),
            t_first_output=answer.t_first_output,
            merged=tuple(sorted(answer.merged)),
        )
        return measure(
            stamps,
            usage=answer.usage,
            error=error,
            finish_reason=answer.finish_reason,
            text_chars=answer.text_chars,
            started=time.time() - (time.monotonic() - sent),
            connect_ms=self._connect_ms,
            client_wait_ms=wait_ms,
            notes=notes,
            reading=Reading(self._by_kernel and bool(answer.events), self._lag),
            timed_out=late or bool(error and self.guard.fired),
            endpoint=self._dialect.path,
            server=answer.server,
            i=self._i,
            scheduled=self._scheduled,
            too_long=self._too_long,
            streaming=self._request.streaming,
            document=answer.document,
        )


def _early_end(answer: Answer) -> str:
    if answer.events and not answer.document:
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


def _has_proxy(url: str) -> bool:
    """Whether the environment names a proxy for this address."""
    parsed = httpx.URL(url)
    proxies = urllib.request.getproxies()
    named = parsed.scheme in proxies or "all" in proxies
    return named and not urllib.request.proxy_bypass(parsed.host)


def _no_tls() -> ssl.SSLContext:
    # httpx loads its certificates (tens of ms) even for plain http unless it is given a context.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
