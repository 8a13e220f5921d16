"""A real llama.cpp held back by its CPUs: named, widened, shown to be better, put back. And one held by a quota."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.crash import environment, masks, pin
from tests.fakes.load import Neighbours, busy_loops, quota, streams

from qtop.demo.server import DemoServer

pytestmark = pytest.mark.measured

CPUS = sorted(os.sched_getaffinity(0))
SHARED = CPUS[0]
HOGS = 1
DISTURBED = 1.5
"""A busy loop leaves the thread half a CPU: so much faster it must be even where others use the other one."""
QUIET = 0.05
"""CPUs' worth of time that the rest of the machine may use without explaining what a test sees."""

needs_two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs: one to share and one to move to")


def qtop(state: Path, server: DemoServer, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON document and standard error of a qtop process that watches this server."""
    command = [sys.executable, "-m", "qtop", *arguments, "--json"]
    if arguments[0] != "undo":
        command += ["--url", server.url]
    done = subprocess.run(command, env=environment(state), capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def finding(document: dict[str, Any], rule: str) -> dict[str, Any]:
    return next(one for one in document["findings"] if one["rule"] == rule)


def expect(true: bool, neighbours: float, shown: object) -> None:
    """Assert what holds on a machine that is otherwise idle; skip where others used its CPUs meanwhile."""
    if not true and neighbours > QUIET:
        pytest.skip(f"needs a quiet machine: other processes used {neighbours:.0%} of a CPU")
    assert true, shown


def not_waiting(state: Path, server: DemoServer, others: Neighbours) -> tuple[int, dict[str, Any], float]:
    """A doctor's exit status and document, asked up to three times until QT201 does not fire; what others used then."""
    for _ in range(3):
        others.share()
        status, told, _ = qtop(state, server, "doctor", "--seconds", "8")
        used = others.share()
        if finding(told, "QT201")["state"] != "firing":
            break
    return status, told, used


def port_of(server: DemoServer) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


@needs_two_cpus
def test_named_widened_better_and_put_back(make_llama_server: MakeLlamaServer, tmp_path: Path) -> None:
    server = make_llama_server(threads=1)
    pin(server.pid, {SHARED})
    before = masks(server.pid)
    with busy_loops(SHARED, HOGS) as hogs:
        others = Neighbours([server.pid, *hogs])
        with streams(port_of(server), 1):
            status, sick, _ = qtop(tmp_path, server, "doctor", "--seconds", "8")
        waits = finding(sick, "QT201")
        assert (status, waits["state"], sick["verdict"]["rule"]) == (1, "firing", "QT201"), waits
        named = " ".join(line["signal"] for line in waits["evidence"])
        expect(all(f"({pid})" in named for pid in hogs), others.share(), named)
        assert [action["knob"] for action in waits["actions"]] == ["cpu-affinity", "neighbours-nice", "neighbours-cpus"]

        status, made, said = qtop(tmp_path, server, "apply", "cpu-affinity", "--yes")
        disturbed = others.share()
        expect((status, made.get("kept")) == (0, True), disturbed, (made, said))
        assert made["judgement"]["verdict"] == "improved"
        assert all(mask == set(CPUS) for mask in masks(server.pid).values())
        with streams(port_of(server), 1):
            after_status, well, disturbed_after = not_waiting(tmp_path, server, others)

        status, undone, _ = qtop(tmp_path, server, "undo")
        assert status == 0
        after = masks(server.pid)
        assert {tid: mask for tid, mask in after.items() if tid in before} == before
        # Threads that were born while the masks were wide have gone back with the rest.
        assert set(after.values()) == {frozenset({SHARED})}
        assert undone["restored"] >= len(before.keys() & after.keys())

    for metric in ("ttft", "itl"):
        measured = made["judgement"]["data"][metric]
        expect(measured["before_ms"] >= DISTURBED * measured["after_ms"], disturbed, measured)
    waits = finding(well, "QT201")
    expect((after_status, waits["state"]) == (0, "clear"), disturbed_after, waits)


@needs_two_cpus
@pytest.mark.root
def test_a_quota_is_no_case_for_affinity(make_llama_server: MakeLlamaServer, tmp_path: Path) -> None:
    """The same wait on the same run queue, but widening would not help: it is the quota that stops the threads."""
    server = make_llama_server(threads=1)
    pin(server.pid, {SHARED})
    with quota(server.pid, 0.2) as limited:
        if not limited:
            pytest.skip("needs a cgroup cpu controller in which a group can be made")
        with streams(port_of(server), 2):
            status, told, disturbed = not_waiting(tmp_path, server, Neighbours([server.pid]))
    assert status == 1
    assert finding(told, "QT202")["state"] == "firing"
    expect(told["verdict"]["rule"] == "QT202", disturbed, told["verdict"])
    expect(finding(told, "QT201")["state"] == "clear", disturbed, finding(told, "QT201"))
    assert [action for one in told["findings"] for action in one["actions"]] == []
