"""A process with threads that has children when told to; it leads a session of its own, and ends with this one.

Forked without an exec: a user who may not read this Python's folder can own one as well.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import NoReturn, Self

LONGEST_S = 600


class Family:
    """``uid``: whose it is, for root. Its nice value is 0."""

    def __init__(self, workers: int = 1, uid: int | None = None) -> None:
        asked, self._asking = os.pipe()
        self._answers, answering = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._asking)
                _live(workers, uid, asked, answering)
            finally:
                os._exit(1)
        os.close(asked)
        os.close(answering)
        self._ended = False
        self._answer()

    def _answer(self) -> int:
        told = os.read(self._answers, 20)
        assert told, "it has ended"
        return int(told)

    def born(self) -> int:
        """A child, by its number; it outlives its parent."""
        os.write(self._asking, b"b")
        return self._answer()

    def leave(self) -> None:
        """End the parent; its children stay."""
        os.write(self._asking, b"l")
        self._reap()

    def _reap(self) -> None:
        if not self._ended:
            os.waitpid(self.pid, 0)
            self._ended = True

    def nices(self) -> dict[int, int]:
        """The nice value of each thread."""
        tids = [int(name) for name in os.listdir(f"/proc/{self.pid}/task")]
        return {tid: os.getpriority(os.PRIO_PROCESS, tid) for tid in tids}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reap()
        os.close(self._asking)
        os.close(self._answers)


def _live(workers: int, uid: int | None, asked: int, answering: int) -> NoReturn:
    os.setsid()
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # however nice the tests are
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    for _ in range(workers):
        threading.Thread(target=time.sleep, args=(LONGEST_S,), daemon=True).start()
    os.write(answering, b"0")
    while os.read(asked, 1) == b"b":
        child = os.fork()
        if child == 0:
            os.close(asked)
            time.sleep(LONGEST_S)
            os._exit(0)
        os.write(answering, str(child).encode())
    os._exit(0)
