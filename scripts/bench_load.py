#!/usr/bin/env python3
"""A bounded streaming load on an OpenAI-compatible server, for bench.py; standard library only.

bench_load.py URL SECONDS [STREAMS]     ends sooner when its standard input is closed; prints one line of JSON
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

LONGEST_S = 7200.0
"""Whatever is asked for, it ends after this."""
MAX_TOKENS = 96
PAUSE_S = 0.5
"""After a request that failed: a server that is gone is not hammered."""
PROMPT = "Describe a small harbour town in the morning, at noon and in the evening."


class Load:
    """``streams`` requests at a time, one after the other, until ``deadline`` (monotonic seconds)."""

    def __init__(self, url: str, streams: int, deadline: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._deadline = deadline
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.requests = self.events = self.failed = 0
        self._threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(streams)]

    def run(self) -> None:
        """Send until the time is over or the parent has gone."""
        threading.Thread(target=self._watch_parent, daemon=True).start()
        for thread in self._threads:
            thread.start()
        self._stop.wait(max(0.0, self._deadline - time.monotonic()))
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0)

    def _watch_parent(self) -> None:
        sys.stdin.read()
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                events = self._one()
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.failed += 1
                self._stop.wait(PAUSE_S)
                continue
            with self._lock:
                self.requests += 1
                self.events += events

    def _one(self) -> int:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30.0)
        try:
            body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS, "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise http.client.HTTPException(f"status {answer.status}")
            events = 0
            while not self._stop.is_set() and (line := answer.readline()):
                events += line.startswith(b"data: {")
            return events
        finally:
            connection.close()


def main() -> int:
    """Run the load and print what was sent."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    seconds = min(float(sys.argv[2]), LONGEST_S)
    load = Load(sys.argv[1], int(sys.argv[3]) if len(sys.argv) == 4 else 3, time.monotonic() + seconds)
    load.run()
    print(json.dumps({"requests": load.requests, "events": load.events, "failed": load.failed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
