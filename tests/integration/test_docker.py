"""A real server in a real container, seen from the host: who it is, and what its container is limited to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.real_docker import LlamaInDocker, docker_here

pytestmark = [pytest.mark.integration, pytest.mark.root]

MIB = 1 << 20
CPU = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def contained(llama_model: Path) -> Iterator[LlamaInDocker]:
    """It may use half of one CPU, and 1 GiB."""
    with docker_here() as docker:
        limits = ("--cpus", "0.5", "--cpuset-cpus", str(CPU), "--memory", str(1024 * MIB))
        yield docker.llamacpp(llama_model, *limits, context=512)


def snapshot(server: LlamaInDocker) -> dict[str, Any]:
    command = [sys.executable, "-m", "qtop", "snapshot", "--json", "--url", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_who_it_is(contained: LlamaInDocker) -> None:
    server = snapshot(contained)["server"]
    assert (server["engine"], server["pid"]) == ("llamacpp", contained.pid)
    assert (server["on_host"], server["in_container"], server["verified"]) == (True, True, True)


def test_what_it_is_limited_to(contained: LlamaInDocker) -> None:
    """The server is not the container's first process: every process of it is in the same groups."""
    sched = snapshot(contained)["sched"]
    assert sched["quota"]["cores"] == 0.5
    assert contained.container.inspect()["Id"] in sched["quota"]["path"]
    assert sched["cpuset"] == str(CPU)
    assert sched["memory"]["limit"] == 1024 * MIB


def test_an_update_is_seen(contained: LlamaInDocker) -> None:
    contained.container.update("--cpus", "0.25", "--memory", str(2048 * MIB), "--memory-swap", str(2048 * MIB))
    sched = snapshot(contained)["sched"]
    assert (sched["quota"]["cores"], sched["memory"]["limit"]) == (0.25, 2048 * MIB)
