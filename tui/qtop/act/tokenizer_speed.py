"""How fast the tokenizer of a model is, measured with the library that vLLM uses, by a Python that has it.

That is that of the vLLM which is installed here, hardly ever qtop's own. The text is English of many kinds and some
Chinese, as much as a long prompt: a tokenizer remembers words, so one sentence over and over would look too fast.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from importlib import import_module

LIMIT_S = 60.0
CHARS = 80_000
"""About 16 000 tokens of Qwen3."""
CHINESE = "两个纠缠的粒子不能各自描述：测量其中一个，另一个的状态也随之确定。"
NO_LIBRARY = 3
CODE = f"""
import sys, time
try:
    from tokenizers import Tokenizer
except ImportError:
    sys.exit({NO_LIBRARY})
read = Tokenizer.from_file(sys.argv[1])
text = sys.stdin.buffer.read().decode()
begin = time.perf_counter()
count = len(read.encode(text).ids)
print(count, time.perf_counter() - begin)
"""


def sample() -> str:
    """The text: what Python says of itself, with a Chinese sentence in each twentieth line."""
    topics = import_module("pydoc_data.topics").topics
    lines = "\n".join(topics[name] for name in sorted(topics)).splitlines()
    mixed = (line + CHINESE * (number % 20 == 0) for number, line in enumerate(lines))
    return "\n".join(mixed)[:CHARS]


def tokenizer_speed(path: str, pythons: Sequence[str]) -> float | str:
    """Tokens a second on one CPU, of the ``tokenizer.json`` at ``path``; or why that is not known. Each of the
    interpreters is tried until one has the library."""
    text = sample().encode()
    for python in pythons:
        try:
            done = subprocess.run(
                [python, "-c", CODE, path],
                input=text,
                capture_output=True,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it took longer than {LIMIT_S:.0f} s"
        except (OSError, ValueError):
            continue
        if done.returncode == NO_LIBRARY:
            continue
        said = done.stdout.split()
        if done.returncode or len(said) != 2:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            return f"its tokenizer.json cannot be read ({lines[-1][:80] if lines else f'status {done.returncode}'})"
        return int(said[0]) / float(said[1])
    return "neither the vLLM here nor qtop's Python has the package tokenizers; name a vLLM with --vllm"
