"""A llama.cpp model small enough for an emulated machine: random weights, a token for each byte (GGUF, version 3).

Source of the format: docs/gguf.md of ggml; names of keys and tensors as llama.cpp reads them for "llama".
"""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path

ALIGN = 32
HEADS = 4
LAYERS = 2
F32 = 0
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
Value = str | int | float | list[str] | list[int] | list[float]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> tuple[int, bytes]:
    """Its type's number and its bytes: u32, f32, string, or an array of i32, f32 or strings."""
    match value:
        case str():
            return 8, _string(value)
        case int():
            return 4, struct.pack("<I", value)
        case float():
            return 6, struct.pack("<f", value)
        case [str(), *_]:
            return 9, struct.pack("<IQ", 8, len(value)) + b"".join(_string(str(one)) for one in value)
        case [int(), *_]:
            return 9, struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)
        case _:
            return 9, struct.pack(f"<IQ{len(value)}f", 6, len(value), *value)


def _tensors(width: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, the fastest dimension first."""
    wide = 2 * width
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (width, vocabulary), "output_norm": (width,)}
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{name}"] = (width, width)
        for name, shape in (("ffn_gate", (width, wide)), ("ffn_up", (width, wide)), ("ffn_down", (wide, width))):
            shapes[f"blk.{layer}.{name}"] = shape
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"blk.{layer}.{name}"] = (width,)
    return shapes


def write(file: Path, width: int = 256) -> Path:
    """Make it: two layers of ``width`` (a multiple of 32), 16 × width² × 4 bytes and some."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    facts: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": 4096,
        "llama.embedding_length": width,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": 2 * width,
        "llama.rope.dimension_count": width // HEADS,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, NORMAL],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    shapes = _tensors(width, len(tokens))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(facts))
    for key, value in facts.items():
        kind, data = _value(value)
        head += _string(key) + struct.pack("<I", kind) + data
    chance = random.Random(1)
    row = array("f", (chance.gauss(0.0, width**-0.5) for _ in range(width * 2 + 1)))
    body = bytearray()
    for name, shape in shapes.items():
        head += _string(f"{name}.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, F32, len(body))
        count = 1
        for size in shape:
            count *= size
        if len(shape) == 1:
            body += array("f", [1.0] * count).tobytes()
        else:  # an odd number of random ones over and over: rows differ
            body += (row * (count // len(row) + 1))[:count].tobytes()
        body += b"\0" * (-len(body) % ALIGN)
    file.write_bytes(head + b"\0" * (-len(head) % ALIGN) + bytes(body))
    return file
