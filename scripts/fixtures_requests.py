#!/usr/bin/env python3
"""Makes the recordings of QT501 to QT505: tests/rules/QT50N/{fires,quiet}.qtop and QT505/fires_clients.qtop.

fixtures_requests.py [llamacpp | vllm [QT504/fires …]]

A real llama.cpp (the demo's) and, where it is installed, a real vLLM (its CPU build, ~/.cache/qtop/vllm-0.32.0 or
QTOP_TEST_VLLM) answer; qtop's own probe runs inside the session that records. For QT501 a small proxy that gathers
answers stands before the real server: that recording says "stub".
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT)]

from qtop.config import Settings  # noqa: E402
from qtop.demo.server import DemoServer, free_port  # noqa: E402
from qtop.diagnose.whole import diagnose_all  # noqa: E402
from qtop.probe.body import parse  # noqa: E402
from qtop.record.reader import Recording  # noqa: E402
from qtop.session import Origin, Session, require_latest  # noqa: E402
from qtop.verbs.live import live_session  # noqa: E402
from qtop.verbs.own_request import test_of  # noqa: E402

OUT = ROOT / "tests/rules"
SECONDS = 15.0
VLLM = Path(os.environ.get("QTOP_TEST_VLLM", str(Path.home() / ".cache/qtop/vllm-0.32.0")))
Script = Callable[[Session], None]
TRIES = 4
"""On a busy machine another finding, that the server waits for a CPU, may lead a recording: then it is made again."""
ONLY: set[str] = set()
"""Recordings to make ("QT504/fires"); all where it is empty."""


class Gatherer(BaseHTTPRequestHandler):
    """Passes requests on and hands answers back whole: what a proxy with buffering does."""

    target: tuple[str, int]

    def do_GET(self) -> None:
        """As POST."""
        self.do_POST()

    def do_POST(self) -> None:
        """Ask, read all of the answer, then send it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(*self.target, timeout=60)
        connection.request(self.command, self.path, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        whole = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "text/plain")
        self.send_header("Content-Length", str(len(whole)))
        server = answer.getheader("Server")
        if server:
            self.send_header("X-Upstream", server)
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def gather(port: int, target: int) -> None:
    """Be the proxy until killed."""
    Gatherer.target = ("127.0.0.1", target)
    ThreadingHTTPServer(("127.0.0.1", port), Gatherer).serve_forever()


@contextlib.contextmanager
def gathering(target: int) -> Iterator[str]:
    """The proxy as a process of its own; its address."""
    port = free_port()
    child = subprocess.Popen([sys.executable, __file__, "--gather", str(port), str(target)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


def recorded(rule: str, name: str, url: str, note: str, script: Script, origin: Origin = "real") -> None:
    """Record for SECONDS while ``script`` does what it does with the session; again where another rule leads."""
    if ONLY and f"{rule}/{name}" not in ONLY:
        return
    out = OUT / rule / f"{name}.qtop"
    out.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        _record(out, url, note, script, origin)
        found = diagnose_all(Recording(out).samples())
        assert found is not None
        if found.verdict.rule == (None if name == "quiet" else rule):
            return
        print(f"    {found.verdict.rule} leads: once more", flush=True)


def _record(out: Path, url: str, note: str, script: Script, origin: Origin) -> None:
    with live_session(argparse.Namespace(url=url), Settings(server_info=False)) as session:
        require_latest(session)
        session.start_recording(out, overwrite=True, note=note, origin=origin)
        begin = time.monotonic()
        time.sleep(2.5)
        script(session)
        time.sleep(max(0.0, begin + SECONDS - time.monotonic()))
        writer = session.stop_recording()
    assert writer is not None
    print(f"{out.relative_to(ROOT)}: {writer.stats.samples} samples, {writer.stats.bytes} bytes ({origin})", flush=True)


def same(made: str, wanted: str) -> None:
    """What one recording shows is what another is to show."""
    if not ONLY or made in ONLY:
        shutil.copyfile(OUT / f"{made}.qtop", OUT / f"{wanted}.qtop")


def probed(session: Session, requests: int = 2, tokens: int = 24, **changes: Any) -> None:
    """Test prompts of the session, waited for."""
    request = session.probe_request("Count from one to a hundred.", tokens, requests, **changes)
    for one in session.start_probe(request, lambda event: None).wait(60):
        print(f"    {one.error or 'ok'}: {one.completion_tokens} tokens, {one.finish_reason}, {one.unstreamed=}")


def sent(session: Session, text: str, requests: int = 1) -> None:
    """A request of the user's, as ``qtop probe --body`` sends it."""
    # fmt: off
    args = argparse.Namespace(
        prompt=None, max_tokens=None, exact=False, requests=requests, rate=None, concurrency=None, seconds=None,
        warmup=None, seed=None, timeout=60.0,
    )
    # fmt: on
    request, faults = test_of(args, session, parse(text))
    print(f"    {[one.code for one in faults]}")
    for one in session.start_probe(request, lambda event: None).wait(60):
        print(f"    {one.error or 'ok'}: {one.completion_tokens} tokens, {one.finish_reason}, {one.ttft_ms=}")


def posted(url: str, path: str, body: dict[str, Any], hang_up_after: float | None = None) -> None:
    """A request of some other client's, not qtop's; with ``hang_up_after`` it leaves so many seconds after asking."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    if hang_up_after is not None:
        time.sleep(hang_up_after)
        connection.sock.shutdown(socket.SHUT_RDWR)
    else:
        connection.getresponse().read()
    connection.close()


def by_llamacpp() -> None:
    """What a real llama.cpp shows."""
    with DemoServer().start(threads=1) as server:
        url = server.url
        with gathering(int(url.rpartition(":")[2])) as proxy:
            note = "llama.cpp behind a proxy that gathers answers"
            recorded("QT501", "fires", proxy, note, lambda one: probed(one, tokens=60), "stub")
        recorded("QT501", "quiet", url, "llama.cpp, streamed prompts", lambda session: probed(session))
        same("QT501/quiet", "QT504/quiet")
        long = "one two three four five " * 6000
        body = json.dumps({"messages": [{"role": "user", "content": long}], "max_tokens": 8, "stream": True})
        recorded(
            "QT504", "fires", url, "llama.cpp, a prompt beyond its context", lambda session: sent(session, body, 2)
        )
        note = "llama.cpp, test prompts that are given 0.5 s"
        recorded("QT505", "fires", url, note, lambda one: probed(one, 4, 400, timeout_s=0.5, ignore_eos=True))


def by_vllm() -> None:
    """What a real vLLM shows; nothing where there is none."""
    from tests.fakes.real_vllm import NAME, RealVllm

    if not (VLLM / "bin/vllm").exists():
        print(f"no vLLM at {VLLM}: QT502, QT503 and QT505 stay as they are")
        return
    with tempfile.TemporaryDirectory(prefix="qtop-fixture-") as folder:
        server = RealVllm(VLLM, Path(folder))
        try:
            server.await_answer()
            _by_vllm(server.url, NAME)
        finally:
            server.stop()


def _by_vllm(url: str, model: str) -> None:
    route, plain = "/v1/completions", {"model": model, "prompt": "Count from one to a hundred."}
    for _ in range(2):
        posted(url, route, {**plain, "max_tokens": 4})

    def clients(body: dict[str, Any], requests: int, hang_up: int = 0, pause: float = 0.7) -> Script:
        """Other clients, one after the other; ``hang_up`` of them leave after 0.6 s."""

        def run(session: Session) -> None:
            for i in range(requests):
                posted(url, route, body, 0.6 if i % (requests // hang_up if hang_up else requests + 1) == 1 else None)
                time.sleep(pause)

        return run

    ignored = json.dumps({**plain, "max_new_tokens": 40, "stream": True, "stream_options": {"include_usage": True}})
    kept = json.dumps({**plain, "max_tokens": 24, "stream": True, "stream_options": {"include_usage": True}})
    ends = {**plain, "max_tokens": 40, "ignore_eos": True}
    recorded("QT502", "fires", url, "vLLM, max_new_tokens on /v1/completions", lambda one: sent(one, ignored, 3))
    recorded("QT502", "quiet", url, "vLLM, max_tokens on /v1/completions", lambda one: sent(one, kept, 3))
    recorded("QT503", "fires", url, "vLLM, clients that set no max_tokens", clients({**plain, "ignore_eos": True}, 10))
    recorded("QT503", "quiet", url, "vLLM, clients that set max_tokens", clients(ends, 10))
    same("QT503/quiet", "QT505/quiet")
    long = {**plain, "max_tokens": 200, "ignore_eos": True, "stream": True}
    recorded("QT505", "fires_clients", url, "vLLM, every second client hangs up", clients(long, 6, 3, 0.5))


def make() -> None:
    """All of them."""
    by_llamacpp()
    by_vllm()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--gather"]:
        gather(int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:]:
        ONLY.update(sys.argv[2:])
        {"llamacpp": by_llamacpp, "vllm": by_vllm}[sys.argv[1]]()
    else:
        make()
