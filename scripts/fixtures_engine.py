#!/usr/bin/env python3
"""Makes the recordings that hold the rules of the engine (QT301 to QT310): tests/rules/ID/{fires,quiet}.qtop.

fixtures_engine.py [GROUP…]      all, or only these: kv prefill front lora llamacpp

All are of real servers under real load: vLLM's CPU build with a tiny model of random weights (named by QTOP_VLLM_VENV,
else ~/.cache/qtop/vllm-0.32.0; a start takes one to two minutes), and the demo's llama.cpp.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT), str(ROOT / "scripts")]

import fixture_record  # noqa: E402
from tests.fakes.real_vllm import NAME, RealVllm  # noqa: E402

from qtop.demo.server import DemoServer  # noqa: E402
from qtop.diagnose.rule import Severity, State  # noqa: E402
from qtop.diagnose.whole import diagnose_all  # noqa: E402
from qtop.record.reader import Recording  # noqa: E402

OUT = ROOT / "tests/rules"
APART = ("unshare", "--pid", "--fork", "--mount-proc")
"""Runs a command in a PID namespace of its own."""
WARM_S = 4.0
"""Load runs so long before it is recorded."""


class Load:
    """So many clients, each with one request after the other, until the block ends; then they hang up.

    Prompts are lists of token ids, at random unless ``same``: no tokenizer has work with them, and no cache has them.
    With ``text`` they are words instead.
    """

    def __init__(
        self,
        port: int,
        clients: int,
        prompt: int,
        output: int,
        *,
        models: Sequence[str] = (NAME,),
        same: bool = False,
        pause: float = 0.0,
        path: str = "/v1/completions",
        text: bool = False,
    ) -> None:
        self._port, self._prompt, self._output, self._pause, self._path = port, prompt, output, pause, path
        self._same, self._text, self._stop = same, text, threading.Event()
        self._open: list[http.client.HTTPConnection] = []
        self._threads = [
            threading.Thread(target=self._client, args=(models[number % len(models)],), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for connection in self._open:
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(2)
        for thread in self._threads:
            thread.join(10)

    def _client(self, model: str) -> None:
        rng = random.Random(0) if self._same else random.Random()
        prompt = self._ids(rng)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        self._open.append(connection)
        while not self._stop.is_set():
            body: dict[str, object] = {"model": model, "prompt": prompt}
            if self._output:
                body |= {"max_tokens": self._output, "ignore_eos": True, "stream": True}
            try:
                connection.request("POST", self._path, json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != http.HTTPStatus.OK:
                    self._stop.wait(0.2)
            except (OSError, http.client.HTTPException, AttributeError):
                connection.close()
                self._stop.wait(0.1)
            if not self._same:
                prompt = self._ids(rng)
            if self._pause:
                self._stop.wait(self._pause)

    def _ids(self, rng: random.Random) -> list[int] | str:
        if self._text:
            return " ".join(
                f"{rng.randrange(1 << 30):x} is what {rng.choice('abcdef')} said" for _ in range(self._prompt)
            )
        return [rng.randrange(300, 4000) for _ in range(self._prompt)]


@contextlib.contextmanager
def vllm(*words: str, **variables: str) -> Iterator[RealVllm]:
    """A real vLLM with these words on its command line."""
    environment = Path(os.environ.get("QTOP_VLLM_VENV", Path.home() / ".cache/qtop/vllm-0.32.0"))
    with tempfile.TemporaryDirectory(prefix="qtop-fixture-") as folder:
        server = RealVllm(environment, Path(folder), words, variables)
        try:
            server.await_answer()
            yield server
        finally:
            server.stop()


def take(
    rule: str,
    name: str,
    url: str,
    seconds: float,
    note: str,
    load: Callable[[], Load] | None = None,
    *,
    tries: int = 3,
    apart: bool = True,
) -> None:
    """Record a server under load (or as it is) into tests/rules/RULE/NAME.qtop; again if it shows something else.

    ``apart``: by a qtop that does not see its processes, as in a container beside it. On two cores the CPU build has
    its own threads wait for each other (QT201), which is true and not what these recordings are about.
    """
    out = OUT / rule / f"{name}.qtop"
    command = [*(APART if apart else ()), sys.executable, fixture_record.__file__, str(out), "--seconds", str(seconds)]
    command += ["--origin", "real", "--note", note + (", its processes unseen" if apart else ""), "--url", url]
    for _ in range(tries):
        with load() if load is not None else contextlib.nullcontext():
            if load is not None:
                time.sleep(WARM_S)
            recorded = subprocess.run(command, check=False).returncode == 0
        told = wrong(out, rule, name == "fires") if recorded else "the server did not answer"
        if not told:
            return
        print(f"  again: {told}", flush=True)


def wrong(out: Path, rule: str, fires: bool) -> str:
    """What is wrong with a recording, "" for nothing."""
    whole = diagnose_all(Recording(out).samples())
    if whole is None:
        return "nothing was recorded"
    found = next(one for one in whole.findings if one.rule == rule)
    if fires:
        leads = whole.verdict.rule == rule or found.severity is Severity.INFO
        return "" if found.state is State.FIRING and leads else f"{found.state}, {whole.verdict.headline}"
    faults = [one.rule for one in whole.findings if one.state is State.FIRING and one.severity is not Severity.INFO]
    return "" if found.state is State.CLEAR and not faults else f"{found.state} {found.reason}, firing {faults}"


@contextlib.contextmanager
def into(rule: str, seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Do something once, so long after the recording of what fires has begun."""
    out, over = OUT / rule / "fires.qtop", threading.Event()
    out.unlink(missing_ok=True)

    def wait() -> None:
        while not over.wait(0.1):
            if out.exists():
                if not over.wait(seconds):
                    act()
                return

    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        yield
    finally:
        over.set()
        waiter.join()


def engine_core(root: int) -> list[int]:
    """The pids of a vLLM's EngineCore and workers, which compute."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, group, args in rows if int(group) == root and ("EngineCor" in args or "Worker" in args)]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


CPU = "vLLM 0.32 (CPU build, tiny model)"


def warm(port: int) -> None:
    """The first requests of a vLLM compile."""
    with Load(port, 2, 100, 100):
        time.sleep(8)


def light(port: int) -> Load:
    """A client that leaves the server time to breathe."""
    return Load(port, 1, 200, 30, pause=0.8)


def kv() -> None:
    """QT301, QT302: a KV cache of about 4 000 tokens."""
    with vllm("--block-size", "32", "--num-gpu-blocks-override", "130", "--max-num-seqs", "32") as server:
        port, url = server.port, server.url
        warm(port)
        take("QT301", "quiet", url, 16, f"{CPU}, one client now and then", lambda: light(port))
        take("QT301", "fires", url, 24, f"{CPU}, KV cache of 4 160 tokens, 32 clients with prompts of 220 tokens",
             lambda: Load(port, 32, 220, 30))  # fmt: skip
        take("QT302", "quiet", url, 14, f"{CPU}, one client now and then", lambda: light(port))
        take("QT302", "fires", url, 24, f"{CPU}, KV cache of 4 160 tokens, 10 clients with outputs of 1 200 tokens",
             lambda: Load(port, 10, 50, 1200))  # fmt: skip


def front() -> None:
    """QT306. QT305: EngineCore is stopped under load. QT309: clients that have long texts tokenized hold up the one
    thread that does it."""
    with vllm() as server:
        port, url = server.port, server.url
        warm(port)

        take("QT306", "fires", url, 32, f"{CPU}, a client with prompts of 1 000 tokens that have nothing in common",
             lambda: Load(port, 1, 1000, 10, pause=0.2))  # fmt: skip
        take("QT306", "quiet", url, 32, f"{CPU}, a client that sends the same prompt of 1 000 tokens",
             lambda: Load(port, 1, 1000, 10, pause=0.2, same=True))  # fmt: skip
        stopped = engine_core(server.pid)
        try:
            with into("QT305", 6, lambda: _signal(stopped, signal.SIGSTOP)):
                take("QT305", "fires", url, 26, f"{CPU}, EngineCore and its worker stopped by SIGSTOP after 6 s",
                     lambda: Load(port, 5, 100, 170), tries=1, apart=False)  # fmt: skip
        finally:
            _signal(stopped, signal.SIGCONT)

        def short() -> Load:
            return Load(port, 1, 10, 20, pause=0.4, text=True)

        take("QT309", "quiet", url, 42, f"{CPU}, one client with short texts", short)
        note = f"{CPU}, one client with short texts, 12 that have long ones tokenized"
        with Load(port, 12, 1200, 0, path="/tokenize", text=True):
            take("QT309", "fires", url, 44, note, short)


def lora() -> None:
    """QT307: three adapters in turn, of which one fits a batch."""
    with tempfile.TemporaryDirectory(prefix="qtop-adapters-") as folder:
        names = ("red", "green", "blue")
        environment = Path(os.environ.get("QTOP_VLLM_VENV", Path.home() / ".cache/qtop/vllm-0.32.0"))
        subprocess.run([environment / "bin/python", ROOT / "tests/fakes/tiny_lora.py", folder, *names], check=True)
        modules = [f"{name}={folder}/{name}" for name in names]
        words = ("--enable-lora", "--max-loras", "1", "--max-cpu-loras", "4", "--max-lora-rank", "8", "--lora-modules")
        with vllm(*words, *modules) as server:
            port, url = server.port, server.url
            warm(port)
            take("QT307", "quiet", url, 16, f"{CPU}, --max-loras 1, one adapter now and then",
                 lambda: Load(port, 1, 100, 30, models=names[:1], pause=0.8))  # fmt: skip
            take("QT307", "fires", url, 22, f"{CPU}, --max-loras 1, 9 clients of three adapters",
                 lambda: Load(port, 9, 100, 100, models=names))  # fmt: skip


def prefill() -> None:
    """QT304, QT308: few tokens a step, a limit to the queue."""
    words = ("--max-num-batched-tokens", "128", "--max-num-seqs", "64", "--max-num-queued-reqs", "12")
    with vllm(*words) as server:
        port, url = server.port, server.url
        warm(port)
        take(
            "QT308", "quiet", url, 14, f"{CPU}, --max-num-queued-reqs 12, one client now and then", lambda: light(port)
        )
        take("QT308", "fires", url, 20, f"{CPU}, --max-num-queued-reqs 12, 24 clients", lambda: Load(port, 24, 20, 120))
        take("QT304", "quiet", url, 16, f"{CPU}, one client now and then", lambda: light(port))
        take("QT304", "fires", url, 36, f"{CPU}, --max-num-batched-tokens 128, 8 clients with prompts of 1 500 tokens",
             lambda: Load(port, 8, 1500, 4), apart=False)  # fmt: skip


def llamacpp() -> None:
    """QT303: more clients than the demo's llama.cpp has slots. QT305: it works. QT310: it is stopped by a signal."""
    with DemoServer(parallel=2) as server:
        port, url = server.port, server.url
        take("QT303", "quiet", url, 14, "llama.cpp (demo) with 2 slots, one client",
             lambda: Load(port, 1, 10, 60, text=True, pause=0.3))  # fmt: skip
        take("QT303", "fires", url, 20, "llama.cpp (demo) with 2 slots, 5 clients",
             lambda: Load(port, 5, 10, 120, text=True))  # fmt: skip
        take(
            "QT305",
            "quiet",
            url,
            16,
            "llama.cpp (demo), one client",
            lambda: Load(port, 1, 10, 60, text=True, pause=0.3),
        )
        take("QT310", "quiet", server.url, 14, "llama.cpp (demo), idle", apart=False)
        try:
            with into("QT310", 5, lambda: _signal([server.pid], signal.SIGSTOP)):
                take(
                    "QT310",
                    "fires",
                    server.url,
                    24,
                    "llama.cpp (demo), stopped by SIGSTOP after 5 s",
                    tries=1,
                    apart=False,
                )
        finally:
            _signal([server.pid], signal.SIGCONT)


GROUPS: dict[str, Callable[[], None]] = {
    "kv": kv,
    "prefill": prefill,
    "front": front,
    "lora": lora,
    "llamacpp": llamacpp,
}


def make(*groups: str) -> None:
    """All of them, or these groups."""
    for name in groups or tuple(GROUPS):
        GROUPS[name]()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    make(*sys.argv[1:])
