"""How long this thread has waited for a CPU, read cheaply: at every token."""

from __future__ import annotations

import os
from contextlib import suppress


class RunQueue:
    """The second field of /proc/thread-self/schedstat, of the thread that made this: a microsecond a reading, because
    the file stays open (opening it costs twenty)."""

    def __init__(self) -> None:
        self._fd = -1
        with suppress(OSError):
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def waited_ns(self) -> int | None:
        """Nanoseconds since the thread began; None where the kernel does not tell."""
        if self._fd < 0:
            return None
        try:
            return int(os.pread(self._fd, 80, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Close the file; again is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
