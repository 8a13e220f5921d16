"""Runs the requests of a test by its schedule, a thread a stream, and tells what happens as it happens."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from qtop.probe.answer import Delta
from qtop.probe.client import ProbeClient
from qtop.probe.messages import MOST_AT_ONCE, ProbeEvent, ProbeRequest
from qtop.probe.schedule import arrivals
from qtop.probe.selfcheck import Heart
from qtop.probe.timing import ProbeResult, Stamps, measure

TELL_S = 0.2
"""Between two events with the gaps of all streams."""
LEAD_S = 0.02
"""A stream gets a request that is due at a certain instant so long before, to have it ready by then."""
FAILURES_IN_A_ROW = 2
"""For each stream: a server that fails so many requests running would fail the rest as well."""

Job = tuple[int, float | None]
"""A request's number and the monotonic second at which it is due, None: as soon as there is a stream for it."""


class Load:
    """One test. ``put`` takes events from any thread and must not block."""

    def __init__(self, client: ProbeClient, request: ProbeRequest, put: Callable[[ProbeEvent], None]) -> None:
        self._client = client
        self._request = request
        self._put = put
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._streams = 0
        self._idle = 0
        self._running = 0
        self._most = 0
        self._failures = 0
        self._gave_up = threading.Event()
        self._left = threading.Semaphore(0)
        self._followed: int | None = None
        self._gaps: list[float] = []
        self._results: list[ProbeResult] = []
        self._send_lag: list[float] = []
        self._ends_at = float("inf")

    def run(self) -> None:
        """Warm up, then send what counts and wait for the end of all of it. Raises QtopError if nothing can be sent."""
        request = self._request
        self._warm_up()
        time.sleep(request.pause_s)
        # A collection in the middle of a stream is a gap that the server has no part in. One stream at a time leaves
        # room between two requests; with several it is the kernel's stamps that keep it out of the figures.
        gc.collect()
        gc.freeze()
        if not request.one_by_one:
            gc.enable()
        heart = Heart()
        begin = time.monotonic()
        if request.seconds:
            self._ends_at = begin + request.seconds
        (self._open if request.rate else self._closed)(begin)
        check = heart.stop(self._results, self._send_lag, bool(request.rate))
        self._tell()
        self._put(ProbeEvent(kind="report", t=time.monotonic(), check=check))

    def _closed(self, begin: float) -> None:
        """So many streams, each sends its next request when the last one ended."""
        streams = max(1, min(self._request.concurrency, self._request.requests))
        for i in range(self._request.requests):
            self._jobs.put((i, None))
        for _ in range(streams):
            self._jobs.put(None)
            self._stream()
        self._wait(streams)

    def _open(self, begin: float) -> None:
        """Requests at the instants of the schedule, whatever the server does."""
        request = self._request
        cap = request.concurrency or MOST_AT_ONCE
        due = [begin + at for at in arrivals(request.requests, request.rate, request.seed)]
        if request.seconds:
            due = [t for t in due if t < self._ends_at]
        for i, t in enumerate(due):
            while (ahead := t - LEAD_S - time.monotonic()) > 0 and not self._gave_up.is_set():
                self._gave_up.wait(min(ahead, TELL_S))
                if self._gaps:
                    self._tell()
            if self._gave_up.is_set():
                break
            with self._lock:
                free = self._idle > self._jobs.qsize()
            self._jobs.put((i, t))
            if not free and self._streams < cap:
                self._stream()
        for _ in range(self._streams):
            self._jobs.put(None)
        self._wait(self._streams)

    def _stream(self) -> None:
        self._streams += 1
        threading.Thread(target=self._work, name=f"probe-{self._streams}", daemon=True).start()

    def _wait(self, streams: int) -> None:
        ended = 0
        while ended < streams:
            ended += self._left.acquire(timeout=TELL_S)
            self._tell()

    def _work(self) -> None:
        try:
            while True:
                with self._lock:
                    self._idle += 1
                job = self._jobs.get()
                with self._lock:
                    self._idle -= 1
                if job is None:
                    return
                if self._gave_up.is_set() or (job[1] is None and time.monotonic() >= self._ends_at):
                    continue
                self._one(*job)
        finally:
            self._left.release()

    def _one(self, i: int, due: float | None) -> None:
        seen: list[float] = []

        def on_delta(delta: Delta) -> None:
            if seen:
                self._gaps.append(round((delta.t - seen[0]) * 1000, 3))
                seen[0] = delta.t
            else:
                seen.append(delta.t)
                self._put(ProbeEvent(kind="first", i=i, t=delta.t, ms=round((delta.t - begun) * 1000, 3)))
            if self._followed is None:
                self._followed = i
            if self._followed == i:
                self._put(ProbeEvent(kind="delta", i=i, t=delta.t, text=delta.text, reasoning=delta.reasoning))

        if self._request.one_by_one:
            gc.collect()
            gc.freeze()
        begun = max(time.monotonic(), due or 0.0)
        with self._lock:
            self._running += 1
            self._most = max(self._most, self._running)
        self._put(ProbeEvent(kind="started", i=i, t=begun))
        result = _asked(self._client, on_delta, due, i)
        with self._lock:
            self._running -= 1
            self._results.append(result)
            # What the prober added between its turn and sending; waiting for a place among the streams is not its own.
            own = result.client_queue_ms - (result.connect_ms or 0.0)
            self._send_lag.append(own if due is None else max(0.0, own - max(0.0, (begun - due) * 1000)))
            self._failures = 0 if result.ok else self._failures + 1
            if self._failures >= FAILURES_IN_A_ROW * max(1, self._most):
                self._gave_up.set()
            if self._followed == i:
                self._followed = None
        self._put(ProbeEvent(kind="done", i=i, t=time.monotonic(), result=result))

    def _warm_up(self) -> None:
        """Requests that are discarded: as many at a time as will be, so that what a server sets up once is set up."""
        request = self._request
        left = request.warmup
        at_once = max(1, min(left, request.concurrency or left))

        def one() -> None:
            self._put(ProbeEvent(kind="started", t=time.monotonic(), warmup=True))
            ok.append(_asked(self._client, lambda delta: None).ok)

        while left > 0:
            ok: list[bool] = []
            batch = [threading.Thread(target=one, daemon=True) for _ in range(min(left, at_once))]
            for thread in batch:
                thread.start()
            for thread in batch:
                thread.join()
            left -= len(batch)
            if not any(ok):
                return

    def _tell(self) -> None:
        gaps, self._gaps = self._gaps, []
        if gaps:
            event = ProbeEvent(kind="gaps", t=time.monotonic(), gaps=tuple(gaps), running=self._running)
            self._put(event)


def _asked(client: ProbeClient, on_delta: Callable[[Delta], None], due: float | None = None, i: int = 0) -> ProbeResult:
    """One request; a fault of the prober's own is a failed request too, so that none is lost."""
    begun = time.monotonic()
    try:
        return client.ask(on_delta, due, i)
    except Exception as error:
        stamps = Stamps(t_due=due or begun, t_send=begun, t_end=time.monotonic())
        clause = f"the prober failed ({type(error).__name__})"
        return measure(stamps, error=clause, started=time.time(), i=i, scheduled=due is not None)
