"""How a knob reaches a server over HTTP: a record holds the address and whether a key was needed, never the key.

The key is that of the session that watches the server; without one (``qtop undo``) QTOP_API_KEY or the settings' file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx

from qtop.act.change import Record
from qtop.collect.http import Access, open_client
from qtop.config import load, read_key
from qtop.errors import QtopError

_watched: list[Callable[[], Access | None]] = []
"""Of the session that changes things, if there is one."""


def through(access: Callable[[], Access | None]) -> None:
    """From now on the server of this session is reached as the session reaches it."""
    _watched[:] = [access]


def access_of(url: str) -> Access | None:
    """How the session reaches the server at ``url``; None where it watches another or there is no session."""
    for access in _watched:
        found = access()
        if found is not None and found.url == Access(url).url:
            return found
    return None


def told(url: str) -> Record:
    """What a record keeps of the way to a server."""
    found = access_of(url) or Access(url)
    return {"url": found.url, "keyed": found.api_key is not None, "verify": found.verify, "near": found.near}


@contextmanager
def client_of(way: Record, timeout_s: float) -> Iterator[httpx.Client]:
    """A client for the server of a record; the key goes along only where it did when the record was made."""
    access = access_of(way["url"])
    if access is None:
        access = Access(way["url"], _key() if way["keyed"] else None, way["verify"], way["near"])
    with open_client(access, timeout_s) as client:
        yield client


def _key() -> str | None:
    settings = None
    with suppress(QtopError):
        settings = load()
    with suppress(QtopError):
        return read_key(None, settings)
    return None
