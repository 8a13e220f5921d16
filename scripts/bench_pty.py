"""A program in a pseudo-terminal that is read and timed, and what its processes cost; for bench.py. Linux only."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyte

HZ = os.sysconf("SC_CLK_TCK")
_NOT_FOR_PYTE = re.compile(rb"\x1b\[[<>=][\d;]*[a-zA-Z]|\x1b\[\?[\d;]*\$p|\x1b\[\d+(?:;\d+)* q")
"""Keyboard-protocol and mode queries, which pyte would take for text."""
_LEAVE_S = 10.0
_ASKS_SYNC, _KNOWS_SYNC = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
"""May a program hold back the screen until a frame is whole? Yes: kitty, iTerm2, Windows Terminal, tmux from 3.4 on."""


class Chunk(NamedTuple):
    """One read: when (monotonic seconds), what, and the CPU seconds that the program's main thread had used by then."""

    at: float
    data: bytes
    cpu: float


class Shown(NamedTuple):
    """When something was on the screen for the first time: seconds from the start, CPU seconds of the main thread."""

    after: float
    cpu: float


def for_pyte(data: bytes) -> bytes:
    """What a program wrote, without what pyte would take for text."""
    return _NOT_FOR_PYTE.sub(b"", data)


class Terminal:
    """Runs ``command`` in a pseudo-terminal of ``columns`` × ``rows`` and drains it.

    It answers nothing, but with ``sync`` says that it can hold back unfinished frames, which programs then ask of it
    with each frame (16 bytes more). Each read is kept with its time, so that what was on the screen when can be worked
    out afterwards without slowing down what is measured.
    """

    def __init__(
        self, command: Sequence[str], size: tuple[int, int], env: Mapping[str, str], sync: bool = False
    ) -> None:
        self.size = size
        self._sync = sync
        self._chunks: list[Chunk] = []
        self._pid = 0
        self._fd, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        self.started = time.monotonic()
        try:
            self._child = subprocess.Popen(
                command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=dict(env),
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other thread forks here
            )
        finally:
            os.close(slave)
        self._pid = self._child.pid

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._pid

    @property
    def running(self) -> bool:
        """True until it ends."""
        return self._child.poll() is None

    @property
    def received(self) -> int:
        """Bytes that it has written so far."""
        return sum(len(chunk.data) for chunk in list(self._chunks))

    def since(self, begin: float, end: float) -> tuple[int, int]:
        """Bytes and reads between two times (monotonic seconds)."""
        sizes = [len(chunk.data) for chunk in list(self._chunks) if begin <= chunk.at < end]
        return sum(sizes), len(sizes)

    def chunks(self) -> list[Chunk]:
        """Everything read so far."""
        return list(self._chunks)

    def _drain(self) -> None:
        # Ends when the program has closed its end, which a read reports as an error.
        while True:
            try:
                if not select.select([self._fd], [], [], 1.0)[0]:
                    continue
                data = os.read(self._fd, 65536)
            except (OSError, ValueError):
                return
            if not data:
                return
            self._chunks.append(Chunk(time.monotonic(), data, main_thread_cpu(self._pid)))
            if self._sync and _ASKS_SYNC in data:
                self.press(_KNOWS_SYNC)

    def watch(
        self, tests: Mapping[str, Callable[[list[str]], bool]], patience: float, first: float
    ) -> dict[str, Shown]:
        """When each test held for what is on the screen for the first time; tests never met are left out.

        Nothing is worked out in the first ``first`` seconds, so as not to compete with a program that starts.
        """
        screen = pyte.Screen(*self.size)
        stream = pyte.ByteStream(screen)
        found: dict[str, Shown] = {}
        taken = 0
        deadline = self.started + patience
        time.sleep(max(0.0, self.started + first - time.monotonic()))
        while True:
            ended = not self.running
            while taken < len(self._chunks):
                chunk = self._chunks[taken]
                taken += 1
                stream.feed(for_pyte(chunk.data))
                if taken < len(self._chunks) and self._chunks[taken].at - chunk.at < 0.001:
                    continue  # one write, read in parts
                rows = screen.display
                shown = Shown(chunk.at - self.started, chunk.cpu)
                found.update({name: shown for name, test in tests.items() if name not in found and test(rows)})
                if len(found) == len(tests):
                    return found
            if ended or time.monotonic() > deadline:
                return found
            time.sleep(0.25)

    def text(self) -> list[str]:
        """What is on the screen now."""
        screen = pyte.Screen(*self.size)
        stream = pyte.ByteStream(screen)
        for chunk in list(self._chunks):
            stream.feed(for_pyte(chunk.data))
        return list(screen.display)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._fd, keys)

    def close(self) -> int:
        """Press q, then Ctrl-C, and wait; SIGKILL for its whole group if that does not help. Gives the exit status."""
        for keys in (b"q", b"\x03"):
            if self.running:
                try:
                    self.press(keys)
                    self._child.wait(_LEAVE_S / 2)
                except (OSError, subprocess.TimeoutExpired):
                    pass
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        status = self._child.wait()
        self._reader.join(1.5)
        os.close(self._fd)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def tree(root: int) -> list[int]:
    """A process and all its descendants that live now."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; [] if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def main_thread_cpu(pid: int) -> float:
    """CPU seconds of a process's main thread, to the nanosecond; 0 where the kernel keeps no schedstat."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree and of the children it has reaped (source: proc(5), fields 14 to 17)."""
    return sum(sum(int(value) for value in fields[11:15]) for pid in tree(root) if (fields := _stat(pid))) / HZ


@dataclass(frozen=True)
class Memory:
    """Bytes of a process tree: ``pss`` counts a shared page in parts, ``rss`` in full for each process."""

    pss: int
    rss: int
    processes: int


def open_now(root: int) -> tuple[int, int]:
    """Threads and file descriptors of a process tree."""
    threads = descriptors = 0
    for pid in tree(root):
        try:
            threads += len(os.listdir(f"/proc/{pid}/task"))
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    return threads, descriptors


def memory(root: int) -> Memory:
    """From /proc/PID/smaps_rollup."""
    sums: dict[str, int] = {"Pss": 0, "Rss": 0}
    processes = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        processes += 1
        for line in lines:
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) * 1024
    return Memory(sums["Pss"], sums["Rss"], processes)


def run_quietly(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Wall seconds of a command whose output nobody reads."""
    begin = time.monotonic()
    subprocess.run(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin
