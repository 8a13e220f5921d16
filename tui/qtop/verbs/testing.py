"""Running a test from the command line: what will be sent, progress while it runs, and what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from qtop.errors import QtopError
from qtop.probe.choice import chosen
from qtop.probe.messages import MOST_REQUESTS, ProbeEvent, ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.timing import ProbeResult
from qtop.report.probe_text import progress_text
from qtop.session import Session
from qtop.verbs.terminal import say
from qtop.watch import ServerWindow

DRAW_S = 0.25
RECENT = 64
WARM = 8
"""Requests at most that warm up by themselves."""


@dataclass
class Outcome:
    """What came of a test."""

    results: list[ProbeResult] = field(default_factory=list)
    check: SelfCheck | None = None
    window: ServerWindow | None = None
    error: str = ""
    interrupted: KeyboardInterrupt | None = None


class Progress:
    """One line on a terminal, redrawn; nothing elsewhere."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._tty = sys.stderr.isatty()
        self._done = self._failed = self._running = 0
        self._ttfts: deque[float] = deque(maxlen=RECENT)
        self._gap: float | None = None
        self._drawn = 0.0
        self._open = False

    def take(self, event: ProbeEvent) -> None:
        """Note an event and draw, if the last drawing is long enough ago."""
        if event.kind == "started" and not event.warmup:
            self._running += 1
        elif event.kind == "gaps" and event.gaps:
            self._gap = sorted(event.gaps)[len(event.gaps) // 2]
        elif event.kind == "done" and event.result is not None:
            self._running -= 1
            self._done += event.result.ok
            self._failed += not event.result.ok
            if event.result.ttft_ms is not None:
                self._ttfts.append(event.result.ttft_ms)
        if self._tty and time.monotonic() - self._drawn >= DRAW_S:
            self._drawn = time.monotonic()
            self._open = True
            line = progress_text(self._done, self._failed, self._running, self._requests, self._ttfts, self._gap)
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def request_of(args: argparse.Namespace, session: Session, prompt: str, max_tokens: int, requests: int) -> ProbeRequest:
    """The test that the arguments ask for. QtopError for one that cannot be."""
    choice = chosen(prompt, max_tokens, session.context())
    rate, seconds = args.rate or 0.0, args.seconds or 0.0
    streams = args.concurrency if args.concurrency is not None else 0 if rate else 1
    if args.requests is None and seconds:
        # Half as many again as are due in that time: the schedule is drawn for all, and cut at the end.
        requests = min(MOST_REQUESTS, int(rate * seconds * 1.5) + 100) if rate else MOST_REQUESTS
    several = requests > 1
    warmup = args.warmup if args.warmup is not None else min(WARM, max(1, streams)) if several else 0
    return session.probe_request(
        choice.text,
        max_tokens,
        requests,
        warmup,
        concurrency=streams,
        rate=rate,
        seconds=seconds,
        seed=args.seed or 0,
        fill=choice.fill,
        prompt_name=choice.name,
        ignore_eos=args.exact,
        timeout_s=args.timeout,
        pause_s=session.source.interval + 0.3 if warmup else 0.0,
    )


def run_test(session: Session, request: ProbeRequest, text: Callable[[str], None] | None = None) -> Outcome:
    """Run a test to its end; ``text`` gets the answer's text as it comes. An interrupt ends it: what ended before
    counts."""
    outcome = Outcome()
    progress = Progress(request.requests) if text is None else None

    def heard(event: ProbeEvent) -> None:
        if text is not None and event.kind == "delta":
            text(event.text)
        elif progress is not None:
            progress.take(event)

    run = session.start_probe(request, heard)
    limit = (request.requests + request.warmup) * request.timeout_s + 30.0
    try:
        outcome.results = run.wait(limit)
        if run.running:
            run.cancel(f"the test was not done after {limit:g} s")
            outcome.results = run.wait(3.0)
        if outcome.results:
            outcome.window = session.probe_window(outcome.results, 2 * session.source.interval + 1.0)
    except KeyboardInterrupt as stop:  # the server must not go on generating; what there is, is shown
        run.cancel()
        outcome.interrupted = stop
        outcome.results = run.wait(3.0)
    finally:
        run.cancel()
        if progress is not None:
            progress.close()
    outcome.check = run.check
    outcome.error = "" if outcome.interrupted is not None else run.error
    if not outcome.results and outcome.error:
        raise QtopError(f"The test prompt failed: {outcome.error}")
    if outcome.error:
        say(f"qtop: the test ended early: {outcome.error}")
    return outcome
