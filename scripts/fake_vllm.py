#!/usr/bin/env python3
"""A stand-in for a vLLM server, for measuring what monitors cost: its routes, its processes, figures that move or rest.

fake_vllm.py [--port N] [--engines N] [--workers N] [--threads N] [--state moving|idle] [--metrics FILE]
             [--spin SECONDS]

Other arguments, which a real vLLM would take, are passed over. QTOP_FAKE_VLLM may hold JSON: "version",
"max_model_len", "host"; "labels" of cache_config_info; "gauges" that stand at a value, "rates" a second of counters and
"without", a list of what it leaves out, by the beginning of the series; "starting": so many seconds it does not listen,
and then ends.

It prints one line of JSON (url, pid, children) once it answers. Lines on its standard input ("moving", "idle") change
its state, and it ends with all its processes when that closes. Standard library only; run by ``start`` it is named
as vLLM names itself: ``python …/vllm serve MODEL``, VLLM::EngineCore, VLLM::Worker_TP0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from fake_exposition import Exposition  # noqa: E402

CAPTURE = HERE.parent / "tests/data/captures/vllm-0.25.1-h100.metrics.txt"
MODEL = "Qwen/Qwen3-4B-Instruct-2507"
LONGEST_S = 7200.0
"""Whatever is asked for, it ends after this."""
BUSY_THREADS = 2
"""Of each process, in the state "moving"."""
BUSY_SHARE = 0.015
"""Of one core that a busy thread uses, give or take a half."""
STEP_S = 0.9
"""Figures move by a second's load at the first scrape after so long: several readers a second see one value."""
PR_SET_NAME = 15


class State:
    """Moving or at rest, for all threads of a process."""

    def __init__(self, moving: bool) -> None:
        self._moving = threading.Event()
        self.set(moving)

    def set(self, moving: bool) -> None:
        """From any thread."""
        (self._moving.set if moving else self._moving.clear)()

    @property
    def moving(self) -> bool:
        """True under load."""
        return self._moving.is_set()

    def wait(self) -> None:
        """Until there is load."""
        self._moving.wait()


FACTS: dict[str, Any] = json.loads(os.environ.get("QTOP_FAKE_VLLM", "{}"))


def _as_told(text: str, seconds: float) -> str:
    """The exposition with what ``FACTS`` say of its series."""
    gauges, rates, labels = FACTS.get("gauges", {}), FACTS.get("rates", {}), FACTS.get("labels", {})
    without = tuple(FACTS.get("without", ()))
    if not gauges and not rates and not labels and not without:
        return text
    lines = []
    for line in text.splitlines():
        if without and line.startswith(without):
            continue
        for start, value in gauges.items():
            if line.startswith(start):
                line = f"{line.rpartition(' ')[0]} {value}"
        for start, rate in rates.items():
            if line.startswith(start):
                line = f"{line.rpartition(' ')[0]} {float(int(rate * seconds))}"
        if line.startswith("vllm:cache_config_info{"):
            for name, value in labels.items():
                line = re.sub(rf'\b{name}="[^"]*"', f'{name}="{value}"', line)
        lines.append(line)
    return "\n".join(lines) + "\n"


class Server:
    """vLLM's routes over HTTP/1.1, kept alive; one write an answer."""

    def __init__(self, exposition: Exposition, state: State) -> None:
        self._exposition, self._state = exposition, state
        self._moved = time.monotonic()
        self._text = b""
        self._was_moving: bool | None = None
        self._begun = time.monotonic()
        model = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": MODEL, "max_model_len": 32768}
        model |= {key: FACTS[key] for key in ("max_model_len",) if key in FACTS}
        self._routes = {
            "/version": (json.dumps({"version": FACTS.get("version", "0.25.1")}).encode(), "application/json"),
            "/v1/models": (json.dumps({"object": "list", "data": [model]}).encode(), "application/json"),
            "/health": (b"", "text/plain"),
            "/ping": (b"", "text/plain"),
        }

    def _metrics(self) -> bytes:
        now, moving = time.monotonic(), self._state.moving
        if moving and now - self._moved >= STEP_S:
            self._exposition.advance(min(now - self._moved, 10.0))
            self._moved = now
        elif moving or moving == self._was_moving:
            if self._text:
                return self._text
        else:
            self._exposition.rest()
        self._was_moving = moving
        self._text = _as_told(self._exposition.text(), now - self._begun).encode()
        return self._text

    def _answer(self, method: str, path: str) -> bytes:
        status, body, kind = "200 OK", b"", "text/plain; version=0.0.4; charset=utf-8"
        path = path.partition("?")[0]
        if path in ("/metrics", "/metrics/"):
            body = self._metrics()
        elif path in self._routes:
            body, kind = self._routes[path]
        else:
            status, body, kind = "404 Not Found", b'{"detail":"Not Found"}', "application/json"
        head = f"HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\ncontent-type: {kind}\r\n\r\n"
        return head.encode() + (b"" if method == "HEAD" else body)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it closes."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                if len(words) != 3:
                    return
                writer.write(self._answer(words[0], words[1]))
                await writer.drain()
                if b"connection: close" in head.lower():
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return
        finally:
            writer.close()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def retitle(title: str) -> None:
    """Name this process as setproctitle does: its arguments and its main thread (Linux)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end (source: proc(5), fields 48 and 49)
    room = end - start
    text = title.encode()[: room - 1]
    ctypes.memmove(start, text + b"\0" * (room - len(text)), room)
    name_thread(title)


def name_thread(name: str) -> None:
    """Name the calling thread (the kernel keeps 15 bytes)."""
    _libc().prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def thread(name: str, state: State, share: float) -> None:
    """A thread of the server: asleep for good, or under load busy for about ``share`` of each second."""
    name_thread(name)
    if not share:
        threading.Event().wait(LONGEST_S)
        return
    turn = 0
    while True:
        state.wait()
        turn += 1
        until = time.thread_time() + share * (0.5 + (turn * 7 % 11) / 10)
        while time.thread_time() < until:
            sum(range(2000))
        time.sleep(1.0)


def people(process: str, threads: int, state: State) -> None:
    """Start the threads of one process."""
    threading.stack_size(64 * 1024)
    names = ("ZMQbg/IO/0", "ZMQbg/Reaper", "pt_main_thread", "cuda-EvtHandlr", "pt_autograd_0", "OMP", "NCCL I/O")
    for number in range(threads):
        share = BUSY_SHARE if number < BUSY_THREADS else 0.0
        name = process if number == 0 else names[number % len(names)]
        threading.Thread(target=thread, args=(name, state, share), daemon=True).start()


def child(title: str, threads: int, state: State, orders: int, ready: int) -> None:
    """One engine or worker: its threads, until the pipe closes. Does not return."""
    retitle(title)
    people(title[6:], threads, state)
    os.write(ready, b".")
    os.close(ready)
    while order := os.read(orders, 1):
        state.set(order == b"m")
    os._exit(0)


class Family:
    """The processes below the front end, and one pipe to each."""

    def __init__(self, engines: int, workers: int, threads: int, moving: bool) -> None:
        titles = ["VLLM::EngineCore"] if engines == 1 else [f"VLLM::EngineCore_DP{n}" for n in range(engines)]
        titles += [f"VLLM::Worker_TP{n}" for n in range(workers)]
        self.pids: list[int] = []
        self._pipes: list[int] = []
        started, ready = os.pipe()
        for number, title in enumerate(titles):
            # One thread of each is its main thread; the front end has one as well.
            mine = (threads - 1) // len(titles) + (number < (threads - 1) % len(titles)) - 1
            orders, pipe = os.pipe()
            pid = os.fork()
            if pid == 0:
                for other in (*self._pipes, pipe):
                    os.close(other)
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 0)
                os.dup2(null, 1)
                child(title, max(mine, 0), State(moving), orders, ready)
            os.close(orders)
            self.pids.append(pid)
            self._pipes.append(pipe)
        os.close(ready)
        while os.read(started, 16):
            pass  # until each has all its threads, and so has closed its end
        os.close(started)

    def tell(self, moving: bool) -> None:
        """Change the state of all."""
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError):
                os.write(pipe, b"m" if moving else b"i")

    def end(self) -> None:
        """Close the pipes, at which the processes end, and take their exit status."""
        for pipe in self._pipes:
            os.close(pipe)
        for pid in self.pids:
            os.waitpid(pid, 0)


async def front_end(options: argparse.Namespace, family: Family, state: State) -> None:
    """Answer until standard input closes or the time is over."""
    exposition = Exposition(Path(options.metrics).read_text(), options.engines)
    server = await asyncio.start_server(
        Server(exposition, state).serve, FACTS.get("host", "127.0.0.1"), options.port, limit=65536
    )
    port = server.sockets[0].getsockname()[1]
    told = {"url": f"http://127.0.0.1:{port}", "pid": os.getpid(), "children": family.pids}
    print(json.dumps(told), flush=True)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    spinning = loop.create_task(spin(options.spin)) if options.spin else None

    def ordered() -> None:
        data = os.read(0, 4096)
        if not data:
            ended.set()
        for word in data.decode("ascii", "replace").split():
            if word in ("moving", "idle"):
                state.set(word == "moving")
                family.tell(word == "moving")

    loop.add_reader(0, ordered)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), LONGEST_S)
    if spinning is not None:
        spinning.cancel()


async def spin(seconds: float) -> None:
    """Use up the event loop, so long at a time: whoever else wants something of it waits."""
    while True:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(2000))
        await asyncio.sleep(0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; the words ``serve MODEL``, which name a real server's command, may stand before them."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["serve"]:
        del words[:2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, metavar="N", help="listen here (a free one)")
    parser.add_argument("--engines", type=int, default=1, metavar="N", help="data-parallel engines (1)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="worker processes beside the engine (0)")
    parser.add_argument("--threads", type=int, default=60, metavar="N", help="threads of all processes together (60)")
    parser.add_argument("--state", choices=("moving", "idle"), default="moving", help="at the start (moving)")
    parser.add_argument("--metrics", default=str(CAPTURE), metavar="FILE", help="the exposition that it starts from")
    parser.add_argument("--spin", type=float, default=0.0, metavar="S", help="the event loop is busy so long at a time")
    parser.add_argument("--max-num-seqs", type=int, default=256, help=argparse.SUPPRESS)
    options, _others = parser.parse_known_args(words)
    if not (1 <= options.engines <= 64 and 0 <= options.workers <= 64 and 1 <= options.threads <= 4000):
        parser.error("--engines is 1 to 64, --workers 0 to 64, --threads 1 to 4000")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve."""
    options = parse(arguments)
    if "starting" in FACTS:
        time.sleep(FACTS["starting"])
        return 1
    state = State(options.state == "moving")
    family = Family(options.engines, options.workers, options.threads, state.moving)  # before there are threads
    try:
        asyncio.run(front_end(options, family, state))
    except KeyboardInterrupt:
        pass
    finally:
        family.end()
    return 0


@dataclass
class Running:
    """A fake server that runs."""

    url: str
    pid: int
    children: list[int]
    started: float
    """Monotonic seconds."""
    process: subprocess.Popen[str]

    def order(self, state: str) -> None:
        """Change its state: "moving" or "idle"."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{state}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def start(*options: str) -> Iterator[Running]:
    """Run it in processes of its own for the length of the block, named as vLLM names its own."""
    with tempfile.TemporaryDirectory(prefix="qtop-fake-vllm-") as folder:
        script = Path(folder) / "vllm"
        script.symlink_to(Path(__file__).resolve())
        command = [sys.executable, "-S", str(script), "serve", MODEL, *options, "--max-num-seqs", "256"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
            assert process.stdout is not None and process.stdin is not None
            try:
                line = process.stdout.readline()
                if not line.startswith("{"):
                    raise RuntimeError("the fake vLLM did not start")
                told = json.loads(line)
                yield Running(told["url"], told["pid"], told["children"], time.monotonic(), process)
            finally:
                process.stdin.close()
                try:
                    process.wait(5.0)
                except subprocess.TimeoutExpired:
                    process.kill()


if __name__ == "__main__":
    sys.exit(main())
