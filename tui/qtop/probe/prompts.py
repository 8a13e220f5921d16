"""The built-in test prompts, and the tag that keeps a prefix cache from answering them."""

from __future__ import annotations

import secrets

ENGLISH = "Explain to a curious neighbour, in a few plain sentences, why bread dough rises before it is baked."
"""99 characters."""

CHINESE = "用日常的话向没学过物理的人讲讲什么是量子纠缠，再打个比方。"
"""29 characters."""

PROMPTS = {"en": ENGLISH, "zh": CHINESE}


def tagged(prompt: str) -> str:
    """The prompt behind a line of random hex.

    Prefix caches match from the first token on, so a tag at the front makes every request a miss; without it the second
    request's TTFT shows the cache and not the prefill.
    """
    return f"[{secrets.token_hex(8)}]\n{prompt}"
