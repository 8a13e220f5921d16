"""Kept file descriptors: a file under /proc read every second costs one pread (1 µs) instead of open, read, close
(6 to 24 µs). All that are kept share one allowance, because RLIMIT_NOFILE is often 1024."""

from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path

from qtop.sample import Absent, Why

_CHUNK = 1 << 16
RESERVE = 256
"""Descriptors left to everything else: terminal, sockets, pipes, the GPU's driver."""
WANTED = 4096
"""The most that are kept; where that many are needed, the soft limit is raised."""


def why_of(error: OSError) -> Why:
    """What an errno means for a reading."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Why.DENIED
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
        return Why.UNSUPPORTED
    if error.errno in (errno.ESRCH, errno.ENODEV):
        return Why.LOST
    return Why.FAILED


class Allowance:
    """How many descriptors may be kept, counted over all that keep some; ``most`` follows RLIMIT_NOFILE if not
    given."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._may_raise = most is None
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Descriptors kept now."""
        return self._held

    def take(self) -> bool:
        """True if one more may be kept."""
        with self._lock:
            if self._most is None:
                self._most = _room(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            if self._held >= self._most and self._may_raise:
                self._may_raise = False
                self._most = _room(_raised())
            if self._held >= self._most:
                return False
            self._held += 1
            return True

    def give_back(self) -> None:
        """One less is kept."""
        with self._lock:
            self._held -= 1


def _room(soft: int) -> int:
    """Descriptors that may be kept under a limit of ``soft``."""
    return WANTED if soft == resource.RLIM_INFINITY else max(0, min(WANTED, soft - RESERVE))


def _raised() -> int:
    """The soft limit after it was raised as far as it is of use, which every process may do up to its hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED + RESERVE
    more = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft == resource.RLIM_INFINITY or soft >= more:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    except (OSError, ValueError):  # a sandbox may forbid it
        return soft
    return more


SHARED = Allowance()


class KeptFiles:
    """Files that stay open between reads. A descriptor of a dead process never reads as its successor's: the kernel
    answers ESRCH."""

    def __init__(self, allowance: Allowance = SHARED) -> None:
        self._allowance = allowance
        self._open: dict[str, int] = {}

    def read(self, path: str, size: int = _CHUNK, records: bool = False) -> bytes | Absent:
        """The whole file (up to ``size`` bytes a call until its end), or why not. ``records`` for one that the kernel
        makes record by record (/proc/vmstat): it gives a page at a time, whatever is asked for."""
        fd = self._open.get(path)
        try:
            if fd is None:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if self._allowance.take():
                    self._open[path] = fd
                else:
                    try:
                        return _to_the_end(fd) if records else _read_all(fd, size)
                    finally:
                        os.close(fd)
            return _to_the_end(fd) if records else _read_all(fd, size)
        except OSError as error:
            self.forget(path)
            return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0)}")

    def forget(self, path: str) -> None:
        """Close one file, if open."""
        fd = self._open.pop(path, None)
        if fd is not None:
            os.close(fd)
            self._allowance.give_back()

    def forget_below(self, prefix: str) -> None:
        """Close each file whose path starts with ``prefix``."""
        for path in [path for path in self._open if path.startswith(prefix)]:
            self.forget(path)

    def close(self) -> None:
        """Close all."""
        self.forget_below("")

    def __del__(self) -> None:
        """Descriptors are plain numbers to Python: nobody else would close them."""
        self.close()


def _read_all(fd: int, size: int) -> bytes:
    data = os.pread(fd, size, 0)
    if len(data) < size:
        return data
    parts, offset = [data], len(data)
    while data:
        data = os.pread(fd, size, offset)
        parts.append(data)
        offset += len(data)
    return b"".join(parts)


def _to_the_end(fd: int) -> bytes:
    """The file from its beginning, by reads that follow each other: at an offset the kernel makes all before it
    again."""
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while data := os.read(fd, _CHUNK):
        parts.append(data)
    return b"".join(parts)


def read_once(path: str, size: int = _CHUNK, records: bool = False) -> bytes | Absent:
    """A small file (up to ``size`` bytes) by three system calls: a Path and a text file take three times as long.
    ``records`` as for ``KeptFiles.read``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0)}")
    try:
        return _to_the_end(fd) if records else os.read(fd, size)
    except OSError as error:
        return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0)}")
    finally:
        os.close(fd)


def read_text(path: str | Path) -> str | Absent:
    """A small file read once, or why not."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - paths arrive as text, hundreds of them
            return file.read()
    except OSError as error:
        return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0)}")
