"""Changes of a real vLLM while it runs: adapters, and its prefix cache, as a user makes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.load import streams
from tests.fakes.real_vllm import NAME, RealVllm
from tests.fakes.spawned import ROOT

QTOP = (sys.executable, "-m", "qtop")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    python = Path(os.environ["QTOP_VLLM_VENV"]) / "bin/python"
    subprocess.run([python, ROOT / "tests/fakes/tiny_lora.py", folder, "red"], check=True, timeout=120)
    return folder


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("QTOP_API_KEY", raising=False)


def apply(server: RealVllm, word: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = [*QTOP, "apply", word, "--yes", "--url", server.url, *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)


def undo() -> subprocess.CompletedProcess[str]:
    return subprocess.run([*QTOP, "undo"], capture_output=True, text=True, timeout=60, check=False)


def call(server: RealVllm, path: str, document: Any = None) -> tuple[int, Any]:
    data = None if document is None else json.dumps(document).encode()
    asked = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


def models(server: RealVllm) -> set[str]:
    return {one["id"] for one in call(server, "/v1/models")[1]["data"]}


def generates(server: RealVllm, model: str) -> bool:
    status, answer = call(server, "/v1/completions", {"model": model, "prompt": "Hi", "max_tokens": 3})
    return status == 200 and answer["usage"]["completion_tokens"] == 3


def test_an_adapter_is_loaded_measured_used_and_unloaded_again(vllm: RealVllm, adapters: Path) -> None:
    done = apply(vllm, f"lora=load:red={adapters / 'red'}", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kept"] and told["judgement"]["verdict"] in ("no effect", "improved", "cannot tell")
    assert re.search(r"red loaded in \d+ ms", done.stderr)
    assert models(vllm) == {NAME, "red"}
    assert generates(vllm, "red")
    assert "name of an adapter or a model already" in apply(vllm, f"lora=load:red={adapters / 'red'}").stderr
    back = undo()
    assert back.returncode == 0, back.stderr
    assert models(vllm) == {NAME}
    assert call(vllm, "/v1/completions", {"model": "red", "prompt": "Hi", "max_tokens": 1})[0] == 404


def test_an_adapter_that_is_not_there_is_refused_in_the_servers_words(vllm: RealVllm, adapters: Path) -> None:
    done = apply(vllm, f"lora=load:blue={adapters / 'blue'}", "--no-measure")
    assert done.returncode == 1
    assert "the server did not load blue: " in done.stderr
    assert "Traceback" not in done.stderr
    assert models(vllm) == {NAME}
    assert undo().stdout == "nothing to undo\n"


def test_unloading_is_undone_by_loading_it_again(vllm: RealVllm, adapters: Path) -> None:
    assert apply(vllm, f"lora=load:red={adapters / 'red'}", "--no-measure").returncode == 0
    assert apply(vllm, "lora=unload:red", "--no-measure").returncode == 0
    assert models(vllm) == {NAME}
    assert undo().returncode == 0
    assert generates(vllm, "red")
    assert undo().returncode == 0
    assert models(vllm) == {NAME}


def cached(server: RealVllm) -> int:
    """Tokens of the prompt that came from the prefix cache."""
    prompt = "one two three four five six seven eight nine ten " * 20
    assert call(server, "/v1/completions", {"model": NAME, "prompt": prompt, "max_tokens": 1})[0] == 200
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as metrics:
        text = metrics.read().decode()
    return int(sum(float(value) for value in re.findall(r"^vllm:prefix_cache_hits_total\{.*\} (\S+)$", text, re.M)))


def test_the_prefix_cache_is_forgotten(vllm: RealVllm) -> None:
    cached(vllm)
    before = cached(vllm)
    again = cached(vllm)
    assert again > before, "the prompt is found in the cache"
    done = apply(vllm, "reset-prefix-cache", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert cached(vllm) == again
    assert undo().stdout == "nothing to undo\n"


def test_a_cache_that_is_held_is_not_reset_and_told_so(vllm: RealVllm) -> None:
    with streams(vllm.port, 4):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            done = apply(vllm, "reset-prefix-cache", "--no-measure")
            if done.returncode == 1:
                break
            time.sleep(0.2)  # between two requests nothing is held
    assert '{"success": false}' in done.stderr, (done.stdout, done.stderr)
