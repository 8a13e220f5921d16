"""Writes LoRA adapters of random weights for the model of tiny_qwen.py. Run by the Python of the vLLM environment;
usage: tiny_lora.py FOLDER NAME…, each a folder in FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

RANK, HIDDEN, LAYERS = 8, 128, 2


def write(folder: Path) -> None:
    """One adapter."""
    folder.mkdir()
    tensors = {}
    for layer in range(LAYERS):
        key = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, HIDDEN) * 0.01
        tensors[f"{key}.lora_B.weight"] = torch.randn(HIDDEN, RANK) * 0.01
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**told, "task_type": "CAUSAL_LM"}))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        write(Path(sys.argv[1]) / name)
