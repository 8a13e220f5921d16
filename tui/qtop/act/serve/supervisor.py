"""The process that runs a server: starts it again when it ends, keeps its log, says how it is, takes other words.

The server writes to its log itself and is in a session of its own: it goes on when this process is killed, and is a
bare process from then on. Asked to end (Ctrl-C, SIGTERM) this process ends the server first.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtop.act.change import Work
from qtop.act.launchers.ending import end, tree_of
from qtop.act.log_reason import how_ended, reason
from qtop.act.serve.control import (
    FAILED,
    LINE,
    RUNNING,
    STOPPED,
    STOPPING,
    WAITING,
    State,
    child_alive,
    folder,
    is_alive,
    read_state,
)
from qtop.act.serve.health import Health
from qtop.clock import boot_id
from qtop.collect.discover.procfs import start_ticks
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError, Refused

TICK_S = 0.2
TRIES = 5
"""Starts in a row that may end without a healthy minute between them."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
STEADY_S = 60.0
"""Healthy for so long, a server is well: what came before counts no more."""
TAIL = 64 * 1024


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    start: int
    begun: float
    log_from: int
    asked: bool
    """Started because somebody asked for these words: it has to answer once before it is started again by itself."""
    healthy_since: float | None = None


class Supervisor:
    """One server, one socket, one loop."""

    def __init__(
        self, command: Sequence[str], name: str, log: Path, say: Callable[[str], None], show: Callable[[bytes], None]
    ) -> None:
        """``say`` gets a line about the server, ``show`` what the server writes."""
        self._argv = list(command)
        self._name, self._log, self._say, self._show = name, log, say, show
        self._place = folder()
        self._child: _Child | None = None
        self._phase = WAITING
        self._due = 0.0
        self._failures = 0
        self._restarts = 0
        self._ending: threading.Thread | None = None
        self._ending_failed = self._how = ""
        self._leaving = False
        self._shown = 0
        self._health = Health()

    @property
    def _state_file(self) -> Path:
        return self._place / f"{self._name}.json"

    @property
    def _socket_file(self) -> Path:
        return self._place / f"{self._name}.sock"

    def state(self) -> State:
        """What others are told."""
        child = self._child
        return {
            "name": self._name,
            "serve": [os.getpid(), start_ticks(os.getpid())],
            "child": [child.process.pid, child.start] if child is not None else None,
            "boot": boot_id(),
            "argv": self._argv,
            "log": str(self._log),
            "log_from": child.log_from if child is not None else 0,
            "phase": self._phase,
            "healthy": child is not None and child.healthy_since is not None,
            "url": self._health.url,
            "restarts": self._restarts,
            "socket": str(self._socket_file),
            "failed": self._ending_failed,
            "ended": self._how,
        }

    def run(self) -> int:
        """Until it is asked to end, or the server ends too often: 0, or 1. QtopError where it cannot begin."""
        with self._listen() as listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            self._shown = self._log.stat().st_size if self._log.exists() else 0
            try:
                while True:
                    if selector.select(TICK_S):
                        self._answer(listener)
                    self._tick()
                    if self._leaving and self._child is None and self._ending is None:
                        return EXIT_OK
                    if self._phase == FAILED and self._failures >= TRIES:
                        return EXIT_FINDING
            finally:
                self._state_file.unlink(missing_ok=True)
                self._socket_file.unlink(missing_ok=True)

    def leave(self, by_force: bool = False) -> None:
        """End the server, then this; for a signal handler. The second time by force."""
        if self._leaving or by_force:
            self._kill()
        self._leaving = True

    def _listen(self) -> socket.socket:
        before = read_state(self._state_file)
        if before is not None and is_alive(before):
            raise QtopError(f"a `qtop serve` called {self._name} runs already", "Give this one another --name.")
        if before is not None and child_alive(before):
            raise QtopError(
                f"the server that an earlier `qtop serve` started runs still (pid {before['child'][0]})",
                f"End it first: kill {before['child'][0]}",
            )
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open_log())
            self._socket_file.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.bind(str(self._socket_file))
            self._socket_file.chmod(0o600)
            listener.listen(8)
        except OSError as error:
            raise QtopError(f"{error.filename or self._socket_file}: {error.strerror or error}") from None
        return listener

    def _open_log(self) -> int:
        return os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _tick(self) -> None:
        self._tail()
        if self._ending is not None and not self._ending.is_alive():
            self._ending = None
            self._phase = STOPPED if not self._ending_failed else RUNNING
            self._note()
        child = self._child
        if child is not None and child.process.poll() is not None:
            self._ended(child)
        elif child is not None and self._ending is None:
            if self._leaving:
                self._stop()
            else:
                self._look(child)
        elif child is None and self._phase == WAITING and not self._leaving and time.monotonic() >= self._due:
            self._start(False)

    def _look(self, child: _Child) -> None:
        """Health, as it changes."""
        healthy = self._health.look(child.process.pid, self._argv, time.monotonic() - child.begun)
        now = time.monotonic()
        if healthy and child.healthy_since is None:
            child.healthy_since = now
            child.asked = False
            self._say(f"healthy after {now - child.begun:.0f} s: pid {child.process.pid}{self._health.where}")
            self._note()
        elif healthy is False and child.healthy_since is not None:
            child.healthy_since = None
            self._say(f"not healthy: pid {child.process.pid}{self._health.where} does not answer well")
            self._note()
        if child.healthy_since is not None and now - child.healthy_since > STEADY_S:
            self._failures = 0

    def _start(self, asked: bool) -> None:
        """Run the words; what keeps them from running counts as an end."""
        size = self._log.stat().st_size if self._log.exists() else 0
        fd = self._open_log()
        try:
            process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True
            )
        except OSError as error:
            os.write(fd, f"{self._argv[0]}: {error.strerror}\n".encode())
            self._failed(f"{self._argv[0]}: {error.strerror}", asked)
            return
        finally:
            os.close(fd)
        self._child = _Child(process, start_ticks(process.pid) or 0, time.monotonic(), size, asked)
        self._phase, self._ending_failed, self._how = RUNNING, "", ""
        self._health = Health()
        self._say(f"started: pid {process.pid}, log {self._log}")
        self._note()

    def _ended(self, child: _Child) -> None:
        self._child = None
        status = child.process.returncode
        if self._phase in (STOPPING, STOPPED) or self._ending is not None or self._leaving:
            self._say("the server has ended")
            self._note()
            return
        self._how = how_ended(status)
        why = reason(self._since(child.log_from)) if status else ""
        self._failed(f"{self._how}{f': {why}' if why else ''}", child.asked)

    def _failed(self, why: str, asked: bool) -> None:
        """Start it again after a while, unless it never answered with words that somebody wants to try."""
        self._failures += 1
        if asked:
            self._failures = 0
            self._phase = FAILED
            self._say(f"{why}; these words were asked for, so they are not tried again")
        elif self._failures >= TRIES:
            self._phase = FAILED
            self._say(f"{why}; {TRIES} times in a row: given up")
        else:
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self._failures - 1))
            self._phase, self._due = WAITING, time.monotonic() + wait
            self._restarts += 1
            self._say(f"{why}; started again in {wait:.0f} s ({self._failures} of {TRIES})")
        self._note()

    def _stop(self) -> None:
        """End it on a thread of its own: meanwhile others may ask how far it is."""
        child = self._child
        if self._ending is not None:
            return
        if child is None:
            self._phase = STOPPED
            self._note()
            return
        self._phase, self._ending_failed = STOPPING, ""
        known = tree_of(child.process.pid)
        self._note()

        def work() -> None:
            try:
                end(known, {"argv": self._argv}, Work(say=self._say))
            except QtopError as error:
                self._ending_failed = error.message

        self._ending = threading.Thread(target=work, name="qtop-serve-end", daemon=True)
        self._ending.start()

    def _kill(self) -> None:
        child = self._child
        if child is not None and child.process.poll() is None:
            for pid, _ in reversed(tree_of(child.process.pid)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _answer(self, listener: socket.socket) -> None:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        with link:
            link.settimeout(1.0)
            try:
                data = b""
                while not data.endswith(b"\n") and len(data) < LINE and (more := link.recv(65536)):
                    data += more
                link.sendall(json.dumps(self._do(data)).encode() + b"\n")
            except OSError:
                return

    def _do(self, data: bytes) -> State:
        try:
            question = json.loads(data)
            do = question["do"]
            if do == "stop":
                self._stop()
            elif do == "start":
                argv = question["argv"]
                if not (isinstance(argv, list) and argv and all(isinstance(word, str) and word for word in argv[:1])):
                    return {"refused": "no words to start"}
                if self._child is not None or self._ending is not None or self._leaving:
                    return {"refused": "the server runs still"}
                self._argv = [str(word) for word in argv]
                self._start(True)
            elif do != "state":
                return {"refused": f"what is {do!r}?"}
        except (ValueError, KeyError, TypeError):
            return {"refused": "not understood"}
        except (OSError, Refused) as error:
            return {"refused": str(error)}
        return self.state()

    def _note(self) -> None:
        """The state file, whole or not at all."""
        spare = self._state_file.with_suffix(".new")
        try:
            fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                json.dump(self.state(), file)
            spare.rename(self._state_file)
        except OSError as error:
            self._say(f"{self._state_file} cannot be written: {error.strerror}")

    def _since(self, begin: int) -> list[str]:
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(min(begin, size), size - TAIL))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def _tail(self) -> None:
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size != self._shown:
                    file.seek(min(self._shown, size) if size - self._shown < TAIL else size - TAIL)
                    self._show(file.read())
                    self._shown = size
        except OSError:
            return
