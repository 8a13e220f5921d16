"""Whether a server that qtop runs answers: found by its own sockets, asked for /health. Standard library only."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from qtop.collect.discover import urls_for_pid

SOON_S, LATER_S = 0.25, 5.0
"""Between two questions: until it is healthy, and from then on."""
FIND_S = 2.0
"""At most between two looks for where it listens, each of which reads what all processes hold."""
UNSEEN_S = 30.0
"""A server that listens nowhere that can be seen counts as well after so long."""
BAD = 3
"""Questions in a row without a good answer until it is called unhealthy."""


class Health:
    """Of one process, asked as often as it makes sense."""

    def __init__(self) -> None:
        self.url = ""
        self._next = 0.0
        self._bad = 0
        self._last: bool | None = None

    @property
    def where(self) -> str:
        """For a line about it."""
        return f", {self.url}" if self.url else ""

    def look(self, pid: int, argv: Sequence[str], age_s: float) -> bool | None:
        """True, False, or None while nothing new is known."""
        now = time.monotonic()
        if now < self._next:
            return self._last
        if not self.url:
            urls = urls_for_pid(pid)
            self._next = now + min(FIND_S, max(SOON_S, age_s / 10))
            if not urls:
                self._last = True if age_s > UNSEEN_S else None
                return self._last
            self.url = urls[0]
        good = answers(self.url)
        self._bad = 0 if good else self._bad + 1
        self._next = now + (LATER_S if good else SOON_S)
        if good:
            self._last = True
        elif self._bad >= BAD and self._last:
            self._last = False
        return self._last


def answers(url: str) -> bool:
    """Whether /health says 200; a server without that route answers at all."""
    parts = urlsplit(url)
    where = parts.hostname or "127.0.0.1"
    link: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        link = http.client.HTTPSConnection(where, parts.port, timeout=2.0, context=context)
    else:
        link = http.client.HTTPConnection(where, parts.port, timeout=2.0)
    try:
        link.request("GET", "/health")
        return link.getresponse().status in (200, 401, 403, 404)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
