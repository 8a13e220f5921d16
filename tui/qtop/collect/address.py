"""Addresses of servers: what people paste, made one form; and which of them mean this host."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from qtop.errors import QtopError

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_PLAIN = re.compile(r"https?://(?!.*xn--)[a-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]*)?")
"""URLs on which all agree, so that httpx (slow to import) need not be asked before there is something to fetch."""


def normalise_url(text: str) -> str:
    """The base URL of a server as "scheme://host[:port][/prefix]", without a trailing slash or "/v1…".

    Takes what people paste: "host:port", ":8000", "8000" (this host), "http://…/v1/chat/completions".
    QtopError with one line on anything else. Credentials are refused, because a URL is shown and recorded.
    """
    plain = text.strip()
    if not plain:
        raise QtopError("the server's URL is empty", "Give it as host:port")
    if "@" in plain:  # said without repeating it: it may hold a password
        raise QtopError("the server's URL must not hold credentials", "Use --api-key-file or QTOP_API_KEY")
    if plain.startswith(":") and plain[1:].isdecimal():
        plain = plain[1:]
    if plain.isdecimal():
        plain = f"127.0.0.1:{plain}"
    if "://" not in plain:
        plain = f"http://{plain}"
    try:
        parts = urlsplit(plain)
        host, port = parts.hostname or "", parts.port
        # httpx has to agree, or the first request fails.
        bare = host if _PLAIN.fullmatch(plain) else httpx.URL(plain).host
    except (ValueError, httpx.InvalidURL) as error:
        raise _no_url(text) from error
    if parts.scheme not in ("http", "https"):
        raise QtopError(f"cannot talk to {quoted(text)}", "qtop speaks http and https only")
    if parts.query or parts.fragment or not bare or port == 0 or re.search(r"\s", plain) or not plain.isprintable():
        raise _no_url(text)
    host = _host(host, text)
    prefix = re.sub(r"/(?:v1(?:/.*)?|metrics)?$", "", re.sub(r"/{2,}", "/", parts.path).rstrip("/"))
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{prefix}"


def _host(host: str, text: str) -> str:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise _no_url(text) from error
        return f"[{host}]"
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise _no_url(text) from error
    if not host.isascii() or len(host) > 253 or not all(_LABEL.fullmatch(x) for x in host.removesuffix(".").split(".")):
        raise _no_url(text)
    return host


def _no_url(text: str) -> QtopError:
    return QtopError(f"{quoted(text)} is not a server's URL", "Give host:port, [IPv6]:port or http(s)://host:port")


def quoted(text: str) -> str:
    """What a user typed, safe to show: in quotes, printable, at most 60 characters."""
    kept = "".join(c if c.isprintable() else "?" for c in text.strip())
    return f'"{kept[:60]}{"…" if len(kept) > 60 else ""}"'


def is_local(host: str) -> bool:
    """Whether a host name or address means this host: loopback, an own address, an own name (without asking DNS)."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    own = _own_addresses()
    address = _address(name)
    if address is not None:
        return address.is_loopback or address.is_unspecified or address in own
    node = socket.gethostname().lower()
    if name in (node, node.partition(".")[0]):
        return True
    listed = [_address(x) for x in _hosts_file().get(name, ())]
    return any(x is not None and (x.is_loopback or x in own) for x in listed)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _own_addresses() -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    found = (_address(x.address) for nic in psutil.net_if_addrs().values() for x in nic if x.family in families)
    return {x for x in found if x is not None}


def _hosts_file() -> dict[str, list[str]]:
    try:
        lines = Path("/etc/hosts").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    names: dict[str, list[str]] = {}
    for line in lines:
        address, *aliases = line.partition("#")[0].split() or [""]
        for alias in aliases:
            names.setdefault(alias.lower(), []).append(address)
    return names
