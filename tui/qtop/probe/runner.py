"""The parent's side of a test prompt: starts the process that measures, hears its events, ends it when asked to."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

import qtop
from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.timing import ProbeResult
from qtop.units import plural

KILL_AFTER_S = 2.0
STDERR_KEPT = 8192
OnEvent = Callable[[ProbeEvent], None]

_log = logging.getLogger(__name__)


class ProbeRun:
    """One test in a process of its own. ``on_event`` is called on a reader thread; the last event is of kind "end"."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._child: subprocess.Popen[bytes] | None = None
        self._results: list[ProbeResult] = []
        self._lock = threading.Lock()
        self._stdin_lock = threading.Lock()
        self._cancelled = False
        self._over = threading.Event()
        self._stderr = b""
        self.check: SelfCheck | None = None
        """How far the prober itself was in the way; None until all requests have ended."""
        self.error = ""
        """Why the test as a whole failed or ended early, one clause, or ""; a failed request says so itself."""

    @property
    def pid(self) -> int | None:
        """The child's process id, None where it could not be started."""
        return self._child.pid if self._child is not None else None

    @property
    def running(self) -> bool:
        """Whether events may still come."""
        return self._child is not None and not self._over.is_set()

    @property
    def stderr(self) -> str:
        """The last 8 KiB that the child wrote to stderr, for a debug log and never for the screen."""
        return self._stderr.decode("utf-8", errors="replace")

    def start(self, request: ProbeRequest, on_event: OnEvent | None = None) -> None:
        """Start the test; returns at once. A process that cannot be started is told in ``error`` and the "end" event.

        A run starts once: a second start raises RuntimeError.
        """
        if self._child is not None or self._over.is_set():
            raise RuntimeError("a test run starts once")
        on_event = on_event or _ignore
        try:
            child = subprocess.Popen(
                # -P: a module in the current folder must not be able to stand in for one of ours.
                [self._python, "-P", "-m", "qtop.probe.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C or SIGHUP of the terminal is the parent's to handle
            )
        except OSError as error:
            self.error = f"the test process cannot be started ({error.strerror or type(error).__name__})"
            self._finish(on_event)
            return
        self._child = child
        threading.Thread(target=self._read, args=(child, request, on_event), name="probe-events", daemon=True).start()

    def cancel(self, why: str = "cancelled") -> None:
        """End the test now; returns at once. The child closes its connection; after 2 s it is killed."""
        child = self._child
        if child is None or self._over.is_set():
            return
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
        self.error = self.error or why
        threading.Thread(target=self._end_child, args=(child,), name="probe-cancel", daemon=True).start()

    def wait(self, timeout: float | None = None) -> list[ProbeResult]:
        """The results of the requests that ended, once the test is over or ``timeout`` seconds have passed."""
        self._over.wait(timeout)
        return sorted(self._results, key=lambda result: result.i)

    def _end_child(self, child: subprocess.Popen[bytes]) -> None:
        if self._stdin_lock.acquire(timeout=KILL_AFTER_S):  # a long prompt may still be on its way
            _close(child.stdin)
            self._stdin_lock.release()
        try:
            child.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            child.kill()

    def _read(self, child: subprocess.Popen[bytes], request: ProbeRequest, on_event: OnEvent) -> None:
        assert child.stdin is not None and child.stdout is not None
        drain = threading.Thread(target=self._drain, args=(child,), name="probe-stderr", daemon=True)
        drain.start()
        decoder = msgspec.json.Decoder(ProbeEvent)
        try:
            with self._stdin_lock:
                # From this thread: a prompt larger than the pipe waits here until the child has started.
                _write_all(child.stdin, msgspec.json.encode(request) + b"\n")
        except (
            OSError,
            ValueError,
        ):  # the child is gone, how it ended says the rest; or it waits for a request in vain
            _close(child.stdin)
        try:
            with open(child.stdout.fileno(), "rb", closefd=False) as lines:
                for line in lines:
                    try:
                        event = decoder.decode(line)
                    except msgspec.MsgspecError:
                        continue  # the last line of a child that was killed may be cut
                    self._take(event, on_event)
        except (OSError, ValueError):
            pass
        self._end_child(child)
        code = child.wait()
        drain.join(1.0)
        _close(child.stdout)
        if not drain.is_alive():
            _close(child.stderr)
        if not self._cancelled and not self.error and code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.error = f"the test process ended unexpectedly ({how})"
            _log.debug("probe child: %s", self.stderr)
            _call(on_event, ProbeEvent(kind="error", error=self.error, t=time.monotonic()))
        self._finish(on_event)

    def _take(self, event: ProbeEvent, on_event: OnEvent) -> None:
        if self._cancelled:
            return
        if event.kind == "done" and event.result is not None:
            self._results.append(event.result)
        elif event.kind == "report":
            self.check = event.check
        elif event.kind == "error":
            self.error = event.error
        _call(on_event, event)

    def _drain(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr is not None
        try:
            while part := child.stderr.read(4096):
                self._stderr = (self._stderr + part)[-STDERR_KEPT:]
        except (OSError, ValueError):
            pass

    def _finish(self, on_event: OnEvent) -> None:
        self._over.set()
        _call(on_event, ProbeEvent(kind="end", t=time.monotonic(), error=self.error))


def run_probe(
    request: ProbeRequest, on_event: OnEvent | None = None, timeout: float | None = None
) -> list[ProbeResult]:
    """Run a test and return the result of each request; blocks.

    The default timeout is what all requests together may take. Raises QtopError where the test as a whole failed, so
    that there is no result to show; a request that failed is a result with ``ok`` false.
    """
    limit = timeout if timeout is not None else (request.requests + request.warmup) * request.timeout_s + 30.0
    run = ProbeRun()
    try:
        run.start(request, on_event)
        results = run.wait(limit)
        if run.running:
            run.cancel(f"the test was not done after {limit:g} s")
            results = run.wait(KILL_AFTER_S + 1.0)
    except BaseException:  # a Ctrl-C: the server must not go on generating
        run.cancel()
        raise
    if not results and run.error:
        raise QtopError(f"The test prompt failed: {run.error}")
    return results


def plan_text(
    request: ProbeRequest, running: int | None, waiting: int | None, cap: int | None
) -> tuple[str, str | None]:
    """What a test will ask of the server, and a warning if the server has no room for it.

    ``running`` and ``waiting`` are requests in the server now, ``cap`` how many it runs at a time; None where unknown.
    """
    n = request.requests + request.warmup
    if request.seconds and request.requests > request.seconds * (request.rate or 1000.0):
        # More than fit: it is the time that ends the test.
        line = f"requests for {request.seconds:g} s, {_up_to(request.asked_tokens)} each"
    else:
        line = f"{plural(n, 'request')}, {_up_to(n * request.asked_tokens)}"
        if request.seconds:
            line += f", for at most {request.seconds:g} s"
    if request.rate:
        line += f", {request.rate:g} a second"
    if request.concurrency > 1:
        line += f", {request.concurrency} at a time"
    if request.fill:
        line += f", each with a prompt of {_grouped(request.fill)} tokens"
    if request.warmup:
        line += f"; the first {'one does' if request.warmup == 1 else f'{request.warmup} do'} not count"
    if waiting:
        have = "1 request is" if waiting == 1 else f"{waiting} requests are"
        return line, f"{have} already waiting: the test would wait behind, show the queue, and lengthen it"
    if running is not None and cap is not None and cap > 0 and running >= cap:
        return line, f"the server already runs {running} of {cap} requests: the test would have to wait for a place"
    return line, None


def _up_to(tokens: int) -> str:
    return f"up to {_grouped(tokens)} tokens" if tokens else "as many tokens as the server likes"


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _environment() -> dict[str, str]:
    """This process's environment; a package that is not installed but run from a folder is put on the child's path."""
    environment = dict(os.environ)
    root = Path(qtop.__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            pass


def _call(on_event: OnEvent, event: ProbeEvent) -> None:
    try:
        on_event(event)
    except Exception:
        _log.debug("a listener of the test prompt failed", exc_info=True)  # the reader must go on


def _ignore(event: ProbeEvent) -> None:
    pass
