"""What the suites of disturb.py share: load, busy loops, masks, signals, quotas; each undone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

BUSY = "while True: pass"
TOKENIZE = """
import json, sys, urllib.request
url, model = sys.argv[1:]
text = "量子纠缠 is what this text is about, and nothing else. " * 2_000
body = json.dumps({"model": model, "prompt": text}).encode()
while True:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=60).read()
    except OSError as error:
        print(error, file=sys.stderr)
"""
LOGPROBS = """
import json, sys, threading, urllib.request
url, model, streams = sys.argv[1:]
body = json.dumps({
    "model": model, "messages": [{"role": "user", "content": "Count."}], "max_tokens": 1000, "ignore_eos": True,
    "stream": True, "logprobs": True, "top_logprobs": 20,
}).encode()
def ask():
    while True:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            for _ in urllib.request.urlopen(request, timeout=60):
                pass
        except OSError as error:
            print(error, file=sys.stderr)
for _ in range(int(streams)):
    threading.Thread(target=ask).start()
"""


@contextlib.contextmanager
def processes(
    commands: Iterable[list[str]], settle: float = 0.0, ready: bool = False
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run beside, killed at the end. ``ready``: each says a line once it does what it is for."""
    running = [subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for one in commands]
    try:
        for one in running if ready else ():
            assert one.stdout is not None
            if not one.stdout.readline():
                raise RuntimeError(f"it ended before it began: {one.args!r}")
        time.sleep(settle)
        yield running
    finally:
        for one in running:
            one.kill()
        for one in running:
            one.wait()


def streams(
    url: str, concurrency: int, prompt: str, tokens: int, rate: float = 0.0, settle: float = 4.0
) -> Callable[[], AbstractContextManager[object]]:
    """Test prompts without an end, so many at a time, or at ``rate`` a second and at most so many at a time."""

    @contextlib.contextmanager
    def load() -> Iterator[None]:
        command = [sys.executable, "-m", "qtop", "probe", "--url", url, "--json", "--concurrency", str(concurrency)]
        command += ["--requests", "100000", "--warmup", "0", "--prompt", prompt, "--max-tokens", str(tokens), "--exact"]
        command += ["--rate", str(rate)] if rate else []
        sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(settle)
            if sender.poll() is not None:
                raise RuntimeError("the load ended")
            yield
        finally:
            sender.terminate()
            sender.wait()

    return load


def tokenizing(url: str, model: str, clients: int) -> AbstractContextManager[object]:
    """Long texts to be tokenized, without an end, so many at a time: work for the API server's process alone."""
    return processes([[sys.executable, "-c", TOKENIZE, f"{url}/tokenize", model]] * clients)


def verbose(url: str, model: str, clients: int, streams: int) -> AbstractContextManager[object]:
    """Streams with twenty log-probabilities a token: little for the engine, much for the API server to write."""
    command = [sys.executable, "-c", LOGPROBS, f"{url}/v1/chat/completions", model, str(streams)]
    return processes([command] * clients, settle=2.0)


@contextlib.contextmanager
def pinned(pids: list[int], cpus: list[int], hogs: int) -> Iterator[None]:
    """All threads of these processes on these CPUs, with busy loops there."""
    before = {}
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            with contextlib.suppress(OSError):
                before[thread.id] = os.sched_getaffinity(thread.id)
                os.sched_setaffinity(thread.id, cpus)
    with processes([["taskset", "-c", ",".join(map(str, cpus)), sys.executable, "-c", BUSY]] * hogs):
        try:
            yield
        finally:
            for tid, mask in before.items():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(tid, mask)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def group_v1(controller: str, pids: Iterable[int], **files: str) -> Iterator[Path]:
    """A cgroup v1 with these settings, the processes in it; they go back to where they were."""
    root = Path("/sys/fs/cgroup") / controller
    group = root / f"qtop-disturb-{os.getpid()}"
    group.mkdir()
    before = {pid: _group_of(pid, controller) for pid in pids}
    try:
        for name, value in files.items():
            (group / f"{controller}.{name}").write_text(value)
        for pid in before:
            (group / "cgroup.procs").write_text(str(pid))
        yield group
    finally:
        for text in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (root / before.get(int(text), "").lstrip("/") / "cgroup.procs").write_text(text)
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def _group_of(pid: int, controller: str) -> str:
    """Its cgroup under a v1 controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"
