"""Plans for vLLM's CPU build: the cache lies in RAM and its size is given."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qtop.cli import main
from qtop.errors import EXIT_OK, EXIT_USAGE

DATA = Path(__file__).parent.parent / "data"
RECORDING = str(DATA / "recordings/h100-steady16.qtop")
TINY: dict[str, Any] = {
    "model_type": "qwen3", "torch_dtype": "bfloat16", "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 151_936,
    "max_position_embeddings": 32_768, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    return ["plan", "--model", str(tmp_path), "--gpu", "cpu", "--from", RECORDING, "--vllm", "0.32.0", "--json"]


@pytest.mark.parametrize(
    ("more", "blocks"), [([], r'num_gpu_blocks="(\d+)"'), (["--dtype", "float32"], r'"num_gpu_blocks": ?(\d+)')]
)
def test_the_cache_is_what_the_cpu_build_logged(
    more: list[str], blocks: str, ask: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """1 GiB in both: in bf16 its /metrics told the blocks, in fp32 its /server_info."""
    name = "vllm-0.32-cpu.metrics.txt" if not more else "vllm.server_info.json"
    logged = re.search(blocks, (DATA / "captures" / name).read_text())
    assert logged is not None
    assert main([*ask, "--kv-memory", "1GiB", "--context", "4096", *more]) == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert told["memory"]["kv_tokens"] == 128 * int(logged[1])
    assert told["memory"]["graphs_bytes"] == 0 and "--kv-cache-memory-bytes" in told["command"]
    assert told["decode"] == [] and told["prefill"] == []


def test_the_cpu_build_must_be_given_its_cache(ask: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ask, "--context", "4096"]) == EXIT_USAGE
    assert "Give --kv-memory" in capsys.readouterr().err
