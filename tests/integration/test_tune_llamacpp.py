"""`qtop tune` on a real llama.cpp beside busy loops: what helps is kept, what does not is put back, Ctrl-C is safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.crash import environment, masks, pin
from tests.fakes.load import Neighbours, busy_loops
from tests.integration.test_affinity_llamacpp import CPUS, SHARED, expect, needs_two_cpus

SWAPPINESS = Path("/proc/sys/vm/swappiness")

HOGS = 1

pytestmark = [needs_two_cpus, pytest.mark.root]


def tune(state: Path, url: str, only: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qtop", "tune", "--only", only, "--yes", "--json", "--url", url]
    return subprocess.Popen(command, env=environment(state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.measured
def test_kept_put_back_and_reported(make_llama_server: MakeLlamaServer, tmp_path: Path) -> None:
    server = make_llama_server(threads=1)
    pin(server.pid, {SHARED})
    before, swappiness = masks(server.pid), SWAPPINESS.read_text()
    value = int(swappiness) + 1
    with busy_loops(SHARED, HOGS) as hogs:
        others = Neighbours([server.pid, *hogs])
        with tune(tmp_path, server.url, f"cpu-affinity,swappiness={value}") as child:
            out, said = child.communicate(timeout=300)
        disturbed = others.share()
    told = json.loads(out)
    states = {step["knob"]: step["state"] for step in told["steps"]}
    expect(states == {"cpu-affinity": "kept", "swappiness": "put back"}, disturbed, (told, said))
    assert child.returncode == 0
    assert told["steps"][0]["judgement"]["verdict"] == "improved"
    assert told["total"]["verdict"] == "improved"
    assert SWAPPINESS.read_text() == swappiness
    assert all(mask == set(CPUS) for mask in masks(server.pid).values())
    undone = subprocess.run(
        [sys.executable, "-m", "qtop", "undo", "--all"], env=environment(tmp_path), capture_output=True, check=True
    )
    assert b"cpu-affinity" in undone.stdout
    assert {tid: mask for tid, mask in masks(server.pid).items() if tid in before} == before


def test_ctrl_c_puts_the_one_under_way_back_and_reports(make_llama_server: MakeLlamaServer, tmp_path: Path) -> None:
    server = make_llama_server(threads=1)
    pin(server.pid, {SHARED})
    before = masks(server.pid)
    with tune(tmp_path, server.url, "cpu-affinity,swappiness=1") as child:
        assert child.stderr is not None
        while "measuring after" not in (line := child.stderr.readline()):
            assert line, "it ended before it measured"
        assert any(mask == frozenset(os.sched_getaffinity(0)) for mask in masks(server.pid).values())
        child.send_signal(signal.SIGINT)
        out, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    told = json.loads(out)
    assert (told["cancelled"], told["kept"], told["not_tried"][-1:]) == (True, 0, ["swappiness"])
    assert {tid: mask for tid, mask in masks(server.pid).items() if tid in before} == before
