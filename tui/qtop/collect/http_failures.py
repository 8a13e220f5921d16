"""Why there is no HTTP answer, as one short clause that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from qtop.clock import mono
from qtop.sample import Absent, Why

if TYPE_CHECKING:
    from qtop.collect.http import Exchange

_CERT_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_CERT_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED


class TooLarge(Exception):
    """The answer is larger than the limit."""


def failure(error: Exception, exchange: Exchange) -> Absent:
    """What went wrong with an exchange, as far as it got."""
    url = httpx.URL(exchange.path) if "://" in exchange.path else exchange.client.base_url
    place = _place(url.host, url.port or (443 if url.scheme == "https" else 80))
    if isinstance(error, TooLarge):
        return Absent(Why.FAILED, f"{exchange.path} is larger than {_size(exchange.limit)}")
    if exchange.head is not None:
        if isinstance(error, httpx.TimeoutException):
            return Absent(Why.FAILED, f"{exchange.path} was not complete after {_seconds(mono() - exchange.start)}")
        return Absent(Why.FAILED, f"{exchange.path} was cut off after {_size(len(exchange.data))}")
    if exchange.peer is not None and _place(*exchange.peer) != place:
        place = f"the proxy {_place(*exchange.peer)}"
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause, url.host)
    if any(isinstance(x, ssl.SSLError) for x in causes):
        return Absent(Why.FAILED, f"{place} does not speak TLS as asked: is it http://?")
    return _no_answer(error, causes, exchange, place, url.host)


def _no_answer(error: Exception, causes: list[BaseException], exchange: Exchange, place: str, host: str) -> Absent:
    patience = exchange.client.timeout
    single = patience.connect if isinstance(error, httpx.ConnectTimeout) else patience.read
    waited = _seconds(exchange.deadline_s if single is None or mono() >= exchange.until else single)
    match error:
        case httpx.ConnectTimeout() if exchange.connected:
            return Absent(Why.FAILED, f"{place} did not answer in TLS within {waited}: is it http://?")
        case httpx.ConnectTimeout():
            return Absent(Why.LOST, f"{place} did not take a connection within {waited}")
        case httpx.TimeoutException():
            return Absent(Why.FAILED, f"{place} accepted but did not answer within {waited}")
        case httpx.ProxyError():
            return Absent(Why.FAILED, f"{place} refused to pass the request on")
        case httpx.RemoteProtocolError() if "disconnected" not in str(error):
            return Absent(Why.FAILED, f"{place} does not answer in HTTP: is it another service, or https://?")
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            return Absent(Why.LOST, f"{place} closed the connection without an answer")
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            return Absent(Why.LOST, f"nothing listens on {place}")
        if isinstance(cause, (socket.gaierror, UnicodeError)):
            return Absent(Why.FAILED, f"no address is known for {host}")
        if isinstance(cause, OSError) and cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return Absent(Why.LOST, f"there is no route to {host}")
    numbers = [x.errno for x in causes if isinstance(x, OSError) and x.errno]
    detail = os.strerror(numbers[-1]).lower() if numbers else type(error).__name__
    return Absent(Why.FAILED, f"the request to {place} failed: {detail}")


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> Absent:
    if error.verify_code in _CERT_NAME:
        return Absent(Why.FAILED, f"the certificate of {host} is for another name: pass --insecure if that is expected")
    if error.verify_code == _CERT_EXPIRED:
        return Absent(Why.FAILED, f"the certificate of {host} has expired: renew it or pass --insecure")
    return Absent(Why.FAILED, f"the certificate of {host} is not trusted: pass --ca FILE or --insecure")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or step.__context__


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _seconds(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") + " s"


def _size(value: int) -> str:
    if value < 1024:
        return f"{value} B"
    return f"{value / 1024:.0f} KiB" if value < 1024 * 1024 else f"{value / 1024 / 1024:.0f} MiB"
