"""kill -9 of a live change at every call that it is made of, then undo: the old state is back, whatever the call.

For each knob: a change that is measured and put back by itself, and the undo of one that was kept
(fakes/live_sweep.py).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import environment
from tests.fakes.family import Family
from tests.fakes.nvml_fixture import FakeNvml, h100
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence
from tests.fakes.vllm_routes import FakeVllm

from qtop.act.knobs.cpu_groups import autogroup
from qtop.sample import cpulist

CPUS = sorted(os.sched_getaffinity(0))
UUIDS = tuple(f"GPU-5ca1ab1e-0000-4000-8000-{number:012d}" for number in range(1))

# The state of each thread of processes, as text.
THREADS = """
import os, sys
for pid in sys.argv[1:]:
    for tid in sorted(os.listdir(f"/proc/{pid}/task")):
        print(tid, os.getpriority(0, int(tid)), sorted(os.sched_getaffinity(int(tid))))
    print(open(f"/proc/{pid}/autogroup").read() if os.path.exists(f"/proc/{pid}/autogroup") else "")
"""


def sweep(
    shim: Path,
    folder: Path,
    words: tuple[str, str, str],
    state: str,
    extra: Mapping[str, str] | None = None,
    mode: str = "before",
) -> dict[str, list[str]]:
    """Die before each call, which is after the one before; the calls that the change, and the undo, were made of."""
    before = subprocess.run(state, shell=True, capture_output=True, text=True, check=True).stdout
    made: dict[str, list[str]] = {}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.live_sweep", *words, mode],
        env=environment(
            folder / mode,
            {
                "LD_PRELOAD": str(shim),
                "QTOP_SWEEP_STATE": state,
                "QTOP_SWEEP_AUTOGROUPS": "/nonexistent",
                **(extra or {}),
            },
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rounds: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    for one in rounds:
        assert one["state"] == before, one
        assert one["left"] == 0, one
        assert "Error" not in one["said"], one
    for what in ("apply", "undo"):
        those = [one for one in rounds if one["what"] == what]
        assert [one["killed"] for one in those] == [True] * (len(those) - 1) + [False]
        made[what] = those[-1]["calls"]
        assert len(those) == len(made[what]) + 1
        assert those[-1]["said"].startswith("put back: worse" if what == "apply" else "undone: "), those[-1]
    return made


def threads_of(*families: Family) -> str:
    return shlex.join([sys.executable, "-S", "-c", THREADS, *(str(one.pid) for one in families)])


def test_nice_of_neighbours(shim: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user cannot lower a nice value again")
    with Family(0) as server, Family(1) as one, Family(0) as other:
        subject = f"pids:{server.pid}:{one.pid},{other.pid}"
        made = sweep(shim, tmp_path, ("neighbours-nice", "19", subject), threads_of(one, other))
    assert made["apply"].count("setpriority") == 6
    assert made["apply"].index("fsync") < made["apply"].index("setpriority")
    assert made["undo"].count("setpriority") == 3


def test_nice_of_their_sessions(shim: Path, tmp_path: Path) -> None:
    if autogroup(os.getpid()) is None:
        pytest.skip("this kernel has no autogroups")
    with Family(0) as server, Family(0) as one:
        enabled = tmp_path / "enabled"
        enabled.write_text("1")
        subject = f"pids:{server.pid}:{one.pid}"
        extra = {"QTOP_SWEEP_AUTOGROUPS": str(enabled), "QTOP_KILL_FILES": f"/proc/{one.pid}/autogroup"}
        made = sweep(shim, tmp_path, ("neighbours-nice", "19", subject), threads_of(one), extra)
    # Beside the journal's own: a begin, the steps to "verified", "measured", "reverted".
    assert made["apply"].count("write") == made["apply"].count("fsync") - 1 + 2
    assert "setpriority" not in made["apply"]


@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs to move processes between")
def test_cpus_of_neighbours(shim: Path, tmp_path: Path) -> None:
    with Family(0) as server, Family(1) as one:
        subject = f"pids:{server.pid}:{one.pid}"
        value = cpulist.show(CPUS[1:])
        made = sweep(shim, tmp_path, ("neighbours-cpus", value, subject), threads_of(one))
    assert made["apply"].count("sched_setaffinity") == 4
    assert made["apply"].index("fsync") < made["apply"].index("sched_setaffinity")


@pytest.mark.parametrize(
    ("knob", "value", "states"),
    [
        ("gpu-power-limit", "450", 2),
        ("gpu-persistence", "on", 2),
        ("gpu-clocks", "210,1500", 2),
    ],
)
def test_gpus(knob: str, value: str, states: int, shim: Path, tmp_path: Path, fake_nvml: FakeNvml) -> None:
    fake_nvml.set(count=1, **h100(0, persistence=0))
    query = "0.power_limit|0.persistence|0.locked_clocks"
    path = shlex.quote(f"{fake_nvml.file}.state")
    # What was never set and what was set back reads the same.
    state = f"grep -E '{query}' {path} 2>/dev/null | grep -vE 'power_limit 700000|persistence 0' || true"
    extra = {name: fake_nvml.env()[name] for name in ("LD_LIBRARY_PATH", "QTOP_FAKE_NVML")}
    made = sweep(shim, tmp_path, (knob, value, f"gpus:{','.join(UUIDS)}"), state, extra)
    assert made["apply"].count("rename") == states
    assert made["apply"].index("fsync") < made["apply"].index("rename")
    assert made["undo"].count("rename") == 1


def test_lora(shim: Path, tmp_path: Path) -> None:
    with FakeVllm(key="sesame") as server:
        subject = f"url:{server.url}#{os.getpid()}"
        state = shlex.join([sys.executable, "-S", "-c", MODELS, server.url])
        extra = {"QTOP_API_KEY": "sesame"}
        made = sweep(shim, tmp_path, ("lora", "load:red=/adapters/red", subject), state, extra)
        assert "send" in made["apply"]
        server.loras["blue"] = "/adapters/blue"
        sweep(shim, tmp_path / "unload", ("lora", "unload:blue", subject), state, extra)
    for journal in tmp_path.rglob("journal.jsonl"):
        assert "sesame" not in journal.read_text()


MODELS = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1] + "/v1/models", headers={"Authorization": "Bearer sesame"})
print(urllib.request.urlopen(asked, timeout=20).read().decode())
"""
