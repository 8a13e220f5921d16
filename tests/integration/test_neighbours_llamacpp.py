"""A real llama.cpp with busy loops beside it: they are named, lowered, the server is shown to be faster, and undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.crash import environment, pin
from tests.fakes.load import Neighbours, busy_loops, streams

from qtop.act.knobs.cpu_groups import autogroup

pytestmark = pytest.mark.measured

CPU = min(os.sched_getaffinity(0))
HOGS = 1
QUIET = 0.05
"""CPUs' worth of time that the rest of the machine may use without explaining what a test sees."""


def qtop(state: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON document and standard error of a qtop process."""
    command = [sys.executable, "-m", "qtop", *arguments, "--json"]
    done = subprocess.run(command, env=environment(state), capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def nices(pids: list[int]) -> list[tuple[int, int | None]]:
    """Nice of each, and of its session."""
    sessions = (autogroup(pid) for pid in pids)
    return [(os.getpriority(os.PRIO_PROCESS, pid), one and one[1]) for pid, one in zip(pids, sessions, strict=True)]


@pytest.mark.root
def test_busy_loops_are_named_lowered_and_given_back(make_llama_server: MakeLlamaServer, tmp_path: Path) -> None:
    server = make_llama_server(threads=1)
    pin(server.pid, {CPU})
    if os.getpriority(os.PRIO_PROCESS, server.pid) >= 10:
        pytest.skip("the tests run so nicely themselves that nobody can be nicer than their server")
    with busy_loops(CPU, HOGS) as hogs:
        before = nices(hogs)
        with streams(server.port, 1):
            status, shown, told = qtop(tmp_path, "apply", "neighbours-nice", "--dry-run", "--url", server.url)
        assert status == 0, told
        assert {str(pid) for pid in hogs} <= set(shown["value"].partition(":")[2].split(","))
        assert nices(hogs) == before
        # From here on by number: whoever else is busy on this CPU is none of ours.
        named = f"neighbours-nice=19:{','.join(map(str, hogs))}"
        others = Neighbours([server.pid, *hogs])
        status, outcome, told = qtop(tmp_path, "apply", named, "--yes", "--url", server.url)
        assert outcome["kept"] == (status == 0), told
        if outcome["judgement"]["verdict"] != "improved" and (used := others.share()) > QUIET:
            pytest.skip(f"needs a quiet machine: other processes used {used:.0%} of a CPU")
        assert outcome["judgement"]["verdict"] == "improved", outcome
        lowered = nices(hogs)
        assert all(19 in now and now != was for was, now in zip(before, lowered, strict=True)), lowered
        status, undone, told = qtop(tmp_path, "undo")
        assert (status, undone["restored"]) == (0, HOGS), told
        assert nices(hogs) == before
