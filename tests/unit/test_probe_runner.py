"""The child process that measures and its runner: events, cancelling, dying, and what a test says beforehand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from tests.fakes.sse_server import TOKENS, SseServer

from qtop.errors import QtopError
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.prompts import ENGLISH
from qtop.probe.runner import ProbeRun, plan_text, run_probe

PATIENCE = 15.0
"""Seconds in which something must have happened; generous, because the machine may be busy."""


@pytest.fixture
def server() -> Iterator[SseServer]:
    with SseServer() as running:
        yield running


def request(server: SseServer, manner: str, **changes: object) -> ProbeRequest:
    fields: dict[str, object] = {"url": server.url(manner), "model": "m", "prompt": ENGLISH, "max_tokens": 6, **changes}
    return msgspec.convert(fields, ProbeRequest)


def test_a_run_reports_as_it_goes(server: SseServer) -> None:
    events: list[ProbeEvent] = []
    run = ProbeRun()
    run.start(request(server, "ok", requests=2, warmup=1, api_key="sk-secret"), events.append)
    assert run.pid is not None
    command = Path(f"/proc/{run.pid}/cmdline").read_bytes() + Path(f"/proc/{run.pid}/environ").read_bytes()
    results = run.wait(PATIENCE)
    assert not run.running
    assert run.error == ""
    assert [result.ok for result in results] == [True, True]
    assert len(server.seen) == 3
    assert server.seen[0].headers["authorization"] == "Bearer sk-secret"
    assert b"secret" not in command and ENGLISH.encode() not in command

    kinds = [event.kind for event in events if event.kind != "gaps"]
    assert kinds == ["started", *(["started", "first", *["delta"] * 6, "done"] * 2), "report", "end"]
    assert [event.warmup for event in events[:2]] == [True, False]
    deltas = [event for event in events if event.kind == "delta" and event.i == 1]
    assert "".join(delta.text for delta in deltas) == "".join(TOKENS)
    stamps = [delta.t for delta in deltas]
    assert stamps == sorted(stamps)
    # Each event has the stamp of its read, not that of the batch it was sent in.
    gaps = tuple(round((b - a) * 1000, 3) for a, b in pairwise(stamps))
    assert gaps == pytest.approx(results[1].gaps_ms, abs=0.002)


def test_cancel_closes_the_connection(server: SseServer) -> None:
    run, events = streaming(server)
    run.cancel()
    run.cancel()
    assert server.dropped.wait(PATIENCE)
    assert run.wait(PATIENCE) == []
    assert run.error == "cancelled"
    assert events[-1] == ProbeEvent(kind="end", t=events[-1].t, error="cancelled")
    assert sum(event.kind == "end" for event in events) == 1


def test_cancel_does_not_wait_for_a_server_that_is_silent(server: SseServer) -> None:
    run = ProbeRun()
    run.start(request(server, "mute"))
    until(lambda: bool(server.seen))
    run.cancel()
    assert server.dropped.wait(PATIENCE)


def test_a_child_that_hangs_is_killed(server: SseServer) -> None:
    run, _ = streaming(server)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGSTOP)  # nothing but SIGKILL gets through to it now
    run.cancel()
    assert run.wait(PATIENCE) == []
    assert not run.running
    assert server.dropped.wait(PATIENCE)


def test_a_child_that_dies_is_one_line(server: SseServer) -> None:
    run, events = streaming(server)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGKILL)
    run.wait(PATIENCE)
    assert run.error == "the test process ended unexpectedly (signal 9)"
    assert [event.kind for event in events[-2:]] == ["error", "end"]


def test_an_interrupt_of_the_terminal_does_not_reach_the_measurement(server: SseServer) -> None:
    run, _ = streaming(server)
    assert run.pid is not None
    assert os.getsid(run.pid) != os.getsid(0)
    os.kill(run.pid, signal.SIGINT)
    seen = len(server.seen)
    time.sleep(0.2)
    assert run.running and len(server.seen) == seen
    run.cancel()
    run.wait(PATIENCE)


PARENT = """
import sys, time
from qtop.probe.messages import ProbeRequest
from qtop.probe.runner import ProbeRun
run = ProbeRun()
run.start(ProbeRequest(url=sys.argv[1], model="m", prompt="p"), lambda e: print(e.kind, flush=True))
time.sleep(600)
"""


def test_kill_9_of_the_parent_closes_the_connection(server: SseServer) -> None:
    root = str(Path(__file__).parents[2] / "tui")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, server.url("forever")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        assert parent.stdout is not None
        for line in parent.stdout:
            if line.strip() == "first":
                break
        assert not server.dropped.is_set()
        parent.kill()
        assert server.dropped.wait(PATIENCE)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()


def test_a_child_without_a_parent_ends_at_once() -> None:
    child = subprocess.run([sys.executable, "-m", "qtop.probe.child"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)  # fmt: skip # noqa: E501
    assert (child.returncode, child.stdout, child.stderr) == (0, b"", b"")


def test_a_request_that_makes_no_sense_is_refused_in_words(server: SseServer) -> None:
    nonsense = ProbeRequest(url=server.url("ok"), model="m", prompt="p", requests=0)
    with pytest.raises(QtopError, match=r"The test prompt failed: the request cannot be sent.*requests"):
        run_probe(nonsense)


def test_a_process_that_cannot_start_is_one_line(server: SseServer, tmp_path: Path) -> None:
    events: list[ProbeEvent] = []
    run = ProbeRun(python=str(tmp_path / "nothing"))
    run.start(request(server, "ok"), events.append)
    assert run.wait(PATIENCE) == []
    assert "cannot be started" in run.error
    assert [event.kind for event in events] == ["end"]
    with pytest.raises(RuntimeError):
        run.start(request(server, "ok"))


def test_a_failing_server_is_asked_twice_and_no_more(server: SseServer) -> None:
    results = run_probe(request(server, "html", requests=10, warmup=3))
    assert [result.error for result in results] == ["the server answered 502"] * 2
    assert len(server.seen) == 3


def test_a_test_that_takes_too_long_is_ended(server: SseServer) -> None:
    with pytest.raises(QtopError, match=r"was not done after 1\.5 s"):
        run_probe(request(server, "forever"), timeout=1.5)
    assert not server.seen or server.dropped.wait(PATIENCE)


def test_a_listener_that_fails_does_not_stop_the_test(server: SseServer) -> None:
    def fails(event: ProbeEvent) -> None:
        raise ValueError(event.kind)

    assert [result.ok for result in run_probe(request(server, "ok"), fails)] == [True]


def test_a_prompt_larger_than_a_pipe(server: SseServer) -> None:
    prompt = "word " * 60_000
    assert run_probe(request(server, "ok", prompt=prompt))[0].ok
    assert server.seen[0].body["messages"][0]["content"].endswith(prompt)


def test_a_module_in_the_current_folder_does_not_stand_in(
    server: SseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "httpx.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert run_probe(request(server, "ok"))[0].ok


def test_a_plan_says_what_it_costs_and_warns_of_a_full_server() -> None:
    small = ProbeRequest(url="", model="", prompt="", requests=3, max_tokens=48)
    assert plan_text(small, 0, 0, 256) == ("3 requests, up to 144 tokens", None)
    assert plan_text(small, None, None, None)[1] is None
    assert plan_text(small, 255, 0, 256)[1] is None
    one = ProbeRequest(url="", model="", prompt="", max_tokens=48)
    assert plan_text(one, 0, 0, 1)[0] == "1 request, up to 48 tokens"
    warm = ProbeRequest(url="", model="", prompt="", requests=20, warmup=1, max_tokens=128)
    assert plan_text(warm, 0, 0, 1)[0] == "21 requests, up to 2 688 tokens; the first one does not count"
    waiting = plan_text(small, 3, 5, 256)[1]
    assert waiting is not None and "5 requests are already waiting" in waiting
    full = plan_text(small, 4, 0, 4)[1]
    assert full is not None and "4 of 4" in full


def streaming(server: SseServer) -> tuple[ProbeRun, list[ProbeEvent]]:
    """A run in the middle of an answer without end."""
    events: list[ProbeEvent] = []
    begun = threading.Event()

    def on_event(event: ProbeEvent) -> None:
        events.append(event)
        if event.kind == "first":
            begun.set()

    run = ProbeRun()
    run.start(request(server, "forever"), on_event)
    assert begun.wait(PATIENCE)
    assert not server.dropped.is_set()
    return run, events


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for as long as PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
