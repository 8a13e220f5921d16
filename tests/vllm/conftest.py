"""One real vLLM for all of these tests: a start takes a minute or more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.real_vllm import RealVllm


@pytest.fixture(scope="session")
def vllm_environment() -> Path:
    """The virtual environment that holds a vLLM; skips where nobody has installed one."""
    environment = os.environ.get("QTOP_VLLM_VENV", "")
    if not environment:
        pytest.skip("scripts/test-vllm runs these")
    return Path(environment)


@pytest.fixture(scope="session")
def vllm(vllm_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    """The server. The last test kills it."""
    words = ("--enable-lora", "--max-lora-rank", "8", "--enable-prefix-caching")
    live = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    server = RealVllm(vllm_environment, tmp_path_factory.mktemp("vllm"), words, live)
    try:
        server.await_answer()
        yield server
    finally:
        server.stop()
