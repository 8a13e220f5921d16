"""The parts of the benchmarks whose errors would not show: figures that move as a server's do, bytes that add up."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qtop.collect.engine.exposition import parse

ROOT = Path(__file__).parent.parent.parent
CAPTURE = ROOT / "tests/data/captures/vllm-0.25.1-h100.metrics.txt"
ENGINE = 'engine="0",model_name="Qwen/Qwen3-4B-Instruct-2507"'


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def exposition(engines: int = 1) -> Any:
    return import_module("fake_exposition").Exposition(CAPTURE.read_text(), engines)


def test_unmoved_it_is_the_recorded_text() -> None:
    assert exposition().text() == CAPTURE.read_text()


def test_under_load_counters_only_rise_and_buckets_stay_cumulative() -> None:
    moving = exposition()
    before = parse(moving.text(), ("vllm:",))
    for _ in range(5):
        moving.advance(1.0)
    after = parse(moving.text(), ("vllm:",))
    assert before.keys() == after.keys()
    fell = [
        key for key in after if ("_total" in key or "_bucket" in key or "_count" in key) and after[key] < before[key]
    ]
    assert not fell
    name = "vllm:inter_token_latency_seconds"
    buckets = [value for key, value in after.items() if key.startswith(f"{name}_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after[f"{name}_count{{{ENGINE}}}"]
    tokens = f"vllm:generation_tokens_total{{{ENGINE}}}"
    count, spent = (
        after[f"{name}_{part}{{{ENGINE}}}"] - before[f"{name}_{part}{{{ENGINE}}}"] for part in ("count", "sum")
    )
    assert math.isclose(count, after[tokens] - before[tokens], rel_tol=0.01)
    assert 0.01 < spent / count < 0.04


def test_each_engine_has_all_series_and_a_load_of_its_own() -> None:
    three = exposition(3)
    three.advance(1.0)
    series = parse(three.text(), ("vllm:",))
    tokens = [series[f"vllm:generation_tokens_total{{{ENGINE.replace('0', str(n), 1)}}}"] for n in range(3)]
    assert len(set(tokens)) == 3


def test_the_fake_server_moves_rests_and_leaves_nothing_behind() -> None:
    fake: Any = import_module("fake_vllm")
    with fake.start("--threads", "12", "--workers", "1", "--state", "idle") as server:
        assert json.loads(_get(server.url, "/v1/models"))["data"][0]["owned_by"] == "vllm"
        assert _get(server.url, "/metrics") == _get(server.url, "/metrics")
        threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in (server.pid, *server.children))
        assert threads == 12
        assert Path(f"/proc/{server.children[0]}/cmdline").read_bytes().rstrip(b"\0") == b"VLLM::EngineCore"
        children = server.children
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _get(url: str, path: str) -> str:
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        return str(answer.read().decode())


def test_explained_bytes_add_up_and_lie_in_the_field_that_they_draw() -> None:
    pty: Any = import_module("bench_pty")
    explain: Any = import_module("bench_explain")
    first = b"\x1b[2;1Hgap  20.0 ms     tokens  7\x1b[5;1H"
    second = b"\x1b[2;6H\x1b[31m21\x1b[m\x1b[2;26H\x1b[33m7\x1b[m\x1b[?25l"
    chunks = [pty.Chunk(1.0, first, 0.0), pty.Chunk(2.0, second, 0.0)]
    account = explain.explain(chunks, 1.5, 2.5, (40, 6))
    assert account.total == len(second)
    gap, tokens = account.fields[1, 5], account.fields[1, 25]
    assert (gap.text, gap.cells, gap.changed) == (2, 2, 2)  # "20.0" became "21.0", and red
    assert (tokens.text, tokens.cells, tokens.changed) == (1, 1, 1)  # the same digit in another colour
    assert account.modes == len(b"\x1b[?25l")


def test_the_options_are_understood() -> None:
    for script in ("bench_terminal.py", "bench_tick.py", "bench_soak.py", "fake_vllm.py"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
