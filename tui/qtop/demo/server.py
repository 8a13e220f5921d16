"""Starting and stopping the demo server: a child process that cannot outlive this one."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import importlib.util
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from qtop.demo.fetch import Progress, Say
from qtop.demo.model import ensure_model
from qtop.demo.serve import EXIT_NO_WHEEL
from qtop.errors import QtopError

_PORT_TRIES = 3
_POLL_SECONDS = 0.05
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] \w*\s*")
"""llama.cpp begins a line with its clock, a level and a module."""


class CannotRun(QtopError):
    """This machine cannot run the demo server: its wheel is missing, or the CPU lacks instructions it is built for."""


def _missing_wheel() -> CannotRun:
    return CannotRun("the demo server needs the wheel xllamacpp", "pip install 'qtop-llm[demo]'")


def _quiet(text: str) -> None:
    """Says nothing."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DemoServer:
    """A llama.cpp server on 127.0.0.1 with the demo model (or ``model``, a GGUF file); it ends with this process.

    ``parallel`` is the number of requests served at once, ``context`` the tokens of all of them together, ``patience``
    the seconds it may take until it answers.
    """

    def __init__(
        self, model: Path | None = None, *, parallel: int = 4, context: int = 8192, patience: float = 20.0
    ) -> None:
        self._model = model
        self._parallel = parallel
        self._context = context
        self._patience = patience
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._port = 0
        self._owner = os.getpid()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before ``start``."""
        return self._port

    @property
    def url(self) -> str:
        """Its address without a trailing slash, as ``http://127.0.0.1:41234``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Its process id; QtopError if it is not running."""
        if self._child is None:
            raise QtopError("the demo server is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        """True from a successful ``start`` until it stops, by itself or by ``stop``."""
        return self._child is not None and self._child.poll() is None

    def start(
        self, port: int = 0, threads: int | None = None, say: Say = _quiet, progress: Progress | None = None
    ) -> Self:
        """Starts it and waits until it answers; fetches the model first where the cache lacks it.

        ``port`` 0 picks a free one, ``threads`` None leaves the number of compute threads to llama.cpp. Raises
        CannotRun if this machine cannot run it, QtopError if it does not start, and what ``ensure_model`` raises.
        """
        if self.running:
            raise QtopError("the demo server is already running", f"It listens at {self.url}")
        if importlib.util.find_spec("xllamacpp") is None:
            raise _missing_wheel()
        model = self._model or ensure_model(progress, say)
        say("starting a llama.cpp server")
        tries = 1 if port else _PORT_TRIES  # between finding a free port and listening on it, another may take it
        for attempt in range(tries):
            self._port = port or free_port()
            self._spawn(model, threads)
            try:
                self._await_answer(model)
                return self
            except QtopError as error:
                self.stop()
                if attempt + 1 == tries or "in use" not in error.message:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable")

    def _spawn(self, model: Path, threads: int | None) -> None:
        # -P: a folder called qtop or xllamacpp where the user happens to stand must not be imported.
        command = [sys.executable, "-P", "-m", "qtop.demo.serve", "--model", str(model), "--port", str(self._port)]
        command += ["--parallel", str(self._parallel), "--ctx-size", str(self._context), "--log", "-"]
        if threads is not None:
            command += ["--threads", str(threads)]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  has no name, so that nothing is left behind; closed by stop()
        self._owner = os.getpid()
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C on the terminal is meant for qtop, which then stops it
        )
        atexit.register(self.stop)

    def _await_answer(self, model: Path) -> None:
        """Waits for the child's own word that it listens (an answer alone may be another server's), then for health."""
        child = self._child
        assert child is not None and child.stdout is not None
        deadline = time.monotonic() + self._patience
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            if selector.select(self._patience) and not os.read(child.stdout.fileno(), 4096):
                raise self._explain_end(child.wait(), model)
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise self._explain_end(child.returncode, model)
            if answers(self._port):
                return
            time.sleep(_POLL_SECONDS)
        raise QtopError(
            f"the demo server did not answer within {self._patience:.0f} s", "The machine may be very busy: try again"
        )

    def _explain_end(self, status: int, model: Path) -> QtopError:
        if status == -signal.SIGILL:
            return CannotRun("the demo server stopped: this CPU lacks instructions it is built for (AVX2)")
        lines = self._log_lines()
        if status == EXIT_NO_WHEEL:
            return CannotRun(lines[-1] if lines else "xllamacpp cannot be imported", "pip install 'qtop-llm[demo]'")
        if any("couldn't bind" in line for line in lines):
            return QtopError(f"the demo server cannot listen: port {self._port} is in use", "Choose another port")
        if status < 0:
            with contextlib.suppress(ValueError):
                return QtopError(f"the demo server was ended by {signal.Signals(-status).name} while it started")
        if any("failed to load model" in line for line in lines):
            return QtopError(f"llama.cpp cannot load {model}", "It must be a GGUF file that can be read")
        said = _LOG_PREFIX.sub("", lines[-1]) if lines else "it said nothing"
        return QtopError(f"the demo server ended with status {status} while it started: {said}")

    def _log_lines(self) -> list[str]:
        if self._log is None:
            return []
        self._log.seek(0)
        text = self._log.read(1 << 20).decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def stop(self) -> None:
        """Stops it: closes its standard input, then SIGTERM, then SIGKILL. Does nothing if it is not running."""
        child, log = self._child, self._log
        if child is None or os.getpid() != self._owner:  # a forked copy of this object does not own the child
            return
        self._child = self._log = None
        atexit.unregister(self.stop)
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        for patience, signal_number in ((2.0, signal.SIGTERM), (2.0, signal.SIGKILL)):
            try:
                child.wait(patience)
                break
            except subprocess.TimeoutExpired:
                child.send_signal(signal_number)
        child.wait()
        for file in (child.stdout, log):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        if not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(port: int, seconds: float = 1.0) -> bool:
    """True if an HTTP server on this port of 127.0.0.1 says in time that it is ready (llama.cpp says 503 while it
    loads)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
