"""Load for a real server, and busy loops beside it: bounded in time, and over when the block ends."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

LONGEST_S = 180
"""However the test ends, nothing runs longer."""

_BUSY = "import os, sys, time; os.sched_setaffinity(0, {int(sys.argv[1])}); end = time.time() + int(sys.argv[2])\n"
_BUSY += "while time.time() < end: sum(range(100_000))"


@contextmanager
def busy_loops(cpu: int, count: int) -> Iterator[list[int]]:
    """Processes that do nothing else than use one CPU; their pids."""
    # Each a session of its own: the kernel's autogroups share a CPU between sessions before they do between processes.
    command = [sys.executable, "-S", "-c", _BUSY, str(cpu), str(LONGEST_S)]
    children = [subprocess.Popen(command, cwd="/", start_new_session=True) for _ in range(count)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


def _stream(port: int, stop: threading.Event, tokens: int, again: bool) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    for _ in range(LONGEST_S):
        if stop.is_set():
            return
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            while not stop.is_set() and answer.readline():
                pass
        except (OSError, http.client.HTTPException):
            stop.wait(1.0)
        finally:
            connection.close()
        if not again:
            return


@contextmanager
def streams(port: int, count: int, tokens: int = 400, again: bool = True) -> Iterator[None]:
    """Requests of so many tokens that stream one after the other, ``count`` at a time; without ``again`` one each."""
    stop = threading.Event()
    threads = [threading.Thread(target=_stream, args=(port, stop, tokens, again), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(35)


class Neighbours:
    """How much CPU everybody else used: all that was busy, less these processes, this one and the children it had."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._at, self._used = time.monotonic(), self._seconds()

    def _seconds(self) -> float:
        hertz = os.sysconf("SC_CLK_TCK")
        busy = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        others = sum(busy) - busy[3] - busy[4]
        for pid in self._pids:
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            others -= int(times[11]) + int(times[12])
        mine = os.times()
        return others / hertz - mine.user - mine.system - mine.children_user - mine.children_system

    def share(self) -> float:
        """CPUs' worth of time since the last call."""
        at, used = time.monotonic(), self._seconds()
        share = (used - self._used) / (at - self._at)
        self._at, self._used = at, used
        return share


def _try_cgroup(stack: ExitStack, folder: Path, files: dict[str, str], pid: int) -> bool:
    try:
        folder.mkdir()
    except OSError:
        return False
    stack.callback(_remove, folder)
    try:
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """Give its processes back to the parent; a cgroup that holds some cannot be removed."""
    for pid in (folder / "cgroup.procs").read_text().split():
        try:
            (folder.parent / "cgroup.procs").write_text(pid)
        except OSError:
            pass
    try:
        folder.rmdir()
    except OSError:
        pass


@contextmanager
def quota(pid: int, share: float) -> Iterator[bool]:
    """The process in a cgroup of its own that may use ``share`` of one CPU; False where none can be made."""
    period = 100_000
    limit = int(period * share)
    name = f"qtop-test-{pid}"
    with ExitStack() as stack:
        done = False
        for mount in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            parent = Path(mount)
            if (parent / "cpu.cfs_quota_us").exists():
                files = {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(limit)}
            elif "cpu" in _controllers(parent):
                files = {"cpu.max": f"{limit} {period}"}
            else:
                continue
            if _try_cgroup(stack, parent / name, files, pid):
                done = True
                break
        yield done


@contextmanager
def cpuset(pid: int, cpus: str) -> Iterator[bool]:
    """The process in a cgroup of its own that allows only these CPUs; False where none can be made."""
    name = f"qtop-test-{pid}"
    with ExitStack() as stack:
        done = False
        for mount in ("/sys/fs/cgroup/cpuset", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            parent = Path(mount)
            if (parent / "cpuset.mems").exists() and (parent / "cpuset.sched_load_balance").exists():
                files = {"cpuset.cpus": cpus, "cpuset.mems": (parent / "cpuset.mems").read_text().strip()}
            elif "cpuset" in _controllers(parent):
                files = {"cpuset.cpus": cpus}
            else:
                continue
            if _try_cgroup(stack, parent / name, files, pid):
                done = True
                break
        yield done


def _controllers(folder: Path) -> list[str]:
    try:
        return (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return []
