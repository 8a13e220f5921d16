"""Recording while the dashboard runs: a thread redacts, encodes, compresses and writes; the caller never waits."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec

from qtop.clock import wall
from qtop.errors import QtopError
from qtop.record.blockfile import BLOCK_RECORDS, BlockFile
from qtop.record.names import local_names, local_users
from qtop.record.redact import Redactor, here
from qtop.sample.codec import Header, decode_event, encode_event, encode_sample
from qtop.sample.types import Event, Sample

__all__ = ["Header", "RecordingWriter", "Stats"]

QUEUE = 64
"""Records that may wait for the disk; a minute at the usual pace."""
CLOSE_TIMEOUT = 5.0
"""Seconds that ``close`` waits for a disk that hangs."""

_CAUSES = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.EFBIG: "file size limit reached",
    errno.EROFS: "file system became read-only",
    errno.EIO: "disk error",
}


class Stats(NamedTuple):
    """What a recording holds so far."""

    samples: int
    events: int
    bytes: int
    """Length of the file."""
    dropped: int
    """Records that were not written: the disk was too slow, or they could not be encoded."""


class _Drop(NamedTuple):
    before: float | None
    most: int | None = None


class RecordingWriter:
    """Records samples and events into a new file; QtopError at once if it cannot be created.

    A write that fails later stops the recording: ``error`` is then one line for the user, and the file stays readable.
    Where the header says that prompts are kept, texts of prompts and answers are written; else never.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        overwrite: bool = False,
        *,
        redactor: Redactor | None = None,
    ) -> None:
        self.path = path
        self.error: str | None = None
        self.prompts = header.prompts
        """Whether texts of prompts and answers are kept."""
        self._redactor = redactor
        quick = redactor or here()
        self._file = BlockFile(path, msgspec.structs.replace(header, note=quick.text(header.note)), overwrite)
        self._queue: deque[Sample | Event | _Drop] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._samples = self._events = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="qtop-recorder", daemon=True)
        self._thread.start()

    def sample(self, sample: Sample) -> None:
        """Hand over one sample; it is dropped and counted if the disk is too far behind."""
        self._put(sample)

    def event(self, event: Event) -> None:
        """Hand over one event; a copy is taken. Dropped and counted if it is not JSON or the disk is behind."""
        try:
            copy = decode_event(encode_event(event))
        except QtopError:
            with self._wake:
                self._dropped += 1
            return
        self._put(copy)

    def drop_before(self, t: float) -> None:
        """Let go of what was recorded before Unix time ``t``, whole blocks of it and when they are worth it (see
        ``BlockFile.drop_before``), behind what waits to be written. Where there is no room for that the file stays."""
        self._put_drop(_Drop(t))

    def drop_to(self, most: int) -> None:
        """Let go of the oldest blocks where the file is longer than ``most`` bytes, as ``drop_before`` does."""
        self._put_drop(_Drop(None, most))

    def _put_drop(self, item: _Drop) -> None:
        with self._wake:
            if not self._closing and self.error is None and len(self._queue) < QUEUE:
                self._queue.append(item)
                self._wake.notify()

    @property
    def stats(self) -> Stats:
        """Counts so far."""
        with self._wake:
            return Stats(self._samples, self._events, self._file.bytes, self._dropped)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what waits and end the file; never raises. A disk that hangs is left after ``timeout`` seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive() and self.error is None:
            self._stop("the disk does not answer")

    def _put(self, item: Sample | Event) -> None:
        with self._wake:
            if self._closing or self.error is not None or len(self._queue) >= QUEUE:
                self._dropped += 1
                return
            self._queue.append(item)
            self._wake.notify()

    def _run(self) -> None:
        redactor = self._redactor or Redactor(local_names(), self.prompts, local_users())
        since_look = 0
        try:
            while (item := self._next()) is not None:
                if isinstance(item, _Drop):
                    with contextlib.suppress(OSError):
                        if item.before is not None:
                            self._file.drop_before(item.before)
                        if item.most is not None:
                            self._file.drop_to(item.most)
                    continue
                try:
                    if isinstance(item, Sample):
                        line = encode_sample(redactor.sample(item))
                    else:
                        line = encode_event(redactor.event(item))
                except QtopError:
                    with self._wake:
                        self._dropped += 1
                    continue
                self._file.append(line)
                with self._wake:
                    self._samples += isinstance(item, Sample)
                    self._events += isinstance(item, Event)
                since_look += 1
                if since_look >= BLOCK_RECORDS:
                    since_look = 0
                    if self._file.unlinked():
                        self._stop("the file was removed", kept=False)
                        self._file.abandon()
                        return
            self._file.close()
        except OSError as error:
            self._stop(_CAUSES.get(error.errno or 0) or os.strerror(error.errno or 0))
            self._file.abandon()
        except Exception as error:
            self._stop(f"internal error ({type(error).__name__})")
            self._file.abandon()

    def _next(self) -> Sample | Event | _Drop | None:
        with self._wake:
            while not self._queue:
                if self._closing:
                    return None
                self._wake.wait()
            return self._queue.popleft()

    def _stop(self, cause: str, kept: bool = True) -> None:
        """End the recording with a line for the user; what still waits counts as dropped."""
        clock = time.strftime("%H:%M:%S", time.localtime(wall()))
        with self._wake:
            count = f"{self._samples} sample{'' if self._samples == 1 else 's'}"
            rest = f"{count} kept in {self.path}" if kept else f"{self.path} is gone"
            self._dropped += sum(not isinstance(item, _Drop) for item in self._queue)
            self._queue.clear()
            self.error = f"{cause}: recording stopped at {clock}, {rest}"
