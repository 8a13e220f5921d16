"""A real vLLM started anew with other words and another config file; with words that it refuses, and that cannot start.

A start takes a minute or more, so what can be is shown with the same one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import environment
from tests.fakes.load import streams
from tests.fakes.real_vllm import CONFIG, RealVllm
from tests.fakes.restarts import running_with

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def server(vllm_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    """One of its own: it is replaced again and again, and what replaced it ends with the module."""
    one = RealVllm(vllm_environment, tmp_path_factory.mktemp("vllm"))
    try:
        one.await_answer()
        yield one
    finally:
        end(one)


@pytest.fixture
def served(vllm_environment: Path, tmp_path: Path) -> Iterator[RealVllm]:
    """One that ``qtop serve`` runs."""
    variables = {name: value for name, value in environment(tmp_path).items() if name.startswith(("XDG_", "PYTHON"))}
    folder = tmp_path / "vllm"
    folder.mkdir()
    before = (sys.executable, "-m", "qtop", "serve", "--name", "vllm", "--")
    one = RealVllm(vllm_environment, folder, variables=variables, before=before)
    try:
        one.await_answer()
        yield one
    finally:
        one.stop()
        end(one)


def end(server: RealVllm) -> None:
    for pid, _ in processes(server):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    server.stop()


def processes(server: RealVllm) -> list[tuple[int, list[str]]]:
    return running_with(str(server.port))


def words(server: RealVllm) -> list[str]:
    """Those of the only one that runs."""
    (found,) = [found for _, found in processes(server) if "qtop" not in found]
    return found


def qtop(server: RealVllm, state: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "qtop", *arguments, "--json"]
    if arguments[0] != "undo":
        command += ["--url", server.url]
    done = subprocess.run(command, env=environment(state), capture_output=True, text=True, timeout=1200, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def in_force(server: RealVllm) -> tuple[int, int]:
    """(max_num_seqs, max_model_len) as the server itself says."""
    with urllib.request.urlopen(f"{server.url}/server_info?config_format=json", timeout=60) as answer:
        config = json.load(answer)["vllm_config"]
    return config["scheduler_config"]["max_num_seqs"], config["model_config"]["max_model_len"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--kv-cache-dtype=fp16", "vLLM does not take these words: argument --kv-cache-dtype: invalid choice: 'fp16'"),
        ("--load-in-4bit", "vLLM does not take these words: unrecognized arguments: --load-in-4bit"),
        ("--max-num-seqs=many", "vLLM does not take these words: argument --max-num-seqs: invalid"),
    ],
)
def test_what_its_parser_refuses_stops_nothing(server: RealVllm, flags: str, why: str, tmp_path: Path) -> None:
    before = processes(server)
    status, _, said = qtop(server, tmp_path, "apply", f"server-flags={flags}", "--yes")
    assert status == 1
    assert why in said
    assert "Nothing was stopped" in said
    assert processes(server) == before
    assert server.config.read_text() == CONFIG


def test_words_and_file_changed_under_load_and_back(server: RealVllm, tmp_path: Path) -> None:
    old, data = words(server), server.config.read_bytes()
    assert in_force(server) == (16, 2048)
    with streams(server.port, 2, tokens=30):
        flags = "server-flags=--max-num-seqs=8 --max-model-len=1024"
        status, shown, said = qtop(server, tmp_path, "apply", flags, "--dry-run")
        assert status == 0, said
        # What the file sets is changed there, what the command line sets there.
        assert f"{server.config}: max-num-seqs: 16 → max-num-seqs: 8" in shown["preview"]
        assert "command line: --max-model-len 2048 → --max-model-len 1024" in shown["preview"]
        assert any(line.startswith("checked with its own parser (vLLM 0.") for line in shown["preview"])

        status, made, said = qtop(server, tmp_path, "apply", flags, "--yes", "--keep-always")
        assert (status, made.get("kept")) == (0, True), said
        assert in_force(server) == (8, 1024)
        assert server.config.read_bytes() == data.replace(b"max-num-seqs: 16", b"max-num-seqs: 8")
        new = words(server)
        assert new == [{"2048": "1024"}.get(word, word) for word in old]

        status, undone, said = qtop(server, tmp_path, "undo")
        assert (status, undone.get("restored")) == (0, 2), said
    assert server.config.read_bytes() == data
    assert words(server) == old
    assert in_force(server) == (16, 2048)


def test_a_context_that_cannot_be_served_brings_the_old_server_back(server: RealVllm, tmp_path: Path) -> None:
    old = words(server)
    status, _, said = qtop(server, tmp_path, "apply", "max-model-len=1048576", "--yes", "--no-measure")
    assert status == 1
    assert "vLLM did not start: " in said
    assert "max_model_len" in said.splitlines()[-1]
    assert words(server) == old
    assert in_force(server) == (16, 2048)
    assert qtop(server, tmp_path, "undo")[1]["text"] == "nothing to undo"


def test_served_it_is_changed_under_load_put_back_when_it_cannot_start_and_undone(
    served: RealVllm, tmp_path: Path
) -> None:
    old = words(served)
    with streams(served.port, 2, tokens=30):
        status, made, said = qtop(served, tmp_path, "apply", "max-model-len=1024", "--yes", "--keep-always")
        assert (status, made.get("kept")) == (0, True), said
        assert in_force(served) == (16, 1024)
        assert made["judgement"]["data"]["ttft"]["after_ms"] > 0

        status, _, said = qtop(served, tmp_path, "apply", "max-model-len=1048576", "--yes", "--no-measure")
        assert status == 1
        assert "vLLM did not start: " in said
        assert in_force(served) == (16, 1024)

        status, undone, said = qtop(served, tmp_path, "undo")
        assert (status, undone.get("restored")) == (0, 1), said
    assert words(served) == old
    assert in_force(served) == (16, 2048)
